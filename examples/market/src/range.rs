//! Ranges of dates: as a question states them, and as they come out once the newest date is known.

use std::fmt;

use jiff::civil::Date;

/// A unit of calendar time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A day.
    Day,
    /// Seven days; a calendar week begins on Monday.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        })
    }
}

/// First and last day, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateRange {
    /// First day.
    pub from: Date,
    /// Last day.
    pub to: Date,
}

impl fmt::Display for DateRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.from, self.to)
    }
}

/// A range as a question states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// All dates that the assets share: what a question without a range gets.
    Whole,
    /// So many units back from the newest date: "last 90 days".
    Last {
        /// How many units.
        count: u32,
        /// Of what.
        unit: Unit,
    },
    /// Dates that the question names; an open side is `None`.
    Between {
        /// First day.
        from: Option<Date>,
        /// Last day.
        to: Option<Date>,
    },
    /// The calendar unit that holds the newest date, up to that date: "this year".
    Current(Unit),
    /// So many days before the newest date, with the day before it so that there is a change to
    /// tell: "yesterday" is 1.
    DaysAgo(u32),
}

impl Span {
    /// Tells whether the range can be told without knowing any price.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        matches!(self, Self::Between { from: Some(_), to: Some(_) })
    }

    /// Returns the days of this range, where `shared` is the oldest and the newest date that all
    /// the assets have.
    ///
    /// "Last 90 days" begins 90 days before the newest date, so it holds 90 daily returns. Dates
    /// that were named are used as they are, even where they lie outside `shared`. The range is
    /// reversed where a named date lies beyond the open side.
    #[must_use]
    pub fn resolve(&self, shared: DateRange) -> DateRange {
        let DateRange { from: oldest, to: newest } = shared;
        match *self {
            Self::Whole => shared,
            Self::Last { count, unit } => DateRange { from: back(newest, count, unit), to: newest },
            Self::Between { from, to } => {
                DateRange { from: from.unwrap_or(oldest), to: to.unwrap_or(newest) }
            }
            Self::Current(unit) => DateRange { from: start_of(newest, unit), to: newest },
            Self::DaysAgo(days) => {
                let to = back(newest, days, Unit::Day);
                DateRange { from: back(to, 1, Unit::Day), to }
            }
        }
    }

    /// Says how the range came about, for the answer; `newest` is the newest date that all the
    /// assets have.
    #[must_use]
    pub fn describe(&self, newest: Date) -> String {
        match *self {
            Self::Whole => "all dates that the assets share".into(),
            Self::Last { count: 1, unit } => {
                format!("the last {unit}, counted back from {newest}")
            }
            Self::Last { count, unit } => {
                format!("the last {count} {unit}s, counted back from {newest}")
            }
            Self::Between { from: Some(_), to: Some(_) } => "the dates that were asked for".into(),
            Self::Between { from: Some(from), to: None } => {
                format!("since {from}, up to {newest}, the newest date that the assets share")
            }
            Self::Between { from: None, to: Some(to) } => {
                format!("up to {to}, from the oldest date that the assets share")
            }
            Self::Between { from: None, to: None } => Self::Whole.describe(newest),
            Self::Current(Unit::Day) => format!("the newest date, {newest}"),
            Self::Current(unit) => {
                format!("the {unit} of {newest}, the newest date, up to that date")
            }
            Self::DaysAgo(0) => format!("the newest date, {newest}, against the day before"),
            Self::DaysAgo(1) => format!("the day before {newest}, against the day before it"),
            Self::DaysAgo(days) => {
                format!("the day {days} days before {newest}, against the day before it")
            }
        }
    }
}

fn back(date: Date, count: u32, unit: Unit) -> Date {
    let span = jiff::Span::new();
    let count = i64::from(count);
    match unit {
        Unit::Day => span.try_days(count),
        Unit::Week => span.try_weeks(count),
        Unit::Month => span.try_months(count),
        Unit::Year => span.try_years(count),
    }
    .and_then(|span| date.checked_sub(span))
    .unwrap_or(Date::MIN)
}

fn start_of(date: Date, unit: Unit) -> Date {
    match unit {
        Unit::Day => date,
        Unit::Week => {
            let since_monday = date.weekday().to_monday_zero_offset();
            back(date, u32::from(since_monday.unsigned_abs()), Unit::Day)
        }
        Unit::Month => date.first_of_month(),
        Unit::Year => date.first_of_year(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn spans_resolve_against_the_dates_that_are_shared() {
        let shared = DateRange { from: date(2020, 2, 1), to: date(2024, 3, 31) };
        let last = |count, unit| Span::Last { count, unit };
        for (span, from, to) in [
            (Span::Whole, "2020-02-01", "2024-03-31"),
            (last(90, Unit::Day), "2024-01-01", "2024-03-31"),
            (last(2, Unit::Week), "2024-03-17", "2024-03-31"),
            (last(1, Unit::Month), "2024-02-29", "2024-03-31"),
            (last(1, Unit::Year), "2023-03-31", "2024-03-31"),
            (last(10, Unit::Year), "2014-03-31", "2024-03-31"),
            (Span::Current(Unit::Year), "2024-01-01", "2024-03-31"),
            (Span::Current(Unit::Month), "2024-03-01", "2024-03-31"),
            (Span::Current(Unit::Week), "2024-03-25", "2024-03-31"),
            (Span::Current(Unit::Day), "2024-03-31", "2024-03-31"),
            (Span::DaysAgo(0), "2024-03-30", "2024-03-31"),
            (Span::DaysAgo(1), "2024-03-29", "2024-03-30"),
            (Span::Between { from: Some(date(2024, 1, 5)), to: None }, "2024-01-05", "2024-03-31"),
            (Span::Between { from: None, to: Some(date(2024, 1, 5)) }, "2020-02-01", "2024-01-05"),
            (Span::Between { from: Some(date(2030, 1, 5)), to: None }, "2030-01-05", "2024-03-31"),
        ] {
            let range = span.resolve(shared);
            assert_eq!(
                (range.from.to_string().as_str(), range.to.to_string().as_str()),
                (from, to),
                "{span:?}"
            );
        }
    }

    #[test]
    fn a_count_beyond_the_calendar_ends_at_its_beginning() {
        let shared = DateRange { from: date(2020, 2, 1), to: date(2024, 3, 31) };
        for unit in [Unit::Day, Unit::Week, Unit::Month, Unit::Year] {
            assert_eq!(Span::Last { count: u32::MAX, unit }.resolve(shared).from, Date::MIN);
        }
        assert_eq!(Span::DaysAgo(u32::MAX).resolve(shared).to, Date::MIN);
    }

    #[test]
    fn a_description_says_what_was_counted_from() {
        let newest = date(2025, 12, 31);
        for (span, text) in [
            (
                Span::Last { count: 90, unit: Unit::Day },
                "the last 90 days, counted back from 2025-12-31",
            ),
            (
                Span::Last { count: 1, unit: Unit::Year },
                "the last year, counted back from 2025-12-31",
            ),
            (Span::Whole, "all dates that the assets share"),
            (Span::DaysAgo(1), "the day before 2025-12-31, against the day before it"),
        ] {
            assert_eq!(span.describe(newest), text);
        }
    }
}
