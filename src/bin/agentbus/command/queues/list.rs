//! `agentbus queues list`: which queues there are, and what they hold.

use agentbus::{Client, Config, broker::QueueError};
use clap::Args;
use serde::Serialize;

use crate::{
    agent_queues::lane_queues,
    exit::{Exit, Usage},
    management::{Management, Queue, UNSET},
    session::Session,
};

const NOTES: &str = "\
RabbitMQ lists queues by its management API only; where `AGENTBUS_MANAGEMENT_URL` names it, all queues
of the virtual host are listed that begin with the configured prefix, but for those that delays go
through. Without it, name queues or agents. Ends with 1 where one of those does not exist.";

/// Shows how many messages queues hold, and who consumes from them.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct List {
    /// Names of queues, as they are on the broker.
    queues: Vec<String>,
    /// An agent, of which the queue, its lanes where it has them, and the dead letters are shown; may
    /// be given several times.
    #[arg(long = "agent", value_name = "NAME")]
    agents: Vec<String>,
}

/// What is known of a queue.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    queue: String,
    exists: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unsettled: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumers: Option<u32>,
}

/// Lists.
pub(crate) async fn run(args: List, session: &Session) -> anyhow::Result<Exit> {
    let config = session.config()?;
    let named = named(&args, &config);
    let rows = match Management::of(&config) {
        Some(management) => {
            let known = session.stop.or(management.queues()).await??;
            if named.is_empty() {
                all(known, &config)
            } else {
                let mut rows = picked(&known, named);
                let exists = |lane: &String| known.iter().any(|queue| queue.name == *lane);
                let lanes: Vec<_> = lanes(&args, &config).filter(exists).collect();
                rows.extend(picked(&known, lanes));
                rows
            }
        }
        None if named.is_empty() => {
            let text = format!(
                "cannot be checked: RabbitMQ lists queues by its management API \
                                only; {UNSET}, or name queues, or agents by `--agent`"
            );
            return Err(Usage(text).into());
        }
        None => {
            let client = session.observer().await?;
            let mut rows = Vec::new();
            for queue in named {
                rows.push(session.stop.or(counted(&client, queue)).await??);
            }
            for lane in lanes(&args, &config) {
                let row = session.stop.or(counted(&client, lane)).await??;
                if row.exists {
                    rows.push(row);
                }
            }
            client.close().await;
            rows
        }
    };
    let exit = if rows.iter().all(|row| row.exists) { Exit::Ok } else { Exit::Failed };
    let output = session.output();
    if output.is_json() {
        for row in &rows {
            output.json(row)?;
        }
    } else {
        output.table(["QUEUE", "READY", "UNSETTLED", "CONSUMERS"], rows.into_iter().map(cells))?;
    }
    Ok(exit)
}

fn named(args: &List, config: &Config) -> Vec<String> {
    let prefix = &config.queue_prefix;
    let of = |agent: &String| [format!("{prefix}{agent}"), format!("{prefix}{agent}.dlq")];
    args.agents.iter().flat_map(of).chain(args.queues.iter().cloned()).collect()
}

/// The queues that agents have where theirs have lanes.
fn lanes<'a>(args: &'a List, config: &'a Config) -> impl Iterator<Item = String> + 'a {
    let queue = |agent: &String| format!("{}{agent}", config.queue_prefix);
    args.agents.iter().flat_map(move |agent| lane_queues(&queue(agent)))
}

fn all(mut known: Vec<Queue>, config: &Config) -> Vec<Row> {
    let delays = format!("{}.delay.v1.", config.exchange);
    let level = |name: &str| {
        let rest = name.strip_prefix(&delays);
        rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    known.retain(|queue| {
        let ours = queue.name.starts_with(&config.queue_prefix) || queue.name.starts_with(&delays);
        ours && !level(&queue.name)
    });
    known.sort_by(|one, other| one.name.cmp(&other.name));
    known.iter().map(Row::of).collect()
}

fn picked(known: &[Queue], named: Vec<String>) -> Vec<Row> {
    let row = |name: String| match known.iter().find(|queue| queue.name == name) {
        Some(queue) => Row::of(queue),
        None => Row::missing(name),
    };
    named.into_iter().map(row).collect()
}

async fn counted(client: &Client, queue: String) -> Result<Row, QueueError> {
    match client.broker().stats(&queue).await {
        Ok(stats) => Ok(Row {
            queue,
            exists: true,
            ready: Some(stats.ready),
            unsettled: stats.unsettled,
            consumers: Some(stats.consumers),
        }),
        Err(QueueError::NotFound { .. }) => Ok(Row::missing(queue)),
        Err(error) => Err(error),
    }
}

impl Row {
    fn of(queue: &Queue) -> Self {
        Self {
            queue: queue.name.clone(),
            exists: true,
            ready: queue.messages_ready,
            unsettled: queue.messages_unacknowledged,
            consumers: queue.consumers,
        }
    }

    fn missing(queue: String) -> Self {
        Self { queue, exists: false, ready: None, unsettled: None, consumers: None }
    }
}

fn cells(row: Row) -> [String; 4] {
    let number = |it: Option<u64>| it.map_or_else(|| "?".to_owned(), |it| it.to_string());
    if !row.exists {
        return [row.queue, "does not exist".to_owned(), String::new(), String::new()];
    }
    [row.queue, number(row.ready), number(row.unsettled), number(row.consumers.map(u64::from))]
}
