//! Points in time, to the millisecond.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost_reflect::prost_types;

use crate::clock;

/// From here on a number is milliseconds, were it meant as seconds or not: as seconds it is the
/// year 5138, as milliseconds 1973.
const MILLIS_FROM: u64 = 100_000_000_000;

/// The end of the year 9999, the last that RFC 3339 can write, in milliseconds.
const LAST_WRITTEN: u64 = 253_402_300_799_999;

/// A point in time, in whole milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Returns the present, by the clock that tests can pause.
    #[must_use]
    pub fn now() -> Self {
        Self(u64::try_from(clock::since_epoch().as_millis()).unwrap_or(u64::MAX))
    }

    /// Returns the point `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Reads a number that should be seconds since the Unix epoch, and that many senders fill with
    /// milliseconds.
    #[must_use]
    pub const fn from_seconds(number: u64) -> Self {
        Self(if number < MILLIS_FROM { number * 1000 } else { number })
    }

    /// Returns the seconds since the Unix epoch, at most those that
    /// [`from_seconds`](Self::from_seconds) reads as such: until the year 5138.
    #[must_use]
    pub const fn as_seconds(self) -> u64 {
        let seconds = self.0 / 1000;
        if seconds < MILLIS_FROM { seconds } else { MILLIS_FROM - 1 }
    }

    /// Reads RFC 3339 (`2026-11-21T13:00:00.5Z`), rounded down to the millisecond; `None` where the
    /// text is something else, or a time before the Unix epoch.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let time: prost_types::Timestamp = text.parse().ok()?;
        let millis = u64::try_from(time.seconds).ok()?.checked_mul(1000)?;
        Some(Self(millis + u64::try_from(time.nanos).ok()? / 1_000_000))
    }

    /// Writes RFC 3339, in UTC; `None` beyond the year 9999.
    #[must_use]
    pub fn to_rfc3339(self) -> Option<String> {
        let seconds = i64::try_from(self.0 / 1000).ok()?;
        let nanos = i32::try_from(self.0 % 1000 * 1_000_000).ok()?;
        let within = self.0 <= LAST_WRITTEN;
        within.then(|| prost_types::Timestamp { seconds, nanos }.to_string())
    }

    /// Returns the milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the point `duration` later, rounded up to the millisecond.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        Self(self.0.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX)))
    }

    /// Returns how long it is until this point: zero once it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(Self::now().0))
    }

    /// Tells whether this point has passed.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self <= Self::now()
    }
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_millis(timestamp.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_a_millisecond_later_is_a_millisecond_later() {
        let start = Timestamp::from_millis(5);
        assert_eq!(start.after(Duration::from_micros(1)).as_millis(), 6);
        assert_eq!(start.after(Duration::ZERO), start);
        assert_eq!(start.after(Duration::MAX).as_millis(), u64::MAX);
    }

    #[test]
    fn seconds_and_milliseconds_are_told_apart() {
        let at = Timestamp::from_millis(1_795_266_000_000);
        assert_eq!(Timestamp::from_seconds(1_795_266_000), at);
        assert_eq!(Timestamp::from_seconds(1_795_266_000_000), at);
        assert_eq!(Timestamp::from_seconds(u64::MAX).as_millis(), u64::MAX);
        for at in [at, Timestamp::from_millis(u64::MAX)] {
            let seconds = at.as_seconds();
            assert_eq!(Timestamp::from_seconds(seconds).as_seconds(), seconds);
        }
    }

    #[test]
    fn rfc_3339_reads_back() {
        let at = Timestamp::from_millis(1_795_266_000_123);
        assert_eq!(at.to_rfc3339().as_deref(), Some("2026-11-21T13:00:00.123Z"));
        for text in ["2026-11-21T13:00:00.123Z", "2026-11-21T14:00:00.123456+01:00"] {
            assert_eq!(Timestamp::from_rfc3339(text), Some(at), "{text}");
        }
        for nonsense in ["", "today", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z", "1795266000"]
        {
            assert_eq!(Timestamp::from_rfc3339(nonsense), None, "{nonsense}");
        }
        assert_eq!(Timestamp::from_millis(u64::MAX).to_rfc3339(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_remains_shrinks_with_the_paused_clock() {
        let due = Timestamp::now().after(Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(due.remaining(), Duration::ZERO);
        assert!(due.has_passed());
    }
}
