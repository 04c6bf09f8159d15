//! `agentbus queues peek`: shows what a queue holds, and leaves it there.

use std::time::Duration;

use agentbus::{
    Client,
    broker::{Deliveries, Delivery, QueueError},
};
use clap::Args;
use tokio::time::{Instant, sleep, timeout};

use crate::{contract::Contract, exit::Exit, message::Shown, output::note, session::Session};

/// How long to wait for a message that was there a moment ago.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a work queue hands a message out before it gives up on it.
const FUSE: u32 = 100;

/// The same of a dead-letter queue, which is made to be looked at.
const FUSE_OF_DEAD_LETTERS: u32 = 1_000_000;

const NOTES: &str = "\
To look at a message is to take it and give it back. Meanwhile agents do not get it, and then it counts
as delivered once more: a work queue gives up on a message that came back 100 times. So this begins
with the first message alone, and stops there if that has come back 80 times; dead-letter queues bear
a million looks.";

/// Shows the first messages of a queue, which stay where they are.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct Peek {
    /// Name of the queue, as it is on the broker.
    queue: String,
    /// How many messages to show.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Shows what travels beside the body as well; JSON has it in any case.
    #[arg(long)]
    headers: bool,
}

/// Peeks.
pub(crate) async fn run(args: Peek, session: &Session) -> anyhow::Result<Exit> {
    let contract = session.contract().await?;
    let client = session.observer().await?;
    let looked = session.stop.or(look(&client, &args, &contract)).await??;
    // Given back before anything is written: a reader who is slow must not hold on to messages.
    client.close().await;
    let output = session.output();
    for shown in &looked.shown {
        output.result(shown, || shown.to_text(args.headers))?;
    }
    let queue = &args.queue;
    if let Some(returns) = looked.worn {
        note(format_args!(
            "the first message of `{queue}` came back {returns} times already, and at {} the queue \
             gives up on it: looked at no more",
            fuse(queue)
        ));
        return Ok(Exit::Failed);
    }
    if looked.taken_by_others > 0 {
        note(format_args!("{} more were taken by others meanwhile", looked.taken_by_others));
    }
    Ok(Exit::Ok)
}

#[derive(Default)]
struct Looked {
    shown: Vec<Shown>,
    /// How often the first message has come back, where that is too often.
    worn: Option<u32>,
    taken_by_others: u64,
}

async fn look(client: &Client, args: &Peek, contract: &Contract) -> Result<Looked, QueueError> {
    let queue = &args.queue;
    let mut looked = Looked::default();
    let ready = client.broker().stats(queue).await?.ready.min(args.limit.into());
    if ready == 0 {
        return Ok(looked);
    }
    // Held until all consumers are gone: what is given back before comes to them again.
    let mut held = Vec::new();
    let mut first = client.broker().consume(queue, 1).await?;
    take(&mut first, 1, &mut held).await;
    let returns = held.first().and_then(Delivery::returns).unwrap_or_default();
    looked.worn = (returns >= fuse(queue) / 10 * 8).then_some(returns);
    let more = u16::try_from(ready - 1).unwrap_or(u16::MAX);
    if looked.worn.is_none() && more > 0 && !held.is_empty() {
        let mut others = client.broker().consume(queue, more).await?;
        take(&mut others, more.into(), &mut held).await;
        end(others, &mut held).await;
    }
    end(first, &mut held).await;
    looked.shown = held.iter().map(|it| Shown::new(it.envelope(), contract)).collect();
    if looked.worn.is_none() {
        looked.taken_by_others = ready.saturating_sub(held.len() as u64);
    }
    give_back(client, queue, held).await?;
    Ok(looked)
}

/// Gives messages back in their order: the first, which was taken on a channel of its own, and the
/// others once the queue has it again.
async fn give_back(client: &Client, queue: &str, held: Vec<Delivery>) -> Result<(), QueueError> {
    let mut held = held.into_iter();
    let Some(first) = held.next() else { return Ok(()) };
    if held.len() == 0 {
        return Ok(());
    }
    let ready = client.broker().stats(queue).await?.ready;
    first.release();
    let until = Instant::now() + PATIENCE;
    // An agent may have taken it meanwhile, so not for ever.
    while Instant::now() < until && client.broker().stats(queue).await?.ready <= ready {
        sleep(Duration::from_millis(20)).await;
    }
    held.for_each(Delivery::release);
    Ok(())
}

/// Takes `count` messages, or as many as come.
async fn take(deliveries: &mut Deliveries, count: usize, held: &mut Vec<Delivery>) {
    for _ in 0..count {
        match timeout(PATIENCE, deliveries.next()).await {
            Ok(Some(delivery)) => held.push(delivery),
            _ => return,
        }
    }
}

/// Cancels a consumer, and holds what it was sent before that.
async fn end(mut deliveries: Deliveries, held: &mut Vec<Delivery>) {
    deliveries.cancel();
    while let Some(delivery) = deliveries.next().await {
        held.push(delivery);
    }
}

fn fuse(queue: &str) -> u32 {
    if queue.rsplit('.').next() == Some("dlq") { FUSE_OF_DEAD_LETTERS } else { FUSE }
}
