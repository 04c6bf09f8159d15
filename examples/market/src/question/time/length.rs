//! Lengths of time: "90 days", "a couple of weeks".

use super::{Clarification, Read, Word};
use crate::range::Unit;

/// The longest length that is taken, in years.
const LONGEST: u64 = 200;

/// So many units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Length {
    pub(super) count: u32,
    pub(super) unit: Unit,
}

/// Returns what `word` measures in: a unit, and how many of it one is.
pub(super) fn unit(word: &Word) -> Option<(u32, Unit)> {
    Some(match word.lower.as_str() {
        "day" | "days" | "d" => (1, Unit::Day),
        "week" | "weeks" | "w" | "wk" => (1, Unit::Week),
        "fortnight" | "fortnights" => (2, Unit::Week),
        "month" | "months" | "mo" | "m" => (1, Unit::Month),
        "quarter" | "quarters" => (3, Unit::Month),
        "year" | "years" | "y" | "yr" | "yrs" => (1, Unit::Year),
        "decade" | "decades" => (10, Unit::Year),
        _ => return None,
    })
}

/// Returns the number that `word` stands for, at most `u32::MAX`.
fn number(word: &Word) -> Option<u32> {
    const WORDS: [(&str, u32); 19] = [
        ("a", 1),
        ("an", 1),
        ("one", 1),
        ("two", 2),
        ("three", 3),
        ("four", 4),
        ("five", 5),
        ("six", 6),
        ("seven", 7),
        ("eight", 8),
        ("nine", 9),
        ("ten", 10),
        ("twelve", 12),
        ("fourteen", 14),
        ("twenty", 20),
        ("thirty", 30),
        ("sixty", 60),
        ("ninety", 90),
        ("hundred", 100),
    ];
    if word.lower.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(word.lower.parse().unwrap_or(u32::MAX));
    }
    WORDS.iter().find(|(name, _)| *name == word.lower).map(|(_, number)| *number)
}

/// Reads a length at the beginning of `words`, with a number before the unit.
pub(super) fn read(words: &[Word]) -> Read<Length> {
    let Some(first) = words.first() else { return Ok(None) };
    let mut taken = 1;
    let count = if first.is(&["half"]) {
        let rest = words.iter().skip(1).take_while(|word| word.is(&["a"])).count();
        return Ok(words
            .get(1 + rest)
            .filter(|word| word.is(&["year"]))
            .map(|_| (Length { count: 6, unit: Unit::Month }, 2 + rest)));
    } else if first.is(&["couple"])
        || (first.is(&["a"]) && words.get(1).is_some_and(|word| word.is(&["couple"])))
    {
        taken += usize::from(first.is(&["a"]));
        taken += usize::from(words.get(taken).is_some_and(|word| word.is(&["of"])));
        2
    } else {
        let Some(count) = number(first) else { return Ok(None) };
        count
    };
    taken += usize::from(words.get(taken).is_some_and(|word| word.is(&["trading", "calendar"])));
    if words.get(taken).is_some_and(|word| word.is(&["hour", "hours", "minute", "minutes"])) {
        return Err(Clarification::unclear(
            "There is one price a day; how many days back do you mean?",
            "in the last day",
        ));
    }
    let Some((times, unit)) = words.get(taken).and_then(unit) else { return Ok(None) };
    let typed = || format!("{} {}", first.typed, words[taken].typed);
    let a_year = match unit {
        Unit::Day => 366,
        Unit::Week => 53,
        Unit::Month => 12,
        Unit::Year => 1,
    };
    let count = count.checked_mul(times);
    match count {
        Some(count) if count > 0 && u64::from(count) <= LONGEST * a_year => {
            Ok(Some((Length { count, unit }, taken + 1)))
        }
        _ => Err(Clarification::unclear(
            format!("How far back shall it go, since `{}` is no range of prices?", typed()),
            "in the last 90 days",
        )),
    }
}
