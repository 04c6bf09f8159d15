//! Finds the range in a question.

mod calendar;
mod length;
mod phrase;

use jiff::civil::Date;

use super::{
    Word,
    clarification::{Clarification, Reason},
};
use crate::range::Span;

/// The range of a question, and which words it took.
#[derive(Debug)]
pub(super) struct Time {
    pub(super) span: Option<Span>,
    pub(super) used: Vec<bool>,
}

/// A range that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Found {
    span: Span,
    /// It gives way to a range that is stated outright: the 30 days of "30-day volatility in 2023".
    is_weak: bool,
}

/// A phrase that was read, and how many words it took.
type Read<T> = Result<Option<(T, usize)>, Clarification>;

/// Tells whether `word` names a month, a quarter or a unit of time.
pub(super) fn is_word(word: &Word) -> bool {
    calendar::month(word).is_some()
        || calendar::part(word).is_some()
        || length::unit(word).is_some()
}

/// Finds the one range that `words` state.
pub(super) fn find(words: &[Word]) -> Result<Time, Clarification> {
    let mut used = vec![false; words.len()];
    let mut found: Vec<Found> = Vec::new();
    let mut i = 0;
    while i < words.len() {
        if let Some((range, length)) = phrase::read(&words[i..])? {
            used[i..i + length].fill(true);
            if !found.contains(&range) {
                found.push(range);
            }
            i += length;
        } else {
            i += 1;
        }
    }
    Ok(Time { span: merge(found)?, used })
}

fn merge(mut found: Vec<Found>) -> Result<Option<Span>, Clarification> {
    if found.iter().any(|range| !range.is_weak) {
        found.retain(|range| !range.is_weak);
    } else if found.iter().any(|range| range.span != Span::Whole) {
        found.retain(|range| range.span != Span::Whole);
    }
    let spans: Vec<_> = found.into_iter().map(|range| range.span).collect();
    match spans[..] {
        [] => Ok(None),
        [span] => Ok(Some(span)),
        [
            Span::Between { from: Some(from), to: None },
            Span::Between { from: None, to: Some(to) },
        ]
        | [
            Span::Between { from: None, to: Some(to) },
            Span::Between { from: Some(from), to: None },
        ] => between(from, to).map(Some),
        _ => {
            let suggestions = spans.iter().map(suggestion);
            let question = "Only one range can be asked for at a time; which one do you mean?";
            Err(Clarification::new(Reason::ContradictoryRange, question, suggestions))
        }
    }
}

/// Returns the span from `from` to `to`, unless it ends before it begins.
fn between(from: Date, to: Date) -> Result<Span, Clarification> {
    if from <= to {
        return Ok(Span::Between { from: Some(from), to: Some(to) });
    }
    let swapped = format!("between {to} and {from}");
    let question =
        format!("The range ends on {to}, before it begins on {from}; do you mean {swapped}?");
    Err(Clarification::new(Reason::ReversedRange, question, [swapped]))
}

