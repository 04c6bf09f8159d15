//! `agentbus agents --watch`: who starts and who stops.

use agentbus::{
    Envelope, Pattern, Subscription,
    client::{AGENT_STARTED, AGENT_STOPPED, AgentCard},
    proto::v1::{AgentStarted, AgentStopped, StopReason},
};
use serde_json::json;

use super::shown::Shown;
use crate::{
    exit::Exit,
    output::{Output, note, printable},
    session::Session,
    time,
};

/// Tells until Ctrl-C.
pub(super) async fn run(agent: Option<&Pattern>, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client().await?;
    let both = Subscription::<Envelope>::pattern(AGENT_STARTED.name())?;
    let both = both.and(AGENT_STOPPED.name())?;
    let mut events = session.stop.or(client.subscribe(both)).await??;
    let output = session.output();
    note("watching who starts and stops; who is killed does not say so");
    let ended = loop {
        let received = tokio::select! {
            biased;
            () = session.stop.requested() => break Ok(Exit::Ok),
            received = events.next() => received,
        };
        let Some(received) = received else {
            break Err(anyhow::anyhow!("the connection was closed"));
        };
        let told = Told::read(&received.ack());
        let Some(told) = told else { continue };
        if agent.is_none_or(|pattern| pattern.matches(&told.card.name))
            && let Err(error) = told.write(&output)
        {
            break Err(error);
        }
    };
    // Also after an error: the queue must not go on taking messages for a minute.
    let queue = events.queue().clone();
    drop(events);
    if let Err(error) = client.broker().delete(&queue).await {
        tracing::debug!(%error, %queue, "a queue stays for a minute");
    }
    client.close().await;
    ended
}

/// One start or stop.
struct Told {
    card: AgentCard,
    /// None for a start.
    reason: Option<&'static str>,
    at: String,
}

impl Told {
    /// Reads an event; what is none is passed over.
    fn read(event: &Envelope) -> Option<Self> {
        let at = event.metadata.timestamp.map(time::shown).unwrap_or_default();
        if let Ok(started) = event.decode::<AgentStarted>() {
            return Some(Self { card: started.agent?.into(), reason: None, at });
        }
        let stopped = event.decode::<AgentStopped>().ok()?;
        let reason = match stopped.reason() {
            StopReason::Requested => "its program wanted it to",
            StopReason::Signal => "a signal",
            StopReason::Dropped => "its program let go of it",
            StopReason::Unspecified => "no reason given",
        };
        Some(Self { card: stopped.agent?.into(), reason: Some(reason), at })
    }

    fn write(&self, output: &Output) -> anyhow::Result<()> {
        let event = if self.reason.is_some() { "stopped" } else { "started" };
        if output.is_json() {
            let mut value =
                json!({ "event": event, "at": self.at, "agent": Shown::new(&self.card) });
            if let Some(reason) = self.reason {
                value["reason"] = json!(reason);
            }
            return output.json(&value);
        }
        let AgentCard { name, instance, version, host, pid, .. } = &self.card;
        let version = version.as_deref().map(|it| format!(" {it}")).unwrap_or_default();
        let reason = self.reason.map(|it| format!(": {it}")).unwrap_or_default();
        let host = host.as_deref().unwrap_or("-");
        output.text(printable(&format!(
            "{}  {event}  {name}{version} {instance} ({host}:{pid}){reason}",
            self.at
        )))
    }
}
