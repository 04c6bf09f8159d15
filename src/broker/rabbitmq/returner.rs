//! Brings back what was undeliverable, once its queue is there.
//!
//! While a broker starts, its queues already hand on what is due before the bindings are back, so
//! that a delayed message may end in the queue `undeliverable` although its own queue exists. The
//! same happens to a retry whose queue is deleted and declared again.
//!
//! What concerns others goes to the end of the queue by a confirmed publish: releasing it would
//! count as a return, and newer brokers drop what came back 20 times.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future::join_all;
use lapin::{
    BasicProperties, Channel,
    message::BasicGetMessage,
    options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use tokio::time::sleep;

use super::{
    Core,
    confirms::Fate,
    delay,
    fault::{Answers, Fault},
    properties,
    publisher::{Outgoing, Publisher},
    topology::Topology,
};
use crate::broker::{Destination, PublishError};

/// How long after a declaration, and then after each other, the queue is swept: messages may
/// arrive there a little after the bindings are back.
const WAITS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(25)];

/// How many messages are looked at in one sweep; the next one goes on with the rest, a second later.
const MOST: usize = 10_000;

/// How many messages are held at a time.
const BATCH: usize = 16;

/// The task that sweeps, one of each bus.
pub(super) struct Returner {
    core: Weak<Core>,
    publisher: Weak<Publisher>,
    topology: Arc<Topology>,
}

/// What a sweep came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Swept {
    /// Messages that are back where they belong.
    returned: u64,
    /// Messages whose queue is here, but did not take them.
    refused: u64,
    /// Messages that were there.
    found: usize,
    /// Messages that were looked at.
    seen: usize,
}

/// When to sweep, after a queue was declared.
#[derive(Debug, Default)]
struct Rounds {
    made: usize,
    /// The last one left something to do.
    again: bool,
    /// How many messages of those the first one found none has looked at yet.
    unseen: Option<usize>,
}

impl Rounds {
    /// Returns how long to wait for the next one; `None` once everything is where it can be.
    fn next(&mut self) -> Option<Duration> {
        let planned = WAITS.get(self.made).copied();
        self.made += 1;
        let again = std::mem::take(&mut self.again);
        let [first, .., last] = WAITS;
        planned
            .or_else(|| self.unseen.is_some_and(|unseen| unseen > 0).then_some(first))
            .or_else(|| again.then_some(last))
    }

    fn swept(&mut self, swept: Swept) {
        self.again = swept.refused > 0;
        self.unseen = Some(self.unseen.unwrap_or(swept.found).saturating_sub(swept.seen));
        if swept.seen == 0 {
            // They went otherwise.
            self.unseen = Some(0);
        }
    }

    fn failed(&mut self) {
        self.again = true;
    }
}

/// What became of one message; the fault ends the sweep.
enum Outcome {
    Returned,
    Refused,
    NotOurs,
}

impl Returner {
    /// Starts the task; it ends with the bus.
    pub(super) fn start(core: &Arc<Core>, publisher: &Arc<Publisher>) {
        let this = Self {
            core: Arc::downgrade(core),
            publisher: Arc::downgrade(publisher),
            topology: core.topology.clone(),
        };
        let closing = core.closing.clone();
        // Dropped anywhere, it leaves its messages unsettled, and so in the queue.
        tokio::spawn(async move { closing.run_until_cancelled(this.run()).await });
    }

    async fn run(self) {
        loop {
            self.topology.declared().await;
            let mut rounds = Rounds::default();
            while let Some(wait) = rounds.next() {
                // Replicas that were cut off together come one after another.
                sleep(wait.mul_f64(1.0 + fastrand::f64() / 4.0)).await;
                let (Some(core), Some(publisher)) = (self.core.upgrade(), self.publisher.upgrade())
                else {
                    return;
                };
                match sweep(&core, &publisher).await {
                    Ok(swept) => {
                        let Swept { returned, refused, .. } = swept;
                        if returned > 0 {
                            tracing::info!(
                                returned,
                                refused,
                                "brought back undeliverable messages"
                            );
                        }
                        rounds.swept(swept);
                    }
                    Err(fault) => match fault.code() {
                        Some(403) => {
                            let error = fault.to_string();
                            tracing::warn!(error, "may not bring back undeliverable messages");
                            return;
                        }
                        // Where nothing is declared, the queue may be missing.
                        Some(404) => {}
                        _ => {
                            let error = fault.to_string();
                            tracing::warn!(error, "cannot bring back undeliverable messages");
                            rounds.failed();
                        }
                    },
                }
            }
        }
    }
}

