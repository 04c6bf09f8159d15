//! Times as they are written on the command line, and as they are shown.

use std::time::Duration;

use agentbus::message::Timestamp;
use jiff::SignedDuration;

/// Reads a time such as `30s`, `2m`, `1h 30m`; zero is allowed.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let read = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    read.ok_or_else(|| "write a time such as `250ms`, `30s`, `2m` or `1h 30m`".to_owned())
}

/// Reads a time above zero.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    let positive = duration(text)?;
    if positive.is_zero() {
        return Err("write a time above zero, such as `30s` or `2m`".to_owned());
    }
    Ok(positive)
}

/// Reads a moment such as `2030-01-31T08:00:00Z`.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    const ALLOWED: &str = "write a moment with its offset, such as `2030-01-31T08:00:00Z`";
    let read: jiff::Timestamp = text.parse().map_err(|_| ALLOWED.to_owned())?;
    let millis = u64::try_from(read.as_millisecond()).map_err(|_| ALLOWED.to_owned())?;
    Ok(Timestamp::from_millis(millis))
}

/// Writes a moment as RFC 3339, to the millisecond; one beyond the calendar as a number.
pub(crate) fn shown(moment: Timestamp) -> String {
    let millis = i64::try_from(moment.as_millis()).ok();
    match millis.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok()) {
        Some(moment) => format!("{moment:.3}"),
        None => format!("{} ms", moment.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("1h 30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "soon", "30", "-5s", "1 fortnight"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(timeout("0s").unwrap_err().contains("above zero"));
    }

    #[test]
    fn moments_have_an_offset() {
        let read = moment("2030-01-31T09:00:00.5+01:00").unwrap();
        assert_eq!(shown(read), "2030-01-31T08:00:00.500Z");
        for wrong in ["", "tomorrow", "2030-01-31", "2030-01-31T08:00:00", "1960-01-01T00:00:00Z"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
        assert_eq!(shown(Timestamp::from_millis(u64::MAX)), format!("{} ms", u64::MAX));
    }
}
