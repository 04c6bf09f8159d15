//! How long an engine that says nothing is given before its connection is thought lost.

use std::time::Duration;

/// At first. One that lives answers in milliseconds, under heavy load in tenths of a second.
const FIRST: Duration = Duration::from_secs(3);

/// Doubles each time that it was too short, so that a slow engine is not dialled for ever.
#[derive(Debug)]
pub(super) struct Patience {
    present: Duration,
    longest: Duration,
}

impl Patience {
    /// As long as `longest` in the end: an engine that has just started, with much on its disk, may
    /// need that.
    pub(super) fn new(longest: Duration) -> Self {
        Self { present: FIRST.min(longest), longest }
    }

    pub(super) fn present(&self) -> Duration {
        self.present
    }

    /// Nothing was heard for so long.
    pub(super) fn ran_out(&mut self) {
        self.present = (2 * self.present).min(self.longest);
    }

    /// A connection has lasted.
    pub(super) fn recover(&mut self) {
        self.present = FIRST.min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_bound_and_recovers() {
        let mut patience = Patience::new(Duration::from_secs(10));
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(patience.present().as_secs());
            patience.ran_out();
        }
        assert_eq!(seen, [3, 6, 10, 10, 10]);
        patience.recover();
        assert_eq!(patience.present(), FIRST);
    }
}
