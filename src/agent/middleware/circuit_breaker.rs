//! Pausing while what handlers need does not work.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::Notify, time::Instant};

use super::{
    Middleware, Next, Reply,
    circuit::{Admission, Change, Circuit, Pass, Rate, Rules, Sign},
    hold::{self, Hold},
    keyed::Keyed,
};
use crate::{
    agent::{Context, HandlerError},
    contract::Name,
    message::Timestamp,
};

/// The longest time a circuit is open.
const LONGEST_OPEN: Duration = Duration::from_hours(24 * 365);

/// Holds messages back while what their handler needs does not work, instead of letting them use up
/// their attempts.
///
/// It opens after 5 failures one after the other, or, with [`failure_rate`](Self::failure_rate),
/// after a share of failures; what fails then is retried and counted as ever. While it is open no
/// handler is called: messages keep their places in the prefetch, so that the agent takes no more
/// once all are taken, and their attempts are not counted. After 30 seconds one message is let
/// through to try; if its handler succeeds all go on, and otherwise it is open for another 30
/// seconds. That one's attempt is not counted either, and it comes back as late. (So a message that
/// itself makes its handler fail is dead-lettered only when others have closed the circuit.) A
/// handler that has not ended after 30 seconds keeps nobody from trying: another message is let
/// through as well, and whichever ends first decides.
///
/// ```
/// use std::time::Duration;
/// use agentbus::{Client, Runtime, agent::middleware::CircuitBreaker, broker::memory::Memory};
///
/// let breaker = CircuitBreaker::new()
///     .failures(3)
///     .failure_rate(0.5, Duration::from_mins(1), 20)
///     .open_for(Duration::from_secs(10));
/// let runtime = Runtime::new(Client::new(Memory::default())).layer(breaker);
/// ```
///
/// What counts as a failure: [`Retry`](HandlerError::Retry) and
/// [`RetryAfter`](HandlerError::RetryAfter), a time-out, and a panic. [`Reply`](HandlerError::Reply) counts as a success, since it is an answer;
/// [`Reject`](HandlerError::Reject) and [`Snooze`](HandlerError::Snooze) count as neither, and so
/// does what other middleware does without calling the handler.
/// [`counts`](Self::counts) decides otherwise.
///
/// A message is held for 5 minutes at most, unless [`patience`](Self::patience) says otherwise;
/// then it is published again, to come back later, its attempt unchanged. When the agent stops,
/// what is held is given back as it came. A message whose deadline comes before the circuit is
/// tried next is not handled: a requester is told `UNAVAILABLE` at once.
///
/// Each agent has a circuit, unless [`per_topic`](Self::per_topic) or [`per`](Self::per) makes one
/// for each topic or key; those held for one keep places from the others, so that a topic that is
/// often held wants an agent of its own. Each change is logged, and
/// [`Running::health`](crate::Running::health) names an open circuit. Replicas do not know of each
/// other.
pub struct CircuitBreaker {
    rules: Rules,
    counts: Option<Counts>,
    breakers: Keyed<Breaker>,
    patience: Duration,
}

type Counts = Arc<dyn Fn(&HandlerError) -> bool + Send + Sync>;

/// A circuit, and those who wait for it.
#[derive(Debug)]
struct Breaker {
    // A std mutex: it is held for a few comparisons and never across an await.
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    circuit: Circuit,
    /// What opened it.
    cause: String,
}

impl CircuitBreaker {
    /// Opens for 30 seconds after 5 failures one after the other.
    #[must_use]
    pub fn new() -> Self {
        let open_for = Duration::from_secs(30);
        Self {
            rules: Rules { failures: 5, rate: None, open_for, probes: 1 },
            counts: None,
            breakers: Keyed::by_agent(),
            patience: hold::LONGEST,
        }
    }

    /// Sets how many failures one after the other open it; at least one.
    #[must_use]
    pub fn failures(mut self, failures: u32) -> Self {
        self.rules.failures = failures;
        self
    }

    /// Opens it, too, when of the messages of a time such a share failed (0.5 is every second), and
    /// there were at least so many.
    #[must_use]
    pub fn failure_rate(mut self, share: f64, window: Duration, at_least: u32) -> Self {
        self.rules.rate = Some(Rate { share, window, at_least });
        self
    }

    /// Sets how long it is open before it is tried.
    #[must_use]
    pub fn open_for(mut self, time: Duration) -> Self {
        self.rules.open_for = time.min(LONGEST_OPEN);
        self
    }

    /// Sets how many messages are let through at a time to try it, all of which have to succeed; at
    /// least one.
    #[must_use]
    pub fn probes(mut self, messages: u32) -> Self {
        self.rules.probes = messages;
        self
    }

    /// Sets which errors count as failures; to be chosen as those that a policy retries
    /// ([`RetryPolicy`](crate::retry::RetryPolicy)), where it does not retry all. Panics and
    /// deadlines that come during the handler always count.
    #[must_use]
    pub fn counts(
        mut self,
        is_failure: impl Fn(&HandlerError) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.counts = Some(Arc::new(is_failure));
        self
    }

    /// Makes a circuit for each topic of each agent.
    #[must_use]
    pub fn per_topic(self) -> Self {
        self.per(|context| context.topic().cloned())
    }

    /// Makes a circuit for each key, at each agent; what has no key is never held.
    ///
    /// 10 000 keys are told apart, unless [`keys`](Self::keys) says otherwise; of more, the circuits
    /// not used for longest are forgotten, and closed.
    #[must_use]
    pub fn per(mut self, key: impl Fn(&Context) -> Option<Name> + Send + Sync + 'static) -> Self {
        self.breakers = self.breakers.by(key);
        self
    }

