//! Goes through a dead-letter queue, meeting each letter once, and gives back what it held.
//!
//! A queue hands out what is given back before anything else, so a letter that was met must be
//! held until the last one has come. Only its delivery is held, not its body. A consumer hands out
//! no more than its prefetch, so there is another one for every [`WINDOW`] letters.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::SelectAll};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

use super::{DeadLetter, DeadLetterError};
use crate::{
    broker::{Deliveries, Delivery, Held, QueueError, QueueStats, Stage},
    client::Client,
    contract::Name,
    message::Envelope,
};

/// How many letters a consumer is handed, and so how many bodies are in memory.
const WINDOW: u16 = 500;

/// How long nothing must come until the queue is asked whether there is more.
const QUIET: Duration = Duration::from_millis(200);

/// How long the queue may say that there is more while nothing comes.
const STALLED: Duration = Duration::from_secs(30);

/// How often another round is made because somebody else was holding letters.
const ROUNDS: u32 = 8;

/// How often what arrived in the meantime is read as well.
const EXTENSIONS: u32 = 3;

/// How long letters are held at a stretch: well below RabbitMQ's `consumer_timeout` of 30 min.
const LONGEST_HOLD: Duration = Duration::from_mins(5);

/// How long to wait until the queue has back what was given back.
const RETURNED: Duration = Duration::from_secs(2);

/// A way through the queue.
#[derive(Debug)]
pub(super) struct Walk {
    client: Client,
    queue: Name,
    round: Option<Round>,
    met: HashMap<u128, Met>,
    rounds: u32,
    partial: bool,
    ended: bool,
}

/// What is held at present.
#[derive(Debug)]
struct Round {
    consumers: SelectAll<Deliveries>,
    held: Vec<Held>,
    received: u64,
    /// Some have no message id, so that they are counted twice where the connection is lost.
    anonymous: bool,
    /// How many there were when it began.
    expected: u64,
    extensions: u32,
    /// How often in a row the queue was quiet and had nothing more.
    quiet: u32,
    since: Instant,
    last: Instant,
    /// Somebody else holds letters.
    contended: bool,
}

/// What is known of letters that look the same.
#[derive(Debug, Default)]
struct Met {
    /// How many were reported and are in the queue.
    known: u32,
    /// How many have come in this round.
    come: u32,
    /// It was removed: if it comes again, the queue has not heard of it.
    removed: bool,
}

/// A letter that is met for the first time. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Taken {
    letter: DeadLetter,
    held: Held,
    fingerprint: u128,
}

impl Taken {
    pub(super) fn letter(&self) -> &DeadLetter {
        &self.letter
    }
}

impl Walk {
    pub(super) fn new(client: Client, queue: Name) -> Self {
        Self {
            client,
            queue,
            round: None,
            met: HashMap::new(),
            rounds: 0,
            partial: false,
            ended: false,
        }
    }

    /// Tells whether somebody else was holding letters to the end.
    pub(super) fn is_partial(&self) -> bool {
        self.partial
    }

    /// Returns the next letter; `None` when all were met and have been given back.
    pub(super) async fn next(&mut self) -> Result<Option<Taken>, DeadLetterError> {
        while !self.ended {
            if self.round.as_ref().is_some_and(|round| round.since.elapsed() > LONGEST_HOLD) {
                self.give_back().await;
            }
            let Some(round) = &mut self.round else {
                self.begin().await?;
                continue;
            };
            if round.held.len() >= usize::from(WINDOW) * round.consumers.len() {
                let more = self.client.broker().consume(&self.queue, WINDOW).await;
                // However long ago the last letter was asked for, nothing has stalled yet.
                round.last = Instant::now();
                round
                    .consumers
                    .push(more.map_err(|error| DeadLetterError::of(&self.queue, error))?);
            }
            let wait = match round.received < round.expected {
                true => QUIET,
                // Some may have been counted twice, and others be on their way.
                false if round.anonymous => QUIET / 10,
                false => Duration::ZERO,
            };
            match timeout(wait, round.consumers.next()).await {
                Ok(Some(delivery)) => {
                    round.quiet = 0;
                    round.last = Instant::now();
                    if let Some(taken) = self.meet(delivery) {
                        return Ok(Some(taken));
                    }
                }
                Ok(None) => return Err(self.gone()),
                Err(_) => self.look().await?,
            }
        }
        Ok(None)
    }

    /// Holds a letter until the end, and returns it.
    pub(super) fn keep(&mut self, taken: Taken) -> DeadLetter {
        if let Some(round) = &mut self.round {
            round.held.push(taken.held);
        }
        taken.letter
    }

    /// Removes a letter from the queue, and returns it.
    pub(super) fn remove(&mut self, taken: Taken) -> DeadLetter {
        let met = self.met.entry(taken.fingerprint).or_default();
        if taken.letter.id().is_some() {
            met.removed = true;
        } else {
            met.known = met.known.saturating_sub(1);
            met.come = met.come.saturating_sub(1);
        }
        taken.held.ack();
        taken.letter
    }

    /// Ends before everything was met.
    pub(super) async fn finish(&mut self) {
        self.ended = true;
        self.give_back().await;
    }

