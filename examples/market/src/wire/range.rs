//! Ranges.

use super::malformed::{Malformed, date, known, required};
use crate::{
    prices::RangeUsed,
    proto::{self, span::Kind},
    range::{DateRange, Span, Unit},
};

impl From<Unit> for proto::CalendarUnit {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::Day => Self::Day,
            Unit::Week => Self::Week,
            Unit::Month => Self::Month,
            Unit::Year => Self::Year,
        }
    }
}

fn unit(value: i32) -> Result<Unit, Malformed> {
    known("unit", value, |unit| match unit {
        proto::CalendarUnit::Unspecified => None,
        proto::CalendarUnit::Day => Some(Unit::Day),
        proto::CalendarUnit::Week => Some(Unit::Week),
        proto::CalendarUnit::Month => Some(Unit::Month),
        proto::CalendarUnit::Year => Some(Unit::Year),
    })
}

impl From<DateRange> for proto::DateRange {
    fn from(range: DateRange) -> Self {
        Self { from: range.from.to_string(), to: range.to.to_string() }
    }
}

impl TryFrom<proto::DateRange> for DateRange {
    type Error = Malformed;

    fn try_from(range: proto::DateRange) -> Result<Self, Malformed> {
        Ok(Self { from: date("from", &range.from)?, to: date("to", &range.to)? })
    }
}

impl From<Span> for proto::Span {
    fn from(span: Span) -> Self {
        let unit = |unit| i32::from(proto::CalendarUnit::from(unit));
        let kind = match span {
            Span::Whole => Kind::Whole(proto::WholeHistory {}),
            Span::Last { count, unit: of } => {
                Kind::Last(proto::CountedBack { count, unit: unit(of) })
            }
            Span::Between { from, to } => Kind::Between(proto::DateBounds {
                from: from.map(|date| date.to_string()),
                to: to.map(|date| date.to_string()),
            }),
            Span::Current(of) => Kind::Current(unit(of)),
            Span::DaysAgo(days) => Kind::DaysAgo(days),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::Span> for Span {
    type Error = Malformed;

    fn try_from(span: proto::Span) -> Result<Self, Malformed> {
        Ok(match required("span.kind", span.kind)? {
            Kind::Whole(proto::WholeHistory {}) => Self::Whole,
            Kind::Last(proto::CountedBack { count: 0, .. }) => {
                return Err(Malformed::new("span.last.count", "is 0"));
            }
            Kind::Last(last) => Self::Last { count: last.count, unit: unit(last.unit)? },
            Kind::Between(proto::DateBounds { from, to }) => Self::Between {
                from: from.map(|text| date("span.between.from", &text)).transpose()?,
                to: to.map(|text| date("span.between.to", &text)).transpose()?,
            },
            Kind::Current(value) => Self::Current(unit(value)?),
            Kind::DaysAgo(days) => Self::DaysAgo(days),
        })
    }
}

impl From<RangeUsed> for proto::RangeUsed {
    fn from(range: RangeUsed) -> Self {
        Self {
            days: Some(range.days.into()),
            description: range.description,
            newest_shared: range.newest_shared.map(|date| date.to_string()).unwrap_or_default(),
        }
    }
}

impl TryFrom<proto::RangeUsed> for RangeUsed {
    type Error = Malformed;

    fn try_from(range: proto::RangeUsed) -> Result<Self, Malformed> {
        let newest = Some(range.newest_shared).filter(|text| !text.is_empty());
        Ok(Self {
            days: required("range.days", range.days)?.try_into()?,
            description: range.description,
            newest_shared: newest.map(|text| date("newest_shared", &text)).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil;

    use super::*;

    #[test]
    fn every_span_survives_the_way_there_and_back() {
        let day = civil::date(2024, 2, 29);
        for span in [
            Span::Whole,
            Span::Last { count: 90, unit: Unit::Day },
            Span::Last { count: 1, unit: Unit::Week },
            Span::Between { from: Some(day), to: None },
            Span::Between { from: None, to: Some(day) },
            Span::Current(Unit::Year),
            Span::Current(Unit::Month),
            Span::DaysAgo(0),
        ] {
            assert_eq!(proto::Span::from(span).try_into(), Ok(span));
        }
    }

    #[test]
    fn what_no_span_says_is_malformed() {
        let last = |count, unit| Kind::Last(proto::CountedBack { count, unit });
        let from =
            |from: &str| Kind::Between(proto::DateBounds { from: Some(from.into()), to: None });
        let kinds = [last(0, 1), last(1, 0), last(1, 7), Kind::Current(-1), from("2023-02-29")];
        for kind in kinds.map(Some).into_iter().chain([None]) {
            assert!(Span::try_from(proto::Span { kind: kind.clone() }).is_err(), "{kind:?}");
        }
    }
}
