//! A limit to how many messages are handled in a time.

use std::{num::NonZeroU32, time::Duration};

use async_trait::async_trait;
use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::{sync::Mutex, time::Instant};

use super::{
    Middleware, Next, Reply,
    hold::{self, Hold},
    keyed::Keyed,
};
use crate::{
    agent::{Context, HandlerError},
    contract::Name,
};

/// What timers can tell apart; messages that are due closer together pass together.
const GRAIN: Duration = Duration::from_millis(10);

/// The longest time from one message to the next, and to the last of a burst.
const LONGEST_INTERVAL: Duration = Duration::from_hours(24 * 365);

/// Lets a number of messages through to the handler in a time; the others wait.
///
/// What waits is not failed: it keeps its place in the prefetch, so that the agent takes no more
/// than it has places for, and its attempt is not counted. Messages pass in the order they came to
/// wait in. What waits for 5 minutes, unless [`patience`](Self::patience) says otherwise, comes back
/// later; what waits when the agent stops is given back. A message whose deadline comes before its
/// turn is not handled: a requester is told `UNAVAILABLE` as soon as that is clear.
///
/// ```
/// use std::time::Duration;
/// use agentbus::{Client, Runtime, agent::middleware::Throttle, broker::memory::Memory};
///
/// // 90 calls a minute, of which 10 may come at once.
/// let throttle = Throttle::new(90, Duration::from_mins(1)).burst(10);
/// let runtime = Runtime::new(Client::new(Memory::default())).layer(throttle);
/// ```
///
/// The messages of an agent share one allowance, unless [`per_topic`](Self::per_topic),
/// [`per_sender`](Self::per_sender) or [`per`](Self::per) gives one to each topic, sender or key.
/// A batch counts as the messages it holds; where it waits too long, what it was allowed by then is
/// kept for whoever comes next, so that a batch of any size passes in the end. Replicas do not know of each other: each has
/// allowances of its own.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    burst: NonZeroU32,
    lanes: Keyed<Lane>,
    patience: Duration,
}

/// Those who share an allowance.
#[derive(Debug)]
struct Lane {
    /// Held by the one who is next; the others wait for it in the order they came. How many may
    /// pass already: what a batch was allowed that gave up before it was allowed the rest.
    turn: Mutex<usize>,
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
}

/// Time since a start, by the clock that tests can pause.
#[derive(Clone, Copy, Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Throttle {
    /// Allows `messages` in each `time`, evenly spaced to about ten milliseconds. 0 messages count
    /// as 1.
    #[must_use]
    pub fn new(messages: u32, time: Duration) -> Self {
        let interval = time / messages.max(1);
        let interval = interval.clamp(Duration::from_nanos(1), LONGEST_INTERVAL);
        let together = GRAIN.as_nanos() / interval.as_nanos();
        let burst = u32::try_from(together).unwrap_or(u32::MAX);
        Self { interval, burst: NonZeroU32::MIN, lanes: Keyed::by_agent(), patience: hold::LONGEST }
            .burst(burst)
    }

    /// Lets up to `messages` through at once when there were fewer before than allowed. Then up to
    /// so many more than allowed may come within one time.
    #[must_use]
    pub fn burst(mut self, messages: u32) -> Self {
        // The last of a burst must be due in a time that can be told.
        let most = LONGEST_INTERVAL.as_nanos() / self.interval.as_nanos();
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        self.burst = NonZeroU32::new(messages.min(most)).unwrap_or(NonZeroU32::MIN);
        self
    }

    /// Gives an allowance to each topic of each agent.
    #[must_use]
    pub fn per_topic(self) -> Self {
        self.per(|context| context.topic().cloned())
    }

    /// Gives an allowance to each sender, at each agent. Messages that name no sender are not
    /// limited.
    #[must_use]
    pub fn per_sender(self) -> Self {
        self.per(|context| context.sender().cloned())
    }

    /// Gives an allowance to each key, at each agent; what has no key is not limited.
    ///
    /// 10 000 keys are told apart, unless [`keys`](Self::keys) says otherwise; of more, the ones
    /// not used for longest are forgotten, and have their whole allowance when they come again.
    #[must_use]
    pub fn per(mut self, key: impl Fn(&Context) -> Option<Name> + Send + Sync + 'static) -> Self {
        self.lanes = self.lanes.by(key);
        self
    }

    /// Sets how many keys are told apart; at least one.
    #[must_use]
    pub fn keys(mut self, keys: usize) -> Self {
        self.lanes = self.lanes.limit(keys);
        self
    }

    /// Sets how long a message waits at most before it is published again, to come back later.
    ///
    /// RabbitMQ takes a message for lost that is not settled within its consumer time-out, half an
    /// hour by default.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn lane(&self) -> Lane {
        let interval = Quota::with_period(self.interval).expect("an interval is never zero");
        let quota = interval.allow_burst(self.burst);
        let clock = TokioClock(Instant::now());
        Lane { turn: Mutex::default(), limiter: RateLimiter::direct_with_clock(quota, clock) }
    }
}

impl Lane {
    /// Waits for the turn of `messages`.
    async fn pass(
        &self,
        context: &Context,
        messages: usize,
        patience: Duration,
    ) -> Result<(), HandlerError> {
        if let Ok(mut allowed) = self.turn.try_lock() {
            while *allowed < messages && self.limiter.check().is_ok() {
                *allowed += 1;
            }
            if *allowed >= messages {
                *allowed -= messages;
                return Ok(());
            }
        }
        let hold = Hold::begin(context, "the throttle", patience);
        let mut allowed = hold.until(self.turn.lock()).await?;
        while *allowed < messages {
            match self.limiter.check() {
                Ok(()) => *allowed += 1,
                Err(early) => {
                    let now = self.limiter.clock().now();
                    hold.sleep(early.wait_time_from(now)).await?;
                }
            }
        }
        *allowed -= messages;
        Ok(())
    }
}

#[async_trait]
impl Middleware for Throttle {
    async fn handle(&self, context: &Context, next: Next<'_>) -> Result<Reply, HandlerError> {
        if let Some(lane) = self.lanes.of(context, || self.lane()) {
            lane.pass(context, context.batch().len().max(1), self.patience).await?;
        }
        next.run(context).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_beyond_reason_are_limits() {
        for (messages, time, burst) in [
            (0, Duration::ZERO, 0),
            (u32::MAX, Duration::ZERO, u32::MAX),
            (1, Duration::MAX, u32::MAX),
            (u32::MAX, Duration::MAX, u32::MAX),
            (1, Duration::from_secs(1), 0),
        ] {
            let lane = Throttle::new(messages, time).burst(burst).lane();
            assert!(lane.limiter.check().is_ok(), "the first passes at once");
            let _ = lane.limiter.check();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_pass_as_are_allowed() {
        for (messages, burst) in [(3, None), (3, Some(5)), (10_000, None)] {
            let mut throttle = Throttle::new(messages, Duration::from_secs(1));
            if let Some(burst) = burst {
                throttle = throttle.burst(burst);
            }
            let lane = throttle.lane();
            let most = messages * 10 + throttle.burst.get();
            let mut passed = 0;
            for _ in 0..10_000 {
                while lane.limiter.check().is_ok() {
                    passed += 1;
                }
                tokio::time::advance(Duration::from_millis(1)).await;
            }
            assert!(passed <= most && passed >= messages * 10, "{passed} of {most}");
        }
    }
}
