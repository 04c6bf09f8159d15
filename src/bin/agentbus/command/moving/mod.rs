//! `agentbus move`: takes queues with all they hold from one bus to another.

mod places;
mod queue;

use std::num::{NonZeroU16, NonZeroU32};

use agentbus::Client;
use clap::Args;
use futures::{StreamExt as _, stream};
use serde::Serialize;

use self::{
    places::{Missing, Places, same_bus},
    queue::{Moved, Pace, move_queue},
};
use crate::{
    cli::Address,
    exit::{Exit, Interrupted, Usage},
    management::{Management, UNSET},
    output::{Output, note},
    session::Session,
};

const NOTES: &str = "\
Start the agents on the new bus first, so that their queues are there, and stop them on the old one: who
consumes there takes what is to be moved. Then

  agentbus move --from amqp://old/vhost --to amqp://new/vhost --agent data --agent query

A message is removed from the old bus once the new one has confirmed it. Interrupted or failed, this ends
with what is on its way, and nothing is lost; run again, it goes on. Killed, or without its connection, it
may leave up to `--window` messages behind whose copies were taken: those come twice, with the same message
ids. Message id, headers, attempts, priority, deadline and failure stay as they were. Dead letters are kept
for their whole time once more.

What is delayed is not in a queue yet. It comes to the old one when it is due: `--follow` waits for it. Who
waits on the old bus for the reply to a request that is moved gets none. Conversations and deduplication
are not on the bus, but in their store.

Exchange and prefix of queues are those of the configuration, on both. Ends with 1 if something stayed.";

/// Takes queues and dead letters from one bus to another, confirmed before removed.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct Move {
    /// The bus that messages are taken from.
    #[arg(long, value_name = "URL")]
    from: Address,
    /// The bus that they are taken to.
    #[arg(long, value_name = "URL")]
    to: Address,
    /// Names of queues, as they are on both.
    queues: Vec<String>,
    /// An agent whose queue, its lanes and its dead letters are moved; may be given several times.
    #[arg(long = "agent", value_name = "NAME")]
    agents: Vec<String>,
    /// Makes an agent's queues on the new bus where they are missing. Patterns are bound when the agent
    /// starts there.
    #[arg(long)]
    create: bool,
    /// Goes on until interrupted.
    #[arg(long, conflicts_with = "dry_run")]
    follow: bool,
    /// Only shows what would be moved.
    #[arg(long)]
    dry_run: bool,
    /// At most so many a second.
    #[arg(long, value_name = "COUNT")]
    rate: Option<NonZeroU32>,
    /// How many messages are on their way at a time.
    #[arg(long, value_name = "COUNT", default_value = "256")]
    window: NonZeroU16,
}

/// What became of a queue.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    queue: String,
    moved: u64,
    /// Would stay where they are, however often they are moved.
    kept: u64,
    /// Ready on the old bus in the end.
    left: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Moves.
pub(crate) async fn run(args: Move, session: &Session) -> anyhow::Result<Exit> {
    let from = session.observer_of(&args.from, "--from").await?;
    let to = session.client_of(&args.to, "--to").await?;
    let moved = moved(&args, session, &from, &to).await;
    // Acks that linger are sent by this.
    from.close().await;
    to.close().await;
    moved
}

