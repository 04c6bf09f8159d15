//! How values are written: numbers, times, sizes and words, the same in the file and in the environment.

use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Reads any text.
#[expect(clippy::unnecessary_wraps, reason = "the table of settings wants one signature")]
pub(super) fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Reads one of `words`; case does not matter, and `_` is taken for `-`.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Option<T> {
    let text = text.to_ascii_lowercase().replace('_', "-");
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
}

/// Reads a whole number; `_` may group its digits.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    if digits { text.replace('_', "").parse().ok() } else { None }
}

/// Reads `5s`, `250ms`, `1.5h`, or seconds without a unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (amount, unit) = split_unit(text);
    let unit = match unit {
        "ms" => MS,
        "" | "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        _ => return None,
    };
    if let Some(amount) = number::<u32>(amount) {
        return unit.checked_mul(amount);
    }
    let seconds = decimal(amount)? * unit.as_secs_f64();
    Duration::try_from_secs_f64(seconds).ok()
}

/// As [`duration`], or `none`.
#[expect(clippy::option_option, reason = "no value is not the same as the value `none`")]
pub(super) fn optional_duration(text: &str) -> Option<Option<Duration>> {
    if text.eq_ignore_ascii_case("none") { Some(None) } else { duration(text).map(Some) }
}

/// Reads `16MiB`, or bytes without a unit.
pub(super) fn bytes<T: TryFrom<u64>>(text: &str) -> Option<T> {
    let (amount, unit) = split_unit(text);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1_u64 << 40,
        _ => return None,
    };
    T::try_from(number::<u64>(amount)?.checked_mul(unit)?).ok()
}

fn split_unit(text: &str) -> (&str, &str) {
    let (amount, unit) =
        text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    (amount.trim_end(), unit)
}

/// Reads digits with a point; what else `f64` would take (`inf`, `1e9`, a sign) is no amount of time.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        let read = |text: &str| duration(text).map(|time| time.as_millis());
        assert_eq!(read("5s"), Some(5000));
        assert_eq!(read("250ms"), Some(250));
        assert_eq!(read("2m"), Some(120_000));
        assert_eq!(read("1h"), Some(3_600_000));
        assert_eq!(read("1d"), Some(86_400_000));
        assert_eq!(read("30"), Some(30_000));
        assert_eq!(read("0.5"), Some(500));
        assert_eq!(read("1.5 h"), Some(5_400_000));
        for text in
            ["", "s", "-1s", "5 weeks", "1e9", "inf", "NaN", "1..2", "5s5", "99999999999999999999h"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_have_a_unit_or_are_bytes() {
        assert_eq!(bytes("1024"), Some(1024_usize));
        assert_eq!(bytes("16MiB"), Some(16_777_216_usize));
        assert_eq!(bytes("1 gib"), Some(1_u64 << 30));
        for text in ["", "MiB", "16MB", "-1", "99999999999TiB"] {
            assert_eq!(bytes::<u64>(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_may_group_their_digits() {
        assert_eq!(number("1_000_000"), Some(1_000_000_u64));
        assert_eq!(number::<u16>("65536"), None);
        assert_eq!(number::<u16>("+5"), None);
        assert_eq!(number::<u16>("_"), None);
    }

    #[test]
    fn words_ignore_case_and_take_underscores() {
        let read = |text: &str| word(text, &[("drop-oldest", 1)]);
        assert_eq!(read("Drop_Oldest"), Some(1));
        assert_eq!(read("drop"), None);
    }
}
