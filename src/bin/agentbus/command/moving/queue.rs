//! Moves the messages of one queue.

use std::{num::NonZeroU32, time::Duration};

use agentbus::{
    Client, PublishError,
    broker::{Delivery, Destination, QueueError},
};
use futures::{FutureExt as _, StreamExt as _, stream::FuturesOrdered};
use tokio::{
    select,
    time::{Instant, sleep, sleep_until},
};

use super::places::Place;
use crate::{progress::Progress, stop::Stop};

/// How long nothing may come before the queue is looked at: it may be empty.
const QUIET: Duration = Duration::from_millis(300);

/// How long the old bus may take to have back what it was given.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a count must stay the same to be the last.
const SETTLED: Duration = Duration::from_millis(150);

/// How messages are moved.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) window: u16,
    pub(super) rate: Option<NonZeroU32>,
    pub(super) follow: bool,
}

/// What became of a queue.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) sent: u64,
    pub(super) kept: u64,
    pub(super) left: u64,
    pub(super) error: Option<String>,
}

/// A message on its way, and what became of its copy.
type Sent = (Delivery, Result<(), PublishError>);

/// Moves what is in a queue, until it is empty, something fails or the user has had enough; what is on
/// its way then is waited for.
pub(super) async fn move_queue(
    from: &Client,
    to: &Client,
    place: &Place,
    pace: &Pace,
    stop: &Stop,
) -> Moved {
    let mut moved = Moved::default();
    let mut given_back = 0;
    if let Err(error) = all(from, to, place, pace, stop, &mut moved, &mut given_back).await {
        moved.error = Some(format!("{error:#}"));
    }
    match left(from, &place.queue, given_back).await {
        Ok(left) => moved.left = left,
        Err(error) => {
            moved.error.get_or_insert_with(|| error.to_string());
        }
    }
    moved
}

/// Counts what is in a queue once it has back what it was given, and what was sent but not read.
async fn left(from: &Client, queue: &str, given_back: u64) -> Result<u64, QueueError> {
    let until = Instant::now() + PATIENCE;
    let mut before = None;
    loop {
        let ready = from.broker().stats(queue).await?.ready;
        // Somebody else may have taken it again, so not for ever.
        let is_settled = ready >= given_back && before == Some(ready);
        if is_settled || Instant::now() >= until {
            return Ok(ready);
        }
        before = Some(ready);
        sleep(SETTLED).await;
    }
}

async fn all(
    from: &Client,
    to: &Client,
    place: &Place,
    pace: &Pace,
    stop: &Stop,
    moved: &mut Moved,
    given_back: &mut u64,
) -> anyhow::Result<()> {
    let queue = place.queue.as_str();
    if stop.is_requested() {
        return Ok(());
    }
    let progress = Progress::new("moving", (!pace.follow).then_some(place.ready));
    let mut deliveries = from.broker().consume(queue, pace.window).await?;
    // In the order of the queue, which the new one is to have, too.
    let mut sending = FuturesOrdered::new();
    // Held to the end: given back, they would come again at once.
    let mut kept: Vec<Delivery> = Vec::new();
    let mut failed: Option<anyhow::Error> = None;
    let mut next_at = Instant::now();
    // More would wait for room in the client's window, where they may overtake each other.
    let window = usize::from(pace.window.min(to.config().confirm_window));
    loop {
        let taking = failed.is_none() && !stop.is_requested();
        if !taking && sending.is_empty() {
            break;
        }
        let idle = taking && sending.is_empty();
        select! {
            biased;
            Some(sent) = sending.next(), if !sending.is_empty() => {
                let (delivery, outcome): Sent = sent;
                match outcome {
                    Ok(()) => {
                        delivery.ack();
                        moved.sent += 1;
                        progress.advance();
                    }
                    Err(PublishError::TooLarge { .. } | PublishError::Invalid { .. })
                        if kept.len() < window / 2 =>
                    {
                        kept.push(delivery);
                    }
                    Err(error) => {
                        delivery.release();
                        *given_back += 1;
                        failed.get_or_insert(error.into());
                    }
                }
            }
            delivery = async {
                sleep_until(next_at).await;
                deliveries.next().await
            }, if taking && sending.len() + kept.len() < window => {
                let Some(delivery) = delivery else {
                    failed = Some(anyhow::anyhow!("the queue is gone from the old bus"));
                    continue;
                };
                if let Some(rate) = pace.rate {
                    next_at = Instant::now() + Duration::from_secs(1) / rate.get();
                }
                sending.push_back(send(to, place, delivery).boxed());
            }
            () = stop.requested(), if taking => {}
            () = sleep(QUIET), if idle && !pace.follow && next_at.elapsed() > Duration::ZERO => {
                if from.broker().stats(queue).await?.ready == 0 {
                    break;
                }
            }
        }
    }
    moved.kept = kept.len() as u64;
    // No more is sent; what came meanwhile is given back.
    deliveries.cancel();
    while let Some(delivery) = deliveries.next().await {
        delivery.release();
        *given_back += 1;
    }
    *given_back += moved.kept;
    kept.into_iter().for_each(Delivery::release);
    match failed {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

async fn send(to: &Client, place: &Place, delivery: Delivery) -> Sent {
    let envelope = delivery.envelope().clone();
    let target = Destination::Queue(place.target(envelope.metadata.priority));
    let sent = to.broker().publish(target, envelope).await;
    (delivery, sent)
}
