//! One run of a handler, and why there is no other.

use std::time::Duration;

use super::rounding::{MAX_DELAY, in_units};

/// The run of a handler that has just failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Which run it was; 1 is the first.
    pub number: u32,
    /// How many runs the message itself allows, which goes before the policy's number. What is not
    /// within 1 to [`MAX_ATTEMPTS`](crate::message::MAX_ATTEMPTS) is ignored.
    pub limit: Option<u32>,
    /// How long ago the message was first published.
    pub age: Duration,
    /// How long until the message's deadline; `None` where it has none.
    pub time_left: Option<Duration>,
    /// How long until the message expires; `None` where it never does.
    pub expires_in: Option<Duration>,
}

impl Attempt {
    /// Returns the run with this number (1 is the first) of a message that is new, has no deadline
    /// and does not expire.
    #[must_use]
    pub const fn number(number: u32) -> Self {
        Self { number, limit: None, age: Duration::ZERO, time_left: None, expires_in: None }
    }

    /// Returns this run, of a message that allows `limit` of them.
    #[must_use]
    pub const fn with_limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Returns this run, of a message published `age` ago.
    #[must_use]
    pub const fn aged(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// Returns this run, of a message whose deadline is `left` away.
    #[must_use]
    pub const fn with_time_left(mut self, left: Duration) -> Self {
        self.time_left = Some(left);
        self
    }

    /// Returns this run, of a message that expires in `left`.
    #[must_use]
    pub const fn expiring_in(mut self, left: Duration) -> Self {
        self.expires_in = Some(left);
        self
    }

    /// Returns `delay` in whole units, if the message is of use to anybody by then.
    pub(crate) fn again_after(&self, delay: Duration) -> Result<Duration, GiveUp> {
        let delay = in_units(delay);
        if self.expires_in.is_some_and(|left| delay >= left) {
            Err(GiveUp::Expired)
        } else if self.time_left.is_some_and(|left| delay >= left) {
            Err(GiveUp::Deadline)
        } else if delay > MAX_DELAY {
            Err(GiveUp::TooFar)
        } else {
            Ok(delay)
        }
    }
}

/// Why a message is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GiveUp {
    /// The attempts are used up: the message's own, or the policy's.
    #[error("gave up after {made} attempt{}", if *made == 1 { "" } else { "s" })]
    Attempts {
        /// How many runs there were.
        made: u32,
    },
    /// The policy does not retry errors of this kind.
    #[error("gave up because the policy does not retry this error")]
    NotRetryable,
    /// The next run would start later than the policy's age limit allows.
    #[error("gave up because the message would be older than {limit:?} at the next attempt")]
    Age {
        /// The policy's limit.
        limit: Duration,
    },
    /// The next run would start at or after the message's deadline, when nobody waits for it any more.
    #[error("gave up because the deadline comes before the next attempt")]
    Deadline,
    /// The message would have expired by the next run.
    #[error("gave up because the message expires before the next attempt")]
    Expired,
    /// The next run would start after more than [`MAX_DELAY`], for which no bus keeps a message.
    #[error(
        "gave up because the next attempt would come after more than two years, and nothing is kept that long"
    )]
    TooFar,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_for_more_than_two_years() {
        let attempt = Attempt::number(1);
        assert_eq!(attempt.again_after(MAX_DELAY), Ok(MAX_DELAY));
        for delay in [MAX_DELAY + Duration::from_nanos(1), Duration::MAX] {
            assert_eq!(attempt.again_after(delay), Err(GiveUp::TooFar));
            let asked = attempt.with_time_left(Duration::from_secs(1));
            assert_eq!(asked.again_after(delay), Err(GiveUp::Deadline));
        }
    }

    #[test]
    fn texts_name_the_limit() {
        assert_eq!(GiveUp::Attempts { made: 1 }.to_string(), "gave up after 1 attempt");
        let age = GiveUp::Age { limit: Duration::from_secs(10) };
        assert!(age.to_string().contains("10s"));
    }
}
