//! Wall-clock time that follows tokio's clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Returns the time since the Unix epoch.
///
/// Where a test has paused tokio's clock, this stands still and moves with it, so that deadlines,
/// times to live and delays all agree; otherwise it is the system's clock.
pub(crate) fn since_epoch() -> Duration {
    let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let before = Instant::now();
    let tokio = tokio::time::Instant::now().into_std();
    let after = Instant::now();
    // A running clock shows a time between the two, however long this thread was held up; a
    // paused one stands behind, or was moved ahead.
    if tokio < before {
        system.saturating_sub(before - tokio)
    } else {
        system.saturating_add(tokio.saturating_duration_since(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_moves_with_a_paused_clock() {
        let before = since_epoch();
        tokio::time::advance(Duration::from_hours(1)).await;
        let moved = since_epoch().abs_diff(before);
        assert!(moved.abs_diff(Duration::from_hours(1)) < Duration::from_secs(1), "{moved:?}");
    }
}