/// Brings back what is in the queue now and concerns what is declared here.
async fn sweep(core: &Core, publisher: &Publisher) -> Result<Swept, Fault> {
    let mut swept = Swept::default();
    if !core.topology.can_delay() {
        return Ok(swept);
    }
    let (answers, limit) = (core.consume.answers(), core.options.operation_timeout);
    let session = core.consume.session_within(limit).await?;
    let errand = core.errands.begin(&session).await?;
    let channel = errand.channel();
    let queue = core.topology.delays.undeliverable();
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(queue.clone(), passive, FieldTable::default());
    swept.found = answers.within(found).await?.message_count() as usize;
    // Where something fails, the channel ends: what was not settled is in the queue again.
    while swept.seen < swept.found.min(MOST) {
        let most = BATCH.min(swept.found.min(MOST) - swept.seen);
        let batch = take(channel, &queue, most, answers).await?;
        if batch.is_empty() {
            break;
        }
        swept.seen += batch.len();
        let outcomes = batch.into_iter().map(|message| bring(core, publisher, channel, message));
        for outcome in join_all(outcomes).await {
            match outcome? {
                Outcome::Returned => swept.returned += 1,
                Outcome::Refused => swept.refused += 1,
                Outcome::NotOurs => {}
            }
        }
    }
    errand.done().await;
    Ok(swept)
}

/// Takes up to `most` messages.
async fn take(
    channel: &Channel,
    queue: &ShortString,
    most: usize,
    answers: &Answers,
) -> Result<Vec<BasicGetMessage>, Fault> {
    let mut batch = Vec::new();
    for _ in 0..most {
        let got = channel.basic_get(queue.clone(), BasicGetOptions::default());
        match answers.within(got).await? {
            Some(message) => batch.push(message),
            None => break,
        }
    }
    Ok(batch)
}

/// Brings a message to where it belongs, or to the end of the queue, and settles it.
async fn bring(
    core: &Core,
    publisher: &Publisher,
    channel: &Channel,
    message: BasicGetMessage,
) -> Result<Outcome, Fault> {
    let received = message.delivery;
    let outcome = match delay::address(received.routing_key.as_str()) {
        Some(address) if core.topology.queues.is_home_of(address) => {
            let envelope = properties::read(None, &received.properties, received.data.clone());
            let id = envelope.metadata.message_id.clone();
            let sent = match address.split_at(2) {
                ("q.", queue) => core.publish(publisher, Destination::Queue(queue), envelope).await,
                (_, topic) => {
                    let topic = topic.into();
                    core.publish(publisher, Destination::Topic(&topic), envelope).await
                }
            };
            match sent {
                Ok(()) => {
                    tracing::debug!(?id, address, "brought back an undeliverable message");
                    Outcome::Returned
                }
                Err(PublishError::Refused { .. }) => Outcome::Refused,
                Err(PublishError::Unconfirmed { reason, .. }) => {
                    return Err(Fault::Disconnected(reason));
                }
                Err(PublishError::Closed { .. }) => return Err(Fault::Closed),
                // Its queue has gone again, or it cannot be sent as it is.
                Err(error) => {
                    tracing::debug!(%error, "a message stays undeliverable");
                    Outcome::NotOurs
                }
            }
        }
        _ => Outcome::NotOurs,
    };
    if !matches!(outcome, Outcome::Returned) {
        let back = Outgoing {
            exchange: core.topology.delays.undeliverable(),
            routing_key: received.routing_key.clone(),
            mandatory: true,
            properties: as_sent(received.properties),
            payload: received.data.into(),
        };
        match publisher.publish(back).await? {
            Fate::Taken => {}
            Fate::Returned | Fate::Refused => {
                let reason = "the broker did not take back an undeliverable message";
                return Err(Fault::Disconnected(reason.to_owned()));
            }
        }
    }
    let acked = channel.basic_ack(received.delivery_tag, BasicAckOptions::default());
    core.consume.answers().within(acked).await?;
    Ok(outcome)
}

