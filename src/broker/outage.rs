//! Tells of an outage without filling the log.

use std::time::{Duration, Instant};

/// How often an outage that lasts is told of.
const EVERY: Duration = Duration::from_secs(10);

/// The time without a connection.
#[derive(Debug)]
pub(super) struct Outage {
    began: Instant,
    tries: u32,
    told: Option<Instant>,
}

impl Outage {
    pub(super) fn begin() -> Self {
        Self { began: Instant::now(), tries: 0, told: None }
    }

    /// Counts a failed try; tells whether it is to be logged: the first, then one in a while.
    pub(super) fn failed(&mut self) -> bool {
        self.failed_at(Instant::now())
    }

    fn failed_at(&mut self, now: Instant) -> bool {
        self.tries = self.tries.saturating_add(1);
        let due = self.told.is_none_or(|told| now.duration_since(told) >= EVERY);
        if due {
            self.told = Some(now);
        }
        due
    }

    /// Returns how many tries failed.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    /// Returns how long it has lasted.
    pub(super) fn lasted(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_logged_and_then_one_in_a_while() {
        let mut outage = Outage::begin();
        let start = outage.began;
        let logged: Vec<u64> = (0..25_u64)
            .filter(|second| outage.failed_at(start + Duration::from_secs(*second)))
            .collect();
        assert_eq!(logged, [0, 10, 20]);
        assert_eq!(outage.tries(), 25);
    }
}
