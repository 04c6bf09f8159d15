//! The phrases that state a range.

use jiff::civil::Date;

use super::{
    Clarification, Found, Read, Word, between,
    calendar::{self, Named},
    length::{self, Length},
};
use crate::range::{Span, Unit};

const BACK: [&str; 7] = ["last", "past", "previous", "trailing", "recent", "latest", "preceding"];
const TO: [&str; 6] = ["to", "until", "till", "through", "thru", "and"];
const NOW: [&str; 4] = ["now", "today", "present", "date"];
/// Names of times that are not read; without this a question about the summer of 2024 would be
/// answered with the whole of 2024.
const UNREAD: [&str; 15] = [
    "spring",
    "summer",
    "autumn",
    "winter",
    "christmas",
    "easter",
    "halloween",
    "weekend",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];
const IN: [&str; 9] = ["in", "during", "on", "for", "over", "throughout", "within", "of", "last"];

/// Reads a range at the beginning of `words`.
pub(super) fn read(words: &[Word]) -> Read<Found> {
    if let Some((span, length)) = set_phrase(words)? {
        return Ok(Some((Found { span, is_weak: span == Span::Whole }, length)));
    }
    for read in [counted_back, since, between_and, until, named] {
        if let Some((span, length)) = read(words)? {
            return Ok(Some((Found { span, is_weak: false }, length)));
        }
    }
    bare_length(words)
}

/// Skips `words` that are one of `fillers`, and returns how many there were.
fn skip(words: &[Word], fillers: &[&str]) -> usize {
    words.iter().take_while(|word| word.is(fillers)).count()
}

/// Tells whether `words` begin with the words of `phrase`, each given as alternatives.
fn begins(words: &[Word], phrase: &[&[&str]]) -> bool {
    words.len() >= phrase.len() && phrase.iter().zip(words).all(|(any, word)| word.is(any))
}

/// "today", "this month", "year to date", "of all time".
fn set_phrase(words: &[Word]) -> Read<Span> {
    let set: [(&[&[&str]], Span); 11] = [
        (&[&["all"], &["time", "history", "data", "dates"]], Span::Whole),
        (
            &[
                &["whole", "entire", "full", "complete"],
                &["history", "time", "period", "range", "record"],
            ],
            Span::Whole,
        ),
        (&[&["ever", "overall"]], Span::Whole),
        (&[&["ytd"]], Span::Current(Unit::Year)),
        (&[&["mtd"]], Span::Current(Unit::Month)),
        (&[&["year"], &["to"], &["date"]], Span::Current(Unit::Year)),
        (&[&["month"], &["to"], &["date"]], Span::Current(Unit::Month)),
        (&[&["since"], &["yesterday"]], Span::Last { count: 1, unit: Unit::Day }),
        (&[&["today"]], Span::DaysAgo(0)),
        (&[&["yesterday"]], Span::DaysAgo(1)),
        (&[&["recently", "lately"]], Span::Last { count: 30, unit: Unit::Day }),
    ];
    if let Some((phrase, span)) = set.iter().find(|(phrase, _)| begins(words, phrase)) {
        return Ok(Some((*span, phrase.len())));
    }
    if begins(words, &[&UNREAD]) {
        return Err(Clarification::unclear(
            format!("Which dates do you mean by {}?", words[0].typed),
            "between 2024-06-01 and 2024-08-31",
        ));
    }
    let is_future = begins(words, &[&["tomorrow"]])
        || begins(words, &[&["next"]])
            && (words.get(1).and_then(length::unit).is_some()
                || length::read(&words[1..])?.is_some());
    if is_future {
        return Err(Clarification::unclear(
            "There are only prices of the past; which range of it do you mean?",
            "in the last 30 days",
        ));
    }
    if begins(words, &[&["this", "current"]]) {
        return Ok(match words.get(1).and_then(length::unit) {
            Some((1, unit)) => Some((Span::Current(unit), 2)),
            Some(_) => {
                let question = "Which months do you mean, of which year?";
                return Err(Clarification::unclear(question, "Q1 2024"));
            }
            None => None,
        });
    }
    Ok(None)
}

/// "last 90 days", "since 3 months ago", "two weeks ago".
fn counted_back(words: &[Word]) -> Read<Span> {
    let since = skip(words, &["since", "the"]);
    if words.get(since).is_some_and(|word| word.is(&BACK)) {
        let at = since + 1;
        let rest = &words[at..];
        if let Some((Length { count, unit }, length)) = length::read(rest)? {
            return Ok(Some((Span::Last { count, unit }, at + length)));
        }
        let Some(next) = rest.first() else { return Ok(None) };
        if let Some((count, unit)) = length::unit(next) {
            return Ok(Some((Span::Last { count, unit }, at + 1)));
        }
        let is_vague =
            next.is(&["few", "several", "some"]) && rest.get(1).and_then(length::unit).is_some();
        if is_vague {
            let question = format!("How many {} are {} to you?", rest[1].lower, next.lower);
            return Err(Clarification::unclear(question, "in the last 30 days"));
        }
        let is_number = next.typed.bytes().all(|byte| byte.is_ascii_digit());
        if is_number && calendar::read(rest, false)?.is_none() {
            let question =
                format!("The last {} of what: days, weeks, months or years?", next.typed);
            return Err(Clarification::unclear(
                question,
                format!("in the last {} days", next.typed),
            ));
        }
        return Ok(None);
    }
    let Some((Length { count, unit }, length)) = length::read(&words[since..])? else {
        return Ok(None);
    };
    let taken = since + length + 1;
    if !words.get(taken - 1).is_some_and(|word| word.is(&["ago"])) {
        return Ok(None);
    }
    match unit {
        _ if since > 0 => Ok(Some((Span::Last { count, unit }, taken))),
        Unit::Day => Ok(Some((Span::DaysAgo(count), taken))),
        Unit::Week => Ok(Some((Span::DaysAgo(count.saturating_mul(7)), taken))),
        Unit::Month | Unit::Year => Err(Clarification::unclear(
            format!("Do you mean everything since {count} {unit}s ago, or one day?"),
            format!("in the last {count} {unit}s"),
        )),
    }
}

