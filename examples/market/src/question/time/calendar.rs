//! Dates as they are written: days, months, quarters and years.

use jiff::civil::Date;

use super::{Clarification, Read, Word, length};

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// A day, some months or a year; the year may be missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Named {
    year: Option<i16>,
    /// First and last month.
    months: (i8, i8),
    day: Option<i8>,
}

impl Named {
    fn year(year: i16) -> Self {
        Self { year: Some(year), months: (1, 12), day: None }
    }

    /// Takes the year of `other` where it has none itself.
    pub(super) fn or_year_of(self, other: Self) -> Self {
        Self { year: self.year.or(other.year), ..self }
    }

    /// Returns the first and the last day, or asks for what is missing.
    pub(super) fn days(self) -> Result<(Date, Date), Clarification> {
        let (first, last) = self.months;
        let Some(year) = self.year else {
            let name = usize::try_from(first - 1).ok().and_then(|month| MONTHS.get(month));
            let name: String = name.map(|name| capitalised(name)).unwrap_or_default();
            let named = match self.day {
                Some(day) => format!("{name} {day}"),
                None if first == last => name,
                None if last - first == 2 => format!("Q{}", last / 3),
                None => format!("H{}", last / 6),
            };
            return Err(Clarification::unclear(
                format!("Of which year do you mean {named}?"),
                match self.day {
                    Some(_) => format!("{named}, 2024"),
                    None => format!("{named} 2024"),
                },
            ));
        };
        let days = match self.day {
            Some(day) => Date::new(year, first, day).map(|day| (day, day)),
            None => Date::new(year, first, 1)
                .and_then(|from| Ok((from, Date::new(year, last, 1)?.last_of_month()))),
        };
        days.map_err(|_| {
            let typed = match self.day {
                Some(day) => format!("{year:04}-{first:02}-{day:02}"),
                None => format!("{year:04}-{first:02}"),
            };
            no_such_date(&typed)
        })
    }
}

fn capitalised(name: &str) -> String {
    name.chars().take(1).flat_map(char::to_uppercase).chain(name.chars().skip(1)).collect()
}

fn no_such_date(typed: &str) -> Clarification {
    Clarification::unclear(
        format!("There is no date `{typed}`; which one do you mean?"),
        "2024-03-01",
    )
}

/// Returns the number of the month that `word` names, in full or by three letters.
pub(super) fn month(word: &Word) -> Option<i8> {
    let name = if word.lower == "sept" { "sep" } else { word.lower.as_str() };
    let found = MONTHS.iter().position(|month| *month == name || month.get(..3) == Some(name))?;
    i8::try_from(found + 1).ok()
}

/// Returns the months of a part of the year: `Q1`, `H2`.
pub(super) fn part(word: &Word) -> Option<(i8, i8)> {
    Some(match word.lower.as_str() {
        "q1" => (1, 3),
        "q2" => (4, 6),
        "q3" => (7, 9),
        "q4" => (10, 12),
        "h1" => (1, 6),
        "h2" => (7, 12),
        _ => return None,
    })
}

/// Reads a date at the beginning of `words`.
///
/// A month or a part of a year that stands alone, without day and year, is only read where
/// `is_expected`: "may" and "march" are other words as well.
pub(super) fn read(words: &[Word], is_expected: bool) -> Read<Named> {
    let Some(first) = words.first() else { return Ok(None) };
    if let Some(named) = numeric(first)? {
        return Ok(Some((named, 1)));
    }
    if let Some(year) = year(first) {
        return Ok(Some((Named::year(year), 1)));
    }
    let (months, day, mut taken) = if let Some(month) = month(first) {
        match day(&words[1..]) {
            Some((day, length)) => ((month, month), Some(day), 1 + length),
            None => ((month, month), None, 1),
        }
    } else if let Some((day, length)) = day(words) {
        let length = length + usize::from(words.get(length).is_some_and(|word| word.is(&["of"])));
        let Some(month) = words.get(length).and_then(month) else { return Ok(None) };
        ((month, month), Some(day), length + 1)
    } else if let Some(months) = part(first) {
        (months, None, 1)
    } else if let Some(quarter) =
        ["first", "second", "third", "fourth"].iter().position(|name| *name == first.lower)
        && words.get(1).is_some_and(|word| word.is(&["quarter"]))
    {
        let last = i8::try_from(3 * quarter + 3).unwrap_or(12);
        ((last - 2, last), None, 2)
    } else {
        return Ok(None);
    };
    let of = usize::from(words.get(taken).is_some_and(|word| word.is(&["of"])));
    let year = words.get(taken + of).and_then(year);
    if year.is_some() {
        taken += of + 1;
    }
    let is_date = year.is_some() || day.is_some() || is_expected;
    Ok(is_date.then_some((Named { year, months, day }, taken)))
}

fn year(word: &Word) -> Option<i16> {
    let is_year = word.typed.len() == 4 && word.typed.bytes().all(|byte| byte.is_ascii_digit());
    word.typed.parse().ok().filter(|year| is_year && (1900..2200).contains(year))
}

/// Reads the day of a month: `5`, `5th`.
fn day(words: &[Word]) -> Option<(i8, usize)> {
    let digits = words.first().filter(|word| word.typed.len() <= 2)?;
    let day = digits.typed.parse().ok().filter(|day| (1..=31).contains(day))?;
    let suffix = words.get(1).is_some_and(|word| word.is(&["st", "nd", "rd", "th"]));
    let is_length = words.get(1).and_then(length::unit).is_some();
    (!is_length).then_some((day, 1 + usize::from(suffix)))
}

/// Reads a date in numbers; asks back where it does not exist or its order cannot be told.
fn numeric(word: &Word) -> Result<Option<Named>, Clarification> {
    let typed = word.typed.as_str();
    let Some(joint) = typed.chars().find(|c| !c.is_ascii_digit()) else { return Ok(None) };
    let numbers: Option<Vec<i16>> = typed.split(joint).map(|number| number.parse().ok()).collect();
    let month = |month: i16| {
        let month = i8::try_from(month).ok().filter(|month| (1..=12).contains(month));
        month.ok_or_else(|| no_such_date(typed))
    };
    let is_year_first = typed.find(joint) == Some(4);
    match numbers.as_deref() {
        Some(&[year, number, day]) if is_year_first => {
            let month = month(number)?;
            let day = i8::try_from(day).ok();
            let is_date = day.is_some_and(|day| Date::new(year, month, day).is_ok());
            let named = Named { year: Some(year), months: (month, month), day };
            if is_date { Ok(Some(named)) } else { Err(no_such_date(typed)) }
        }
        Some(&[year, number] | &[number, year]) if is_year_first || year >= 1000 => {
            let month = month(number)?;
            Ok(Some(Named { year: Some(year), months: (month, month), day: None }))
        }
        Some(&[_, _, _]) => Err(Clarification::unclear(
            format!(
                "Which of day and month comes first in `{typed}`; can you write year, month, day?"
            ),
            "2024-03-01",
        )),
        _ => Ok(None),
    }
}
