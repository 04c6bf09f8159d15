//! How soon a lost connection is dialled again.

use crate::retry::{Backoff, Jitter};
use std::time::Duration;

/// How soon a lost connection is dialled again: doubling from `initial`, with full jitter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconnect {
    /// The longest wait before the first redial. Default 1 s, 10 ms–60 s.
    pub initial: Duration,
    /// The longest wait where the broker answers but refuses credentials, virtual host or TLS: trying harder does not
    /// help. Default 60 s, 10 ms–1 h.
    pub refused_max: Duration,
    /// The longest wait where the broker cannot be reached: it may be back any moment. Default 2 s, 10 ms–1 h.
    pub unreachable_max: Duration,
}

impl Reconnect {
    /// Returns the backoff where the broker refuses us.
    #[must_use]
    pub fn refused(&self) -> Backoff {
        Backoff::new(self.initial, self.refused_max).with_jitter(Jitter::Full)
    }

    /// Returns the backoff where the broker cannot be reached.
    #[must_use]
    pub fn unreachable(&self) -> Backoff {
        Backoff::new(self.initial, self.unreachable_max).with_jitter(Jitter::Full)
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            refused_max: Duration::from_mins(1),
            unreachable_max: Duration::from_secs(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redialling_uses_full_jitter_between_its_bounds() {
        let reconnect = Reconnect::default();
        assert_eq!(reconnect.refused().delay(100, 1.0), Duration::from_mins(1));
        assert_eq!(reconnect.unreachable().delay(100, 1.0), Duration::from_secs(2));
        assert_eq!(reconnect.unreachable().delay(100, 0.0), Duration::ZERO);
    }
}