fn suggestion(span: &Span) -> String {
    match span {
        Span::Last { count: 1, unit } => format!("in the last {unit}"),
        Span::Last { count, unit } => format!("in the last {count} {unit}s"),
        Span::Between { from: Some(from), to: Some(to) } => format!("between {from} and {to}"),
        Span::Between { from: Some(from), to: None } => format!("since {from}"),
        Span::Between { from: None, to: Some(to) } => format!("until {to}"),
        Span::Whole | Span::Between { from: None, to: None } => "of all time".into(),
        Span::Current(unit) => format!("this {unit}"),
        Span::DaysAgo(0) => "today".into(),
        Span::DaysAgo(1) => "yesterday".into(),
        Span::DaysAgo(days) => format!("{days} days ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::words, *};

    fn of(text: &str) -> Option<String> {
        let words = words::split(text, &[]);
        find(&words).expect(text).span.as_ref().map(suggestion)
    }

    #[test]
    fn ranges_are_found_in_sentences() {
        for (text, span) in [
            ("in the last 90 days", "in the last 90 days"),
            ("over the past three months", "in the last 3 months"),
            ("the previous 2 weeks", "in the last 2 weeks"),
            ("past year", "in the last year"),
            ("last quarter", "in the last 3 months"),
            ("last 90d", "in the last 90 days"),
            ("a 30-day volatility", "in the last 30 days"),
            ("30-day volatility in 2023", "between 2023-01-01 and 2023-12-31"),
            ("last half year", "in the last 6 months"),
            ("last couple of weeks", "in the last 2 weeks"),
            ("since 90 days ago", "in the last 90 days"),
            ("since yesterday", "in the last day"),
            ("since last month", "in the last month"),
            ("3 days ago", "3 days ago"),
            ("two weeks ago", "14 days ago"),
            ("the last 30 trading days", "in the last 30 days"),
            ("today", "today"),
            ("yesterday", "yesterday"),
            ("this month", "this month"),
            ("YTD", "this year"),
            ("year to date", "this year"),
            ("since the start of the year", "this year"),
            ("since 2024-03-01", "since 2024-03-01"),
            ("since March 2024", "since 2024-03-01"),
            ("since 2023", "since 2023-01-01"),
            ("since 1st of March, 2024", "since 2024-03-01"),
            ("after 2023", "since 2024-01-01"),
            ("from March 5th 2024 on", "since 2024-03-05"),
            ("until 5 March 2024", "until 2024-03-05"),
            ("before March 2024", "until 2024-02-29"),
            ("up to 2024-03-05", "until 2024-03-05"),
            ("since 2024-01-01, until 2024-02-01", "between 2024-01-01 and 2024-02-01"),
            ("in March 2024", "between 2024-03-01 and 2024-03-31"),
            ("in February of 2024", "between 2024-02-01 and 2024-02-29"),
            ("on Sept 3, 2024", "between 2024-09-03 and 2024-09-03"),
            ("in 2023", "between 2023-01-01 and 2023-12-31"),
            ("2023", "between 2023-01-01 and 2023-12-31"),
            ("in 2024-03", "between 2024-03-01 and 2024-03-31"),
            ("in 03/2024", "between 2024-03-01 and 2024-03-31"),
            ("Q1 2024", "between 2024-01-01 and 2024-03-31"),
            ("the first quarter of 2024", "between 2024-01-01 and 2024-03-31"),
            ("H2 2024", "between 2024-07-01 and 2024-12-31"),
            ("between 2024-01-01 and 2024-03-31", "between 2024-01-01 and 2024-03-31"),
            ("between Jan and Mar 2024", "between 2024-01-01 and 2024-03-31"),
            ("from March 5 to March 9, 2024", "between 2024-03-05 and 2024-03-09"),
            ("from 2022 to 2023", "between 2022-01-01 and 2023-12-31"),
            ("2022 and 2023", "between 2022-01-01 and 2023-12-31"),
            ("2022-2023", "between 2022-01-01 and 2023-12-31"),
            ("2024-03-01 - 2024-03-31", "between 2024-03-01 and 2024-03-31"),
            ("2024-03-01 through 2024-03-31", "between 2024-03-01 and 2024-03-31"),
            ("from 2024-03-01 until now", "since 2024-03-01"),
            ("from 2024-03-01 to today", "since 2024-03-01"),
            ("of all time", "of all time"),
            ("over its whole history", "of all time"),
            ("recently", "in the last 30 days"),
        ] {
            assert_eq!(of(text).as_deref(), Some(span), "{text}");
        }
    }

    #[test]
    fn other_words_are_no_range() {
        for text in [
            "between ZEC and BTC",
            "from ZEC to BTC",
            "the last one",
            "may it march on",
            "in it",
            "100",
            "a day",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn unclear_ranges_are_asked_back() {
        for (text, reason) in [
            ("since January", Reason::UnclearRange),
            ("last March", Reason::UnclearRange),
            ("between 2024-01-01 and", Reason::UnclearRange),
            ("between 2024-01-01 and BTC", Reason::UnclearRange),
            ("2024-13", Reason::UnclearRange),
            ("this quarter", Reason::UnclearRange),
            ("in summer 2024", Reason::UnclearRange),
            ("last Monday", Reason::UnclearRange),
            ("over the last 24 hours", Reason::UnclearRange),
            ("in Q3", Reason::UnclearRange),
            ("two months ago", Reason::UnclearRange),
            ("tomorrow", Reason::UnclearRange),
            ("next 30 days", Reason::UnclearRange),
            ("from June 2024 to March 2024", Reason::ReversedRange),
            ("since 2024-03-01 before 2024-01-01", Reason::ReversedRange),
            ("since 2024 and in the last week", Reason::ContradictoryRange),
            ("yesterday or today", Reason::ContradictoryRange),
        ] {
            let words = words::split(text, &[]);
            let reasons = find(&words).map_err(|back| back.reason).map(|time| time.span);
            assert_eq!(reasons, Err(reason), "{text}");
        }
    }
}
