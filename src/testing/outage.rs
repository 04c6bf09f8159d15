//! Outages: whether the connections of a test bus are up.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

/// The state of all connections of a bus.
#[derive(Debug)]
pub(super) struct Outage {
    /// Even while the connections are up; raised by each change.
    changes: watch::Sender<u64>,
}

impl Outage {
    pub(super) fn new() -> Self {
        Self { changes: watch::Sender::new(0) }
    }

    pub(super) fn is_down(&self) -> bool {
        *self.changes.borrow() % 2 == 1
    }

    /// Cuts the connections; returns which outage it is, or nothing where they are down already.
    pub(super) fn begin(&self) -> Option<u64> {
        let begun = self.changes.send_if_modified(|changes| {
            let up = *changes % 2 == 0;
            *changes += u64::from(up);
            up
        });
        begun.then(|| *self.changes.borrow())
    }

    /// Ends an outage, or whichever there is.
    pub(super) fn end(&self, outage: Option<u64>) -> bool {
        self.changes.send_if_modified(|changes| {
            let down = *changes % 2 == 1 && outage.is_none_or(|outage| outage == *changes);
            *changes += u64::from(down);
            down
        })
    }

    /// Numbers the time since the connections came up last.
    pub(super) fn period(&self) -> u64 {
        *self.changes.borrow() / 2
    }

    /// Waits until the connections are up.
    pub(super) async fn over(&self) {
        let mut changes = self.changes.subscribe();
        // The sender is this value's own: it is there while this waits.
        let _ = changes.wait_for(|changes| changes % 2 == 0).await;
    }

    /// Waits until the connections are up, so long; tells whether they are.
    pub(super) async fn over_within(&self, limit: Duration) -> bool {
        timeout(limit, self.over()).await.is_ok()
    }

    /// Waits until the connections that are up since `period` are cut.
    pub(super) async fn since(&self, period: u64) {
        let mut changes = self.changes.subscribe();
        let _ = changes.wait_for(|changes| *changes > period * 2).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_seen_even_if_it_is_over_at_once() {
        let outage = Outage::new();
        let period = outage.period();
        let first = outage.begin();
        assert!(outage.is_down() && outage.begin().is_none());
        assert!(!outage.over_within(Duration::from_secs(1)).await);
        assert!(outage.end(first) && !outage.end(first));
        outage.since(period).await;
        assert!(outage.over_within(Duration::from_secs(1)).await);
        assert_eq!(outage.period(), period + 1);
    }
}
