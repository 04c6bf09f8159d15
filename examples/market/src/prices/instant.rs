//! The time of a row.

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    tz::Offset,
};

/// A day in UTC and how late in it; a row with a date alone counts as the last of its day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instant {
    pub(super) date: Date,
    pub(super) time: Option<Time>,
}

impl Instant {
    /// Reads an ISO date or an RFC 3339 time; without an offset the time is taken as UTC.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // Nothing shorter is a whole date, and jiff would take `20240131` for one.
        if text.len() < 10 || text.as_bytes().get(4) != Some(&b'-') {
            return None;
        }
        if text.len() == 10 {
            return Some(Self { date: text.parse().ok()?, time: None });
        }
        if let Some(instant) = Self::parse_usual(text.as_bytes()) {
            return Some(instant);
        }
        let moment = match text.parse::<Timestamp>() {
            Ok(timestamp) => Offset::UTC.to_datetime(timestamp),
            Err(_) => text.parse::<DateTime>().ok()?,
        };
        Some(Self { date: moment.date(), time: Some(moment.time()) })
    }

    /// Reads `2024-01-31T12:30:00Z`, the form that files of minutes have; the general way takes
    /// twice as long as everything else that is done with a row.
    fn parse_usual(text: &[u8]) -> Option<Self> {
        let &[
            y1,
            y2,
            y3,
            y4,
            b'-',
            m1,
            m2,
            b'-',
            d1,
            d2,
            b'T' | b' ',
            h1,
            h2,
            b':',
            n1,
            n2,
            b':',
            s1,
            s2,
            b'Z',
        ] = text
        else {
            return None;
        };
        let two = |tens: u8, ones: u8| {
            let is_number = tens.is_ascii_digit() && ones.is_ascii_digit();
            is_number.then(|| (10 * (tens - b'0') + (ones - b'0')).cast_signed())
        };
        let year = 100 * i16::from(two(y1, y2)?) + i16::from(two(y3, y4)?);
        Some(Self {
            date: Date::new(year, two(m1, m2)?, two(d1, d2)?).ok()?,
            time: Some(Time::new(two(h1, h2)?, two(n1, n2)?, two(s1, s2)?, 0).ok()?),
        })
    }

    /// Tells whether this is at or after `other`, on the same day.
    pub(super) fn replaces(self, other: Option<Time>) -> bool {
        match (self.time, other) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(time), Some(other)) => time >= other,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::{date, time};

    use super::*;

    #[test]
    fn dates_and_times_are_read_in_utc() {
        let day = date(2024, 1, 31);
        for (text, date, time) in [
            ("2024-01-31", day, None),
            ("2024-01-31T12:30:00Z", day, Some(time(12, 30, 0, 0))),
            ("2024-01-31T23:30:00-02:00", date(2024, 2, 1), Some(time(1, 30, 0, 0))),
            ("2024-01-31 12:30:00+00:00", day, Some(time(12, 30, 0, 0))),
            ("2024-01-31 12:30:00", day, Some(time(12, 30, 0, 0))),
            ("2024-01-31T12:30", day, Some(time(12, 30, 0, 0))),
            ("2024-01-31T12:30:00.5Z", day, Some(time(12, 30, 0, 500_000_000))),
        ] {
            assert_eq!(Instant::parse(text), Some(Instant { date, time }), "{text}");
        }
        for text in [
            "",
            "2024",
            "2024-01",
            "20240131",
            "2024-02-30",
            "31.01.2024",
            "1706659200",
            "yesterday",
            "2024-01-31T25:00:00Z",
            "2024-1-31x",
            "éééééé",
        ] {
            assert_eq!(Instant::parse(text), None, "{text}");
        }
    }
}
