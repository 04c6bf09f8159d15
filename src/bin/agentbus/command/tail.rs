//! `agentbus tail`: shows a copy of what passes.

use std::time::Duration;

use agentbus::{
    Client, Id, Name, Pattern,
    broker::{Deliveries, QueueRole, QueueSpec},
};
use clap::Args;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    contract::Contract,
    exit::{Exit, Usage},
    message::Shown,
    output::{Output, note},
    session::Session,
};

/// How many messages are on their way to us at a time.
const PREFETCH: u16 = 256;

/// How many bytes wait to be shown at most, beside those on their way.
const MAX_BYTES: u64 = 64 << 20;

/// How many dropped messages are kept between two counts.
const COUNTED: u64 = 100_000;

/// How often dropped messages are counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// How long the queues outlive a tail that is killed.
const EXPIRY: Duration = Duration::from_mins(1);

const EXAMPLES: &str = "\
Examples:
  agentbus tail '#' --proto market.proto
  agentbus tail 'price.*' 'data.request' --proto market.proto --headers
  agentbus tail 'price.#' --proto market.proto --json --limit 100 > prices.jsonl

`*` stands for one word of a topic, `#` for any number of them. The copy is taken from nobody: it has a
queue of its own, which drops its oldest messages rather than make a publisher wait. How many it
dropped is said on standard error. What is sent to one queue is not seen: replies, retries, replays.

While it watches, messages have one queue more: a publisher whom nobody else listens to is told that
its message was taken, not that it is unroutable.";

/// Shows a copy of every message that matches a pattern, until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Tail {
    /// Patterns of topics, such as `price.*` or `#`.
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Ends after so many messages.
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Shows what travels beside the body as well; JSON has it in any case.
    #[arg(long)]
    headers: bool,
    /// How many messages wait to be shown before the oldest is dropped.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    buffer: u64,
}

/// Watches.
pub(crate) async fn run(args: Tail, session: &Session) -> anyhow::Result<Exit> {
    let patterns: Result<Vec<_>, _> = args.patterns.iter().cloned().map(Pattern::parse).collect();
    let patterns = patterns.map_err(|error| Usage(error.to_string()))?;
    let contract = session.contract().await?;
    let client = session.client().await?;
    let mut watch = Watch::new(client, patterns, args.buffer);
    let deliveries = session.stop.or(watch.open()).await;
    let shown = match deliveries {
        Ok(Ok(deliveries)) => {
            note(format_args!(
                "watching {}; until this ends, nobody is told `Unroutable` for what it matches",
                args.patterns.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")
            ));
            let printer =
                Printer { output: session.output(), contract, headers: args.headers, count: 0 };
            follow(&mut watch, deliveries, printer, args.limit, session).await
        }
        Ok(Err(error)) => Err(error),
        Err(interrupted) => Err(interrupted.into()),
    };
    // Also after an error: the queue must not go on taking messages for a minute.
    watch.close().await;
    let count = shown?;
    if watch.dropped > 0 {
        note(format_args!("showed {count} messages, dropped at least {}", watch.dropped));
    }
    Ok(Exit::Ok)
}

/// Shows messages until the limit or a signal, and returns how many.
async fn follow(
    watch: &mut Watch,
    mut deliveries: Deliveries,
    mut printer: Printer,
    limit: Option<u64>,
    session: &Session,
) -> anyhow::Result<u64> {
    let mut count = interval(COUNT_EVERY);
    count.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while limit.is_none_or(|limit| printer.count < limit) {
        tokio::select! {
            biased;
            () = session.stop.requested() => break,
            _ = count.tick() => watch.count_dropped().await,
            delivery = deliveries.next() => if let Some(delivery) = delivery {
                printer.print(delivery.envelope())?;
                delivery.ack();
            } else {
                note("the queue was deleted; what passed meanwhile is not seen");
                deliveries = session.stop.or(watch.open()).await??;
            },
        }
    }
    Ok(printer.count)
}

struct Printer {
    output: Output,
    contract: Contract,
    headers: bool,
    count: u64,
}

impl Printer {
    fn print(&mut self, envelope: &agentbus::Envelope) -> anyhow::Result<()> {
        self.count += 1;
        let shown = Shown::new(envelope, &self.contract);
        self.output.result(&shown, || shown.to_text(self.headers))
    }
}

/// The queue that gets the copies, and the one that gets what it drops.
struct Watch {
    client: Client,
    queue: QueueSpec,
    dropped_to: QueueSpec,
    /// How many messages were dropped, at least.
    dropped: u64,
}

impl Watch {
    fn new(client: Client, patterns: Vec<Pattern>, max_length: u64) -> Self {
        let name = format!("{}tail.{}", client.config().queue_prefix, Id::new());
        let dropped = Name::from(format!("{name}.dropped"));
        let role = |max_length, dropped| QueueRole::Watch {
            max_length,
            max_bytes: MAX_BYTES,
            expires: EXPIRY,
            dropped,
        };
        let dropped_to = QueueSpec::new(dropped.clone(), role(COUNTED, None));
        let mut queue = QueueSpec::new(name, role(max_length, Some(dropped)));
        queue.bindings = patterns;
        Self { client, queue, dropped_to, dropped: 0 }
    }

    /// Declares the queues, again where they were deleted, and consumes.
    async fn open(&self) -> anyhow::Result<Deliveries> {
        let broker = self.client.broker();
        broker.declare(&self.dropped_to).await?;
        broker.declare(&self.queue).await?;
        Ok(broker.consume(&self.queue.name, PREFETCH).await?)
    }

    /// Counts what was dropped since the last time, by removing it.
    async fn count_dropped(&mut self) {
        match self.client.broker().purge(&self.dropped_to.name).await {
            Ok(0) => {}
            Ok(more) => {
                self.dropped += more;
                note(format_args!("dropped {more} messages, the oldest; showing takes too long"));
            }
            // The broker is away for the moment, or somebody has deleted the queue.
            Err(error) => tracing::debug!(%error, "dropped messages cannot be counted"),
        }
    }

    /// Removes the queues. What cannot be removed goes by itself, a minute later.
    async fn close(&mut self) {
        self.count_dropped().await;
        let broker = self.client.broker();
        for queue in [&self.queue.name, &self.dropped_to.name] {
            if let Err(error) = broker.delete(queue).await {
                tracing::debug!(%error, %queue, "a queue stays for a minute");
            }
        }
        self.client.close().await;
    }
}