    /// Sets how many keys are told apart; at least one.
    #[must_use]
    pub fn keys(mut self, keys: usize) -> Self {
        self.breakers = self.breakers.limit(keys);
        self
    }

    /// Sets how long a message is held at most before it is published again, to come back later.
    ///
    /// RabbitMQ takes a message for lost that is not settled within its consumer time-out, half an
    /// hour by default.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Waits until a message may be handled.
    async fn admit<'a>(
        &'a self,
        context: &'a Context,
        breaker: &'a Breaker,
    ) -> Result<Permit<'a>, HandlerError> {
        let mut hold = None;
        loop {
            let mut changed = std::pin::pin!(breaker.changed.notified());
            // Registered before looking, so that a change in between is not missed.
            changed.as_mut().enable();
            let now = Instant::now();
            let admission = breaker.lock().circuit.admit(&self.rules, now);
            if let Admission::Now(pass) = admission {
                let rules = &self.rules;
                return Ok(Permit { rules, breaker, context, pass, reported: false });
            }
            let hold = hold.get_or_insert_with(|| {
                Hold::begin(context, "a circuit breaker that is open", self.patience)
            });
            match admission {
                Admission::At(time) => hold.sleep(time.duration_since(now)).await?,
                Admission::AfterProbes(time) => {
                    let next = async {
                        tokio::select! {
                            () = changed => {}
                            () = tokio::time::sleep_until(time) => {}
                        }
                    };
                    hold.until(next).await?;
                }
                Admission::Now(_) => unreachable!("it was let through"),
            }
        }
    }

    /// Returns what becomes of a message that tried the circuit in vain, which was not its fault.
    fn uncounted(&self, context: &Context, error: HandlerError) -> HandlerError {
        let delay = match &error {
            HandlerError::RetryAfter(delay, _) => self.rules.open_for.max(*delay),
            _ => self.rules.open_for,
        };
        // A requester who will not wait that long is told now, by the error.
        if context.time_left().is_some_and(|left| left <= delay) {
            return error;
        }
        HandlerError::Snooze(delay)
    }

    fn sign(&self, context: &Context, result: &Result<Reply, HandlerError>) -> Sign {
        if !context.has_begun() {
            return Sign::Nothing;
        }
        let Err(error) = result else { return Sign::Works };
        let fails = match &self.counts {
            Some(counts) => counts(error),
            None => matches!(error, HandlerError::Retry(_) | HandlerError::RetryAfter(..)),
        };
        match error {
            _ if fails => Sign::Fails,
            HandlerError::Reply(_) => Sign::Works,
            _ => Sign::Nothing,
        }
    }
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker").field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[async_trait]
impl Middleware for CircuitBreaker {
    async fn handle(&self, context: &Context, next: Next<'_>) -> Result<Reply, HandlerError> {
        let Some(breaker) = self.breakers.of(context, Breaker::new) else {
            return next.run(context).await;
        };
        let permit = self.admit(context, &breaker).await?;
        let is_probe = permit.pass.is_probe;
        let result = next.run(context).await;
        let sign = self.sign(context, &result);
        permit.report(sign, || match &result {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        });
        match result {
            Err(error) if is_probe && sign == Sign::Fails => Err(self.uncounted(context, error)),
            result => result,
        }
    }

    fn paused(&self) -> Option<String> {
        let now = Instant::now();
        self.breakers.find(|((agent, key), breaker)| {
            let inner = breaker.lock();
            inner.circuit.is_open(now).then(|| {
                let key = if key.is_empty() { String::new() } else { format!(" for `{key}`") };
                format!("a circuit breaker of agent `{agent}`{key} is open: {}", inner.cause)
            })
        })
    }
}

impl Breaker {
    fn new() -> Self {
        let inner = Inner { circuit: Circuit::new(), cause: String::new() };
        Self { inner: Mutex::new(inner), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The leave to handle one message, which ends with what the message says of the circuit.
struct Permit<'a> {
    rules: &'a Rules,
    breaker: &'a Breaker,
    context: &'a Context,
    pass: Pass,
    reported: bool,
}

impl Permit<'_> {
    fn report(mut self, sign: Sign, cause: impl FnOnce() -> String) {
        self.tell(sign, cause);
    }

    fn tell(&mut self, sign: Sign, cause: impl FnOnce() -> String) {
        self.reported = true;
        let agent = self.context.agent();
        let mut inner = self.breaker.lock();
        let Some(change) = inner.circuit.report(self.rules, Instant::now(), self.pass, sign) else {
            return;
        };
        match change {
            Change::Opened { .. } => {
                // Outside of the lock: to show an error runs the user's code.
                drop(inner);
                let cause = cause();
                tracing::warn!(%agent, topic = ?self.context.topic(), open_for = ?self.rules.open_for, error = cause, "a circuit breaker opened: messages are held");
                self.breaker.lock().cause = cause;
            }
            Change::Closed => {
                tracing::info!(%agent, topic = ?self.context.topic(), "a circuit breaker closed: messages are handled again");
            }
            Change::ProbeFree => {}
        }
        self.breaker.changed.notify_waiters();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.reported {
            return;
        }
        // The handler panicked, or was dropped: at its deadline, or because the agent stops.
        let panicked = std::thread::panicking();
        let late = self.context.deadline().is_some_and(Timestamp::has_passed);
        let fails = self.context.has_begun() && (panicked || late);
        let sign = if fails { Sign::Fails } else { Sign::Nothing };
        let cause = if panicked { "a handler panicked" } else { "a handler did not end in time" };
        self.tell(sign, || cause.to_owned());
    }
}
