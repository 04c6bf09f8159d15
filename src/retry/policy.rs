//! How often and for how long a message is tried.

use std::{
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::{
    Attempt, Backoff, GiveUp, Jitter,
    rounding::{MAX_DELAY, in_few_bits},
};
use crate::{contract::Retries, message::MAX_ATTEMPTS};

/// How often and for how long a message is tried before it goes to the dead letters.
///
/// Counts handler outcomes only: a redelivery after a crash, a cut connection or a shutdown is not an attempt, and
/// neither is a snooze. Rejected, undecodable and wrong-typed messages never get here.
///
/// A policy is set for a runtime, for an agent or for a route, and a contract may state one for a method; one of them
/// counts, as a whole. Code goes before the contract, the nearest to the handler first: a [route's](crate::Routes::retry),
/// an [agent's](crate::Agent::retry), the [contract's](crate::contract::Retries), the
/// [runtime's](crate::Runtime::retry). A message may carry a number of
/// attempts of its own, which goes before the policy's number, and changes nothing else.
///
/// ```
/// use std::{io, time::Duration};
/// use agentbus::retry::{Backoff, RetryPolicy};
///
/// let policy = RetryPolicy::attempts(6)
///     .with_backoff(Backoff::new(Duration::from_secs(5), Duration::from_mins(5)))
///     .with_max_age(Duration::from_hours(1))
///     .only_if(|error| error.is::<io::Error>());
/// assert!(!policy.retries(&std::fmt::Error));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How many times the handler runs in all, the first included. Default 4 (at once, then after 1 s, 2 s and 4 s).
    /// 0 counts as 1: the message has been handled once before anybody asks.
    pub attempts: u32,
    /// How long to wait between them.
    pub backoff: Backoff,
    /// How old a message may be when a retry starts. Default `None`: no limit.
    pub max_age: Option<Duration>,
    retryable: Option<Arc<Retryable>>,
}

type Retryable = dyn Fn(&(dyn Error + 'static)) -> bool + Send + Sync;

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 4, backoff: Backoff::default(), max_age: None, retryable: None }
    }
}

impl RetryPolicy {
    /// Returns the policy that never retries: the first failure is final.
    #[must_use]
    pub fn none() -> Self {
        Self::attempts(1)
    }

    /// Returns the default policy with `attempts` runs in all.
    #[must_use]
    pub fn attempts(attempts: u32) -> Self {
        Self { attempts, ..Self::default() }
    }

    /// Returns this policy with another backoff.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Returns this policy without jitter: every delay is as long as the backoff says, rounded up.
    #[must_use]
    pub fn without_jitter(mut self) -> Self {
        self.backoff.jitter = Jitter::None;
        self
    }