/// What the broker notes in the headers of a message.
const NOTES: [&str; 4] = ["x-death", "x-first-death-", "x-last-death-", "x-delivery-count"];

/// Leaves out what the broker noted, and who sent it: the broker lets nobody but that user say so.
fn as_sent(received: BasicProperties) -> BasicProperties {
    let mut sent = BasicProperties::default();
    macro_rules! keep {
        ($($field:ident => $with:ident),*) => {
            $(if let Some(value) = received.$field() { sent = sent.$with(value.clone()); })*
        };
    }
    keep!(
        content_type => with_content_type, content_encoding => with_content_encoding,
        delivery_mode => with_delivery_mode, priority => with_priority,
        correlation_id => with_correlation_id, reply_to => with_reply_to,
        expiration => with_expiration, message_id => with_message_id,
        timestamp => with_timestamp, kind => with_type, app_id => with_app_id
    );
    if let Some(headers) = received.headers() {
        let mut kept = FieldTable::default();
        for (name, value) in headers {
            if !NOTES.iter().any(|note| name.as_str().starts_with(note)) {
                kept.insert(name.clone(), value.clone());
            }
        }
        sent = sent.with_headers(kept);
    }
    sent
}

#[cfg(test)]
mod tests {
    use lapin::types::AMQPValue;

    use super::*;

    #[test]
    fn sweeps_go_on_until_every_message_was_looked_at() {
        let mut rounds = Rounds::default();
        let mut waits = Vec::new();
        let mut left = 4 * MOST + 1;
        while let Some(wait) = rounds.next() {
            waits.push(wait.as_secs());
            let seen = left.min(MOST);
            rounds.swept(Swept { returned: seen as u64, refused: 0, found: left, seen });
            left -= seen;
        }
        assert_eq!((left, waits), (0, vec![1, 4, 25, 1, 1]));
    }

    #[test]
    fn what_belongs_to_others_is_looked_at_once() {
        let mut rounds = Rounds::default();
        let mut count = 0;
        while rounds.next().is_some() {
            count += 1;
            rounds.swept(Swept { found: 5 * MOST, seen: MOST, ..Swept::default() });
        }
        assert_eq!(count, 5);
    }

    #[test]
    fn what_was_refused_is_tried_again_and_so_is_what_failed() {
        let mut rounds = Rounds::default();
        for _ in 0..5 {
            assert!(rounds.next().is_some());
            rounds.swept(Swept { refused: 1, found: 1, seen: 1, ..Swept::default() });
            assert!(rounds.next().is_some());
            rounds.failed();
        }
        assert_eq!(rounds.next(), Some(WAITS[2]));
        rounds.swept(Swept::default());
        assert_eq!(rounds.next(), None);
    }

    #[test]
    fn what_goes_back_is_as_it_was_sent() {
        let mut headers = FieldTable::default();
        headers.insert("agentbus-topic".into(), AMQPValue::LongString("a".into()));
        let sent = BasicProperties::default()
            .with_message_id("id".into())
            .with_reply_to("r".into())
            .with_type("t".into())
            .with_priority(3);
        let mut counted = headers.clone();
        for note in ["x-delivery-count", "x-death", "x-last-death-reason"] {
            counted.insert(note.into(), AMQPValue::LongLongInt(7));
        }
        let received = sent.clone().with_headers(counted).with_user_id("somebody".into());
        assert_eq!(as_sent(received), sent.with_headers(headers));
    }
}