async fn moved(args: &Move, session: &Session, from: &Client, to: &Client) -> anyhow::Result<Exit> {
    if session.stop.or(same_bus(from, to)).await?? {
        let text = "`--from` and `--to` lead to the same bus: nothing is to be moved";
        return Err(Usage(text.to_owned()).into());
    }
    let names = named(args, session, from).await?;
    let missing = match (args.dry_run, args.create) {
        (_, false) => Missing::Refuse,
        (true, true) => Missing::Ignore,
        (false, true) => Missing::Create,
    };
    let found = Places::find(from, to, &names, missing);
    let places = session.stop.or(found).await??;
    let output = session.output();
    if args.dry_run {
        return shown(&output, &places);
    }
    for place in &places.found {
        if place.consumers > 0 {
            note(format_args!(
                "`{}` has {} consumers on the old bus, which take some of what is to be moved",
                place.queue, place.consumers
            ));
        }
    }
    let pace = Pace { window: args.window.get(), rate: args.rate, follow: args.follow };
    // With `--follow` all queues are open together; otherwise one after the other, whose progress can
    // be read.
    let at_once = if args.follow { places.found.len().max(1) } else { 1 };
    let work = places.found.iter().map(|place| move_queue(from, to, place, &pace, &session.stop));
    let all: Vec<_> = stream::iter(work).buffered(at_once).collect().await;
    let rows: Vec<_> =
        places.found.iter().map(|place| place.queue.clone()).zip(all).map(row).collect();
    let failed = rows.iter().any(|row| row.error.is_some() || row.kept > 0);
    let left = rows.iter().any(|row| row.left > 0);
    tell(&output, rows)?;
    if session.stop.is_requested() && !args.follow {
        return Err(Interrupted.into());
    }
    Ok(if failed || left || !places.missing.is_empty() { Exit::Failed } else { Exit::Ok })
}

/// Lists the queues that are meant, by name: those of lanes with their agent's.
async fn named(args: &Move, session: &Session, from: &Client) -> anyhow::Result<Vec<String>> {
    let config = from.config();
    let prefix = &config.queue_prefix;
    let of = |agent: &String| [format!("{prefix}{agent}"), format!("{prefix}{agent}.dlq")];
    let mut names: Vec<_> =
        args.agents.iter().flat_map(of).chain(args.queues.iter().cloned()).collect();
    if names.is_empty() {
        let Some(management) = Management::of(config) else {
            let text = format!(
                "name agents by `--agent`, or queues; to find all queues of a RabbitMQ, {UNSET}"
            );
            return Err(Usage(text).into());
        };
        let known = session.stop.or(management.queues()).await??;
        names = agents_queues(known.into_iter().map(|queue| queue.name).collect(), prefix);
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Picks what agents work from, with their dead letters: not what replicas and subscribers have for
/// themselves, nor what delays go through.
fn agents_queues(known: Vec<String>, prefix: &str) -> Vec<String> {
    let ours = known.iter().filter(|name| name.starts_with(prefix));
    let works = ours.filter_map(|name| name.strip_suffix(".dlq"));
    let works = works.filter(|work| known.iter().any(|name| name == work));
    works.flat_map(|work| [work.to_owned(), format!("{work}.dlq")]).collect()
}

fn row((queue, moved): (String, Moved)) -> Row {
    let Moved { sent: moved, kept, left, error } = moved;
    Row { queue, moved, kept, left, error }
}

fn shown(output: &Output, places: &Places) -> anyhow::Result<Exit> {
    if output.is_json() {
        for place in &places.found {
            output.json(&serde_json::json!({ "queue": place.queue, "wouldMove": place.ready }))?;
        }
    } else {
        let cells = |place: &places::Place| [place.queue.clone(), place.ready.to_string()];
        output.table(["QUEUE", "WOULD MOVE"], places.found.iter().map(cells))?;
    }
    Ok(if places.missing.is_empty() { Exit::Ok } else { Exit::Failed })
}

fn tell(output: &Output, rows: Vec<Row>) -> anyhow::Result<()> {
    for row in &rows {
        if output.is_json() {
            output.json(row)?;
        }
        if let Some(error) = &row.error {
            note(format_args!("`{}`: {error}", row.queue));
        }
    }
    if output.is_json() {
        return Ok(());
    }
    let cells =
        |row: Row| [row.queue, row.moved.to_string(), row.kept.to_string(), row.left.to_string()];
    output.table(["QUEUE", "MOVED", "KEPT", "LEFT"], rows.into_iter().map(cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_work_from_is_picked() {
        let known =
            ["a.data", "a.data.dlq", "a.data.urgent", "a.subscriber.7", "b.data", "a.x.dlq"];
        let picked = agents_queues(known.map(str::to_owned).into(), "a.");
        assert_eq!(picked, ["a.data", "a.data.dlq"]);
    }
}
