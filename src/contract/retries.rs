//! How often a contract wants its messages tried.

use std::time::Duration;

/// How often and for how long messages of a topic are tried, as their contract says it: a route that
/// nothing in code gives a policy goes by it.
///
/// What is not given here is as in [`RetryPolicy::default`](crate::retry::RetryPolicy), into which
/// this converts. Generated code makes these of the option `retry` of a method, whose bounds
/// agentbus-build has checked.
///
/// ```
/// use std::time::Duration;
/// use agentbus::{Topic, contract::Retries, retry::RetryPolicy};
///
/// const PAID: Topic<u64> =
///     Topic::new("order.paid").with_retry(Retries::new().attempts(20).max_delay(Duration::from_mins(5)));
/// let policy = RetryPolicy::from(PAID.retry().unwrap());
/// assert_eq!((policy.attempts, policy.backoff.max), (20, Duration::from_mins(5)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct Retries {
    /// How many times a handler runs in all, the first included.
    pub attempts: Option<u32>,
    /// The delay before the first retry.
    pub first_delay: Option<Duration>,
    /// How many times longer each delay is than the one before.
    pub multiplier: Option<f64>,
    /// The longest delay, before jitter.
    pub max_delay: Option<Duration>,
    /// How old a message may be when a retry starts.
    pub max_age: Option<Duration>,
}

impl Retries {
    /// Says nothing yet.
    pub const fn new() -> Self {
        Self { attempts: None, first_delay: None, multiplier: None, max_delay: None, max_age: None }
    }

    /// Says how many times a handler runs in all.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Says how long to wait before the first retry.
    pub const fn first_delay(mut self, delay: Duration) -> Self {
        self.first_delay = Some(delay);
        self
    }

    /// Says how many times longer each delay is than the one before.
    pub const fn multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = Some(multiplier);
        self
    }

    /// Says how long to wait at most.
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = Some(delay);
        self
    }

    /// Says how old a message may be when a retry starts.
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }
}
