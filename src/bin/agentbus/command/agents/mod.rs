//! `agentbus agents`: who is there, who answers what, and whether they speak the same contract.

mod differences;
mod shown;
mod watch;

use std::{collections::BTreeMap, time::Duration};

use agentbus::{
    Pattern,
    client::{AgentCard, Discovery, RouteKind},
    message::Timestamp,
};
use clap::Args;

use self::shown::Shown;
use crate::{
    exit::Exit,
    output::{Output, note, printable},
    session::Session,
    time,
};

const NOTES: &str = "\
Examples:
  agentbus agents
  agentbus agents 'market.*' --wait 3s --json
  agentbus agents --watch

Agents answer for themselves: one that is killed is missing at once, and so is one that has `discovery`
off or does not use agentbus. Nobody knows how many there are, so the whole `--wait` is waited for.

Says on standard error which replicas of an agent, and which agents that share a topic or a message,
were built with contracts that differ; `--strict` ends with 1 then. Ends with 1, too, where nobody
answers.";

/// Lists the agents that are there, and who answers what.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct Agents {
    /// A name, or a pattern such as `market.*`; without it, all agents.
    #[arg(value_name = "PATTERN", value_parser = pattern)]
    agent: Option<Pattern>,
    /// How long to wait for answers.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time::timeout)]
    wait: Duration,
    /// Ends with 1 where contracts differ.
    #[arg(long, conflicts_with = "watch")]
    strict: bool,
    /// Tells who starts and who stops, until Ctrl-C.
    #[arg(long, conflicts_with = "wait")]
    watch: bool,
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::parse(text.to_owned()).map_err(|error| error.to_string())
}

/// Lists, or watches.
pub(crate) async fn run(args: Agents, session: &Session) -> anyhow::Result<Exit> {
    if args.watch {
        return watch::run(args.agent.as_ref(), session).await;
    }
    let client = session.observer().await?;
    let mut discovery = Discovery::default().within(args.wait).with_contracts();
    if let Some(agent) = args.agent {
        discovery = discovery.agent(agent);
    }
    let found = session.stop.or(client.discover(discovery)).await??;
    let cards = session.stop.or(found.all()).await?;
    client.close().await;
    if cards.is_empty() {
        note("no agent has answered; `--wait` gives them longer");
        return Ok(Exit::Failed);
    }
    let output = session.output();
    if output.is_json() {
        for card in &cards {
            output.json(&Shown::new(card))?;
        }
    } else {
        list(&cards, &output)?;
        output.text("")?;
        topics(&cards, &output)?;
    }
    let differences = differences::of(&cards);
    for difference in &differences {
        note(printable(difference));
    }
    Ok(if args.strict && !differences.is_empty() { Exit::Failed } else { Exit::Ok })
}

/// Writes a row an instance.
fn list(cards: &[AgentCard], output: &Output) -> anyhow::Result<()> {
    let headings = [
        "AGENT",
        "INSTANCE",
        "VERSION",
        "CONTRACT",
        "UP",
        "IN FLIGHT",
        "HANDLED",
        "RETRIED",
        "DEAD",
        "HEALTH",
        "PROCESS",
    ];
    let rows = cards.iter().map(|card| {
        let load = &card.load;
        let contracts: Vec<_> = card.contracts.iter().map(|it| short(&it.hash)).collect();
        [
            card.name.to_string(),
            card.instance.to_string(),
            card.version.as_deref().unwrap_or("-").to_owned(),
            if contracts.is_empty() { "-".to_owned() } else { contracts.join(" ") },
            up(card.started_at),
            load.in_flight.to_string(),
            load.handled.to_string(),
            load.retried.to_string(),
            load.dead_lettered.to_string(),
            card.trouble.as_deref().unwrap_or("ok").to_owned(),
            format!("{}:{}", card.host.as_deref().unwrap_or("-"), card.pid),
        ]
    });
    output.table(headings, rows)
}

/// Writes a row a topic, with all agents that listen to it.
fn topics(cards: &[AgentCard], output: &Output) -> anyhow::Result<()> {
    let mut topics: BTreeMap<[String; 4], Vec<&str>> = BTreeMap::new();
    for card in cards {
        for route in &card.routes {
            let kind = match route.kind {
                RouteKind::Rpc => "answers",
                RouteKind::Topic | RouteKind::Pattern if route.each_replica => "each gets",
                RouteKind::Topic | RouteKind::Pattern => "one gets",
                RouteKind::FollowUp => "goes on after",
                _ => "routes",
            };
            let name = |it: &Option<agentbus::Name>| it.as_deref().unwrap_or("-").to_owned();
            let key = [
                route.topic.to_string(),
                kind.to_owned(),
                name(&route.request_type),
                name(&route.reply_type),
            ];
            let agents = topics.entry(key).or_default();
            if !agents.contains(&&*card.name) {
                agents.push(&card.name);
            }
        }
        if card.routes_omitted > 0 {
            note(format_args!(
                "{} routes of `{}` are not shown",
                card.routes_omitted,
                printable(&card.name)
            ));
        }
    }
    let rows = topics.into_iter().map(|([topic, kind, request, reply], agents)| {
        [topic, kind, request, reply, agents.join(" ")]
    });
    output.table(["TOPIC", "HOW", "TAKES", "REPLY", "AGENTS"], rows)
}

/// What tells a contract from another at a glance.
fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

/// How long ago something was, in its two largest units.
fn up(since: Timestamp) -> String {
    let now = Timestamp::now().as_millis();
    let seconds = now.saturating_sub(since.as_millis()) / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        (_, _, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_two_largest_units() {
        let before =
            |seconds: u64| Timestamp::from_millis(Timestamp::now().as_millis() - seconds * 1000);
        assert_eq!(up(before(3600 + 120)), "1h 2m");
        assert_eq!(up(before(2 * 86_400 + 5 * 3600)), "2d 5h");
        assert_eq!(up(Timestamp::from_millis(u64::MAX)), "0s");
    }
}