    /// Returns this policy with an age above which no retry starts.
    ///
    /// A message's age counts from when it was first published, by its `timestamp`: on RabbitMQ, to
    /// the second. A message without one is always new.
    #[must_use]
    pub fn with_max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Returns this policy for those errors only that `retryable` says yes to; others go straight to
    /// the dead letters. It takes the place of one set before.
    ///
    /// It is shown the error that the handler, or middleware, returned within
    /// [`Retry`](crate::HandlerError::Retry) or [`RetryAfter`](crate::HandlerError::RetryAfter), so
    /// that it can be downcast; it is not shown what wraps or causes it. Panics, time-outs, missing
    /// routes and replies that could not be sent are no errors of the handler's: they are retried
    /// whatever it says. Where it panics itself, the answer is yes.
    #[must_use]
    pub fn only_if(
        mut self,
        retryable: impl Fn(&(dyn Error + 'static)) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.retryable = Some(Arc::new(retryable));
        self
    }

    /// Tells whether messages that failed with `error` are tried again at all.
    #[must_use]
    pub fn retries(&self, error: &(dyn Error + 'static)) -> bool {
        let Some(retryable) = &self.retryable else { return true };
        catch_unwind(AssertUnwindSafe(|| retryable(error))).unwrap_or(true)
    }

    /// Returns how long to wait before the next run, after the run that `attempt` describes has failed.
    ///
    /// `random` is as in [`Backoff::delay`]. The delay is the backoff's, rounded up to at most three
    /// significant bits of [`DELAY_UNIT`](super::DELAY_UNIT).
    ///
    /// # Errors
    /// [`GiveUp`] names the limit that the next run would break.
    pub fn next(&self, attempt: &Attempt, random: f64) -> Result<Duration, GiveUp> {
        let delay = self.backoff.delay(attempt.number, random);
        let rounded = in_few_bits(delay);
        // What can be kept is not given up for being rounded.
        let delay = if delay <= MAX_DELAY { rounded.min(MAX_DELAY) } else { rounded };
        self.after(attempt, delay)
    }

    /// Returns `delay` if the next run may start then, with the same limits as [`next`](Self::next): what a handler's
    /// own wish (`RetryAfter`) comes down to. Neither capped nor jittered, and rounded up to whole units only.
    ///
    /// # Errors
    /// [`GiveUp`] names the limit that the next run would break.
    pub fn after(&self, attempt: &Attempt, delay: Duration) -> Result<Duration, GiveUp> {
        let own = attempt.limit.filter(|limit| (1..=MAX_ATTEMPTS).contains(limit));
        if attempt.number >= own.unwrap_or(self.attempts).max(1) {
            return Err(GiveUp::Attempts { made: attempt.number });
        }
        let delay = attempt.again_after(delay)?;
        match self.max_age {
            Some(limit) if attempt.age.saturating_add(delay) > limit => Err(GiveUp::Age { limit }),
            _ => Ok(delay),
        }
    }
}

impl From<Retries> for RetryPolicy {
    /// Fills in what the contract leaves out: as in the default policy, where the longest delay is at least the first.
    fn from(retries: Retries) -> Self {
        let Self { attempts, backoff, .. } = Self::default();
        let initial = retries.first_delay.unwrap_or(backoff.initial);
        Self {
            attempts: retries.attempts.unwrap_or(attempts),
            backoff: Backoff {
                initial,
                multiplier: retries.multiplier.unwrap_or(backoff.multiplier),
                max: retries.max_delay.unwrap_or(backoff.max.max(initial)),
                ..backoff
            },
            max_age: retries.max_age,
            ..Self::default()
        }
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("attempts", &self.attempts)
            .field("backoff", &self.backoff)
            .field("max_age", &self.max_age)
            .field("only_if", &self.retryable.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::backoff::tests::{any_backoff, any_duration, any_f64},
        *,
    };

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn default_policy_runs_four_times() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.next(&Attempt::number(1), 0.0), Ok(secs(1)));
        assert_eq!(policy.next(&Attempt::number(3), 0.0), Ok(secs(4)));
        assert_eq!(policy.next(&Attempt::number(4), 0.0), Err(GiveUp::Attempts { made: 4 }));
    }

    #[test]
    fn none_and_zero_attempts_never_retry() {
        for policy in [RetryPolicy::none(), RetryPolicy::attempts(0)] {
            assert!(policy.next(&Attempt::number(1), 0.5).is_err());
            assert!(policy.after(&Attempt::number(1), Duration::ZERO).is_err());
        }
    }

    #[test]
    fn retry_that_would_start_at_the_deadline_is_not_scheduled() {
        let policy = RetryPolicy::default();
        let attempt = Attempt::number(1).with_time_left(secs(1));
        assert_eq!(policy.next(&attempt, 0.0), Err(GiveUp::Deadline));
        let attempt = Attempt::number(1).with_time_left(Duration::from_millis(1001));
        assert_eq!(policy.next(&attempt, 0.0), Ok(secs(1)));
    }

    #[test]
    fn retry_beyond_the_age_limit_is_not_scheduled() {
        let policy = RetryPolicy::default().with_max_age(secs(10));
        assert_eq!(policy.next(&Attempt::number(1).aged(secs(9)), 0.0), Ok(secs(1)));
        let refused = policy.next(&Attempt::number(1).aged(Duration::from_millis(9001)), 0.0);
        assert_eq!(refused, Err(GiveUp::Age { limit: secs(10) }));
    }

    #[test]
    fn the_handlers_own_delay_is_kept_but_obeys_the_limits() {
        let policy = RetryPolicy::default().with_max_age(secs(7200));
        assert_eq!(policy.after(&Attempt::number(1), secs(3600)), Ok(secs(3600)));
        assert!(policy.after(&Attempt::number(1), secs(7201)).is_err());
        assert!(policy.after(&Attempt::number(4), Duration::ZERO).is_err());
    }

    #[test]
    fn retry_that_would_start_after_the_message_expired_is_not_scheduled() {
        let policy = RetryPolicy::default();
        let attempt = Attempt::number(1).expiring_in(secs(1));
        assert_eq!(policy.next(&attempt, 0.0), Err(GiveUp::Expired));
        assert_eq!(policy.next(&attempt.expiring_in(secs(2)), 0.0), Ok(secs(1)));
    }

    #[test]
    fn the_messages_own_limit_goes_before_the_policys() {
        let policy = RetryPolicy::attempts(3);
        let retried = |number, limit| {
            let attempt = Attempt::number(number).with_limit(limit);
            policy.next(&attempt, 0.0).is_ok()
        };
        assert!(!retried(1, 1) && retried(1, 2), "lowered");
        assert!(retried(4, 5) && !retried(5, 5), "raised");
        for nonsense in [0, MAX_ATTEMPTS + 1, u32::MAX] {
            assert!(retried(2, nonsense) && !retried(3, nonsense), "{nonsense}");
        }
    }

    #[test]
    fn what_a_contract_leaves_out_is_as_by_default() {
        let parts = |policy: RetryPolicy| (policy.attempts, policy.backoff, policy.max_age);
        assert_eq!(parts(Retries::new().into()), parts(RetryPolicy::default()));
        let slow = parts(Retries::new().attempts(2).first_delay(secs(90)).into());
        assert_eq!(slow, (2, Backoff::new(secs(90), secs(90)), None));
        let retries = Retries::new().multiplier(3.0).max_delay(secs(5)).max_age(secs(60));
        let backoff = Backoff::new(secs(1), secs(5)).with_multiplier(3.0);
        assert_eq!(parts(retries.into()), (4, backoff, Some(secs(60))));
    }

    #[test]
    fn only_some_errors_are_retried() {
        let policy = RetryPolicy::default();
        assert!(policy.retries(&fmt::Error));
        let policy = policy.only_if(<dyn Error>::is::<std::io::Error>);
        assert!(policy.retries(&std::io::Error::other("disk on fire")));
        assert!(!policy.retries(&fmt::Error));
        assert!(policy.only_if(|_| panic!("who knows")).retries(&fmt::Error));
    }

    #[test]
    fn without_jitter_chance_changes_nothing() {
        let policy = RetryPolicy::default().without_jitter();
        assert_eq!(policy.next(&Attempt::number(2), 1.0), Ok(secs(2)));
    }

    proptest! {
        #[test]
        fn more_runs_than_attempts_never_happen(
            attempts in any::<u32>(), number in any::<u32>(), age in any_duration(), random in any_f64(),
        ) {
            let policy = RetryPolicy::attempts(attempts);
            let retried = policy.next(&Attempt::number(number).aged(age), random).is_ok();
            prop_assert_eq!(retried, number < attempts.max(1));
        }

        #[test]
        fn neither_jitter_nor_rounding_ever_shortens(
            backoff in any_backoff(Jitter::Add), number in 1..u32::MAX, random in any_f64(),
        ) {
            let policy = RetryPolicy::attempts(u32::MAX).with_backoff(backoff);
            let attempt = Attempt::number(number);
            let least = policy.clone().without_jitter().backoff.delay(number, random);
            match policy.next(&attempt, random) {
                Ok(wait) => prop_assert!(wait >= least && wait <= MAX_DELAY),
                Err(reason) => {
                    prop_assert_eq!(reason, GiveUp::TooFar);
                    prop_assert!(policy.backoff.delay(number, random) > MAX_DELAY);
                }
            }
        }

        #[test]
        fn what_is_ordered_is_neither_shortened_nor_more_than_a_unit_longer(delay in any_duration()) {
            match RetryPolicy::default().after(&Attempt::number(1), delay) {
                Ok(waits) => prop_assert!(waits >= delay && waits.saturating_sub(delay) <= super::super::DELAY_UNIT),
                Err(reason) => prop_assert!(reason == GiveUp::TooFar && delay > MAX_DELAY),
            }
        }
    }
}