/// "since March 2024", "after 2023", "from 2024-01-01 to 2024-03-31".
fn since(words: &[Word]) -> Read<Span> {
    if !begins(words, &[&["since", "after", "from", "starting"]]) {
        return Ok(None);
    }
    let at = 1 + skip(&words[1..], &["the", "on", "in", "from", "end", "of"]);
    let rest = &words[at..];
    if begins(rest, &[&["start", "beginning"], &["of"], &["the", "this"]])
        && let Some((1, unit)) = rest.get(3).and_then(length::unit)
    {
        return Ok(Some((Span::Current(unit), at + 4)));
    }
    let Some((first, length)) = calendar::read(rest, true)? else { return Ok(None) };
    let taken = at + length;
    if let Some((last, length)) = end(&words[taken..])? {
        return range(first, last).map(|span| Some((span, taken + length)));
    }
    let until_now = begins(&words[taken..], &[&TO, &NOW])
        || begins(&words[taken..], &[&["on", "onwards", "onward"]]);
    let (from, to) = first.days()?;
    let from = if words[0].is(&["after"]) { to.tomorrow().unwrap_or(Date::MAX) } else { from };
    let length = if begins(&words[taken..], &[&TO, &NOW]) { 2 } else { usize::from(until_now) };
    Ok(Some((Span::Between { from: Some(from), to: None }, taken + length)))
}

/// "between 2024-01-01 and 2024-03-31".
fn between_and(words: &[Word]) -> Read<Span> {
    if !begins(words, &[&["between"]]) {
        return Ok(None);
    }
    let at = 1 + skip(&words[1..], &["the"]);
    let Some((first, length)) = calendar::read(&words[at..], true)? else { return Ok(None) };
    let taken = at + length;
    match end(&words[taken..])? {
        Some((last, length)) => range(first, last).map(|span| Some((span, taken + length))),
        None => Err(Clarification::unclear(
            "Between that date and which other one?",
            "between 2024-01-01 and 2024-03-31",
        )),
    }
}

/// "until 2024-03-31", "before March 2024".
fn until(words: &[Word]) -> Read<Span> {
    let at = if begins(words, &[&["up"], &["to"]]) {
        2
    } else if begins(words, &[&["until", "till", "before", "through", "thru"]]) {
        1
    } else {
        return Ok(None);
    };
    let at = at + skip(&words[at..], &["the", "end", "of"]);
    let Some((named, length)) = calendar::read(&words[at..], true)? else { return Ok(None) };
    let (from, to) = named.days()?;
    let to = if words[0].is(&["before"]) { from.yesterday().unwrap_or(Date::MIN) } else { to };
    Ok(Some((Span::Between { from: None, to: Some(to) }, at + length)))
}

/// "in March 2024", "2023", "March to June 2024".
fn named(words: &[Word]) -> Read<Span> {
    let prepositions = skip(words, &IN);
    let at = prepositions + skip(&words[prepositions..], &["the"]);
    let Some((first, length)) = calendar::read(&words[at..], prepositions > 0)? else {
        return Ok(None);
    };
    let taken = at + length;
    // "2022 and 2023" is one range, "2023 and 2021" is two.
    if let Some((last, length)) = end(&words[taken..])? {
        let is_and = words[taken].is(&["and"]);
        let adopted = first.or_year_of(last);
        let follows = || -> Result<bool, Clarification> {
            Ok(adopted.days()?.1.tomorrow().ok() == Some(last.days()?.0))
        };
        if !is_and || follows()? {
            return range(first, last).map(|span| Some((span, taken + length)));
        }
    }
    let (from, to) = first.days()?;
    Ok(Some((between(from, to)?, taken)))
}

/// "90 days" alone, as in "90-day volatility".
fn bare_length(words: &[Word]) -> Read<Found> {
    // "a day" and "d" alone are too little to be meant as a range.
    let is_number = words.first().is_some_and(|word| !word.is(&["a", "an", "one"]));
    let length = if is_number { length::read(words)? } else { None };
    Ok(length.map(|(Length { count, unit }, length)| {
        (Found { span: Span::Last { count, unit }, is_weak: true }, length)
    }))
}

/// The other end of a range: a date behind "to", or right behind the first date.
fn end(words: &[Word]) -> Read<Named> {
    let at = skip(words, &TO);
    let at = at + skip(&words[at..], &["the", "end", "of"]);
    let end = calendar::read(&words[at..], at > 0)?;
    Ok(end.map(|(named, length)| (named, at + length)))
}

/// Returns the span of two dates; a missing year is that of the other one.
fn range(first: Named, last: Named) -> Result<Span, Clarification> {
    let first = first.or_year_of(last);
    let last = last.or_year_of(first);
    between(first.days()?.0, last.days()?.1)
}