    /// Begins a round.
    async fn begin(&mut self) -> Result<(), DeadLetterError> {
        let stats = self.stats().await?;
        for met in self.met.values_mut() {
            met.come = 0;
        }
        let mut consumers = SelectAll::new();
        let deliveries = self.client.broker().consume(&self.queue, WINDOW).await;
        consumers.push(deliveries.map_err(|error| DeadLetterError::of(&self.queue, error))?);
        let now = Instant::now();
        self.round = Some(Round {
            consumers,
            held: Vec::new(),
            received: 0,
            anonymous: false,
            expected: stats.ready,
            extensions: 0,
            quiet: 0,
            since: now,
            last: now,
            contended: stats.consumers > 0,
        });
        Ok(())
    }

    /// Tells whether a letter was met before, and holds it if so.
    fn meet(&mut self, delivery: Delivery) -> Option<Taken> {
        let (envelope, held) = delivery.into_parts();
        let envelope = Arc::unwrap_or_clone(envelope);
        let fingerprint = fingerprint(&envelope);
        let identified = envelope.metadata.message_id.is_some();
        let met = self.met.entry(fingerprint).or_default();
        met.come += 1;
        // After a lost connection, they come once more.
        if let (false, _) | (true, 1) = (identified, met.come)
            && let Some(round) = &mut self.round
        {
            round.received += 1;
            round.anonymous |= !identified;
        }
        // Without an id, only their number tells them apart.
        let known = if identified { met.known > 0 } else { met.come <= met.known };
        if known && met.removed {
            held.ack();
            return None;
        }
        if known {
            if let Some(round) = &mut self.round {
                round.held.push(held);
            }
            return None;
        }
        met.known += 1;
        Some(Taken { letter: DeadLetter::new(envelope), held, fingerprint })
    }

    /// Asks the queue whether there is more, and ends the round if not.
    async fn look(&mut self) -> Result<(), DeadLetterError> {
        let stats = self.stats().await?;
        let Some(round) = &mut self.round else { return Ok(()) };
        let own = u32::try_from(round.consumers.len()).unwrap_or(u32::MAX);
        round.contended |= stats.consumers > own;
        let complete = round.received >= round.expected;
        if stats.ready > 0 {
            round.quiet = 0;
            if !complete {
                if round.last.elapsed() > STALLED {
                    return Err(DeadLetterError::Stalled {
                        queue: self.queue.clone(),
                        ready: stats.ready,
                    });
                }
                return Ok(());
            }
            if round.extensions < EXTENSIONS {
                round.extensions += 1;
                round.expected = round.received + stats.ready;
                round.last = Instant::now();
                return Ok(());
            }
        } else if !complete {
            // What is missing expired, or somebody else took it, or it is on its way.
            round.quiet += 1;
            if round.quiet < 3 {
                return Ok(());
            }
        }
        let contended = round.contended;
        self.give_back().await;
        if contended && self.rounds < ROUNDS {
            self.rounds += 1;
            // By chance, so that two who met do not meet again.
            sleep(QUIET.mul_f64(0.5 + 2.0 * fastrand::f64())).await;
        } else {
            self.partial = contended;
            self.ended = true;
        }
        Ok(())
    }

    /// Gives everything back, and waits a little for the queue to have it.
    async fn give_back(&mut self) {
        let Some(round) = self.round.take() else { return };
        let contended = round.contended;
        let count = round.give_back().await;
        if contended {
            // What is given back may be taken at once.
            return;
        }
        let deadline = Instant::now() + RETURNED;
        while let Ok(stats) = self.client.broker().stats(&self.queue).await {
            if (stats.ready >= count && stats.consumers == 0) || Instant::now() > deadline {
                break;
            }
            sleep(QUIET / 20).await;
        }
    }

    async fn stats(&self) -> Result<QueueStats, DeadLetterError> {
        let stats = self.client.broker().stats(&self.queue).await;
        stats.map_err(|error| DeadLetterError::of(&self.queue, error))
    }

    /// Finds out why there are no more deliveries.
    fn gone(&self) -> DeadLetterError {
        let error = match self.client.broker().health().borrow().stage {
            Stage::Closed => QueueError::Closed,
            _ => QueueError::NotFound { queue: self.queue.to_string() },
        };
        DeadLetterError::of(&self.queue, error)
    }
}

impl Drop for Walk {
    /// Gives back in order, where there is still a runtime to do it.
    fn drop(&mut self) {
        if let (Some(round), Ok(runtime)) = (self.round.take(), Handle::try_current()) {
            runtime.spawn(round.give_back());
        }
    }
}

impl Round {
    /// Gives everything back, and returns how much that was.
    async fn give_back(self) -> u64 {
        let Self { mut consumers, mut held, .. } = self;
        for deliveries in &consumers {
            deliveries.cancel();
        }
        // Nothing may come back to here, or it would lose its place.
        let rest = async {
            while let Some(delivery) = consumers.next().await {
                held.push(delivery.into_parts().1);
            }
        };
        drop(timeout(RETURNED, rest).await);
        // In their order, which is the one that queues keep.
        held.len() as u64
    }
}

/// Tells letters apart that are not the same in every respect that matters.
fn fingerprint(envelope: &Envelope) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        envelope.metadata.message_id.hash(&mut hasher);
        envelope.metadata.message_type.hash(&mut hasher);
        envelope.metadata.timestamp.hash(&mut hasher);
        envelope.topic.hash(&mut hasher);
        if let Some(failure) = &envelope.metadata.failure {
            failure.kind.hash(&mut hasher);
            failure.agent.hash(&mut hasher);
            failure.instance.hash(&mut hasher);
            failure.attempts.hash(&mut hasher);
            failure.at.hash(&mut hasher);
        }
        envelope.payload.hash(&mut hasher);
        hasher.finish()
    };
    (u128::from(half(0)) << 64) | u128::from(half(1))
}
