//! Cuts what was read down to the range of a question.

use std::{cmp::Ordering, collections::BTreeSet};

use jiff::{Span as Length, civil::Date};

use super::{
    reading::{Prices, Provenance, ReadError, Reading},
    rejected::BadRow,
};
use crate::{
    range::{DateRange, Span},
    series::Series,
};

/// The prices that a question is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// One for each asset that was asked for, in that order: the range, and the days that lead in.
    pub series: Vec<Series>,
    /// The range that was used.
    pub range: RangeUsed,
    /// Where the prices came from.
    pub provenance: Provenance,
}

/// A range, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeUsed {
    /// The days themselves.
    pub days: DateRange,
    /// How the range came about.
    pub description: String,
    /// The newest date that all the assets have; `None` where they share none.
    pub newest_shared: Option<Date>,
}

/// Why the prices of a question cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// They could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The assets have no date in common to count back from.
    #[error("{} have no date in common: name the dates, or one asset alone", assets.join(" and "))]
    NoSharedDate {
        /// The assets.
        assets: Vec<String>,
    },
    /// An asset has no price in the range.
    #[error("no prices for {} {}; there are prices from {available}", assets.join(", "), when(*.range))]
    NoPricesInRange {
        /// The assets without a price.
        assets: Vec<String>,
        /// The range.
        range: DateRange,
        /// From when to when those assets have prices.
        available: DateRange,
    },
    /// An asset is there and has no price at all.
    #[error("no usable price for {}{}", assets.join(", "), because(.bad_rows))]
    NoPrices {
        /// The assets without a price.
        assets: Vec<String>,
        /// The first of the bad rows, where there are some.
        bad_rows: Vec<BadRow>,
    },
}

fn when(range: DateRange) -> String {
    match range.from.cmp(&range.to) {
        Ordering::Less => format!("from {range}"),
        Ordering::Equal => format!("on {}", range.from),
        Ordering::Greater => format!("from {} on", range.from),
    }
}

fn because(bad_rows: &[BadRow]) -> String {
    let because =
        |bad: &BadRow| format!("; the first bad row is {}:{}: {}", bad.file, bad.line, bad.reason);
    bad_rows.first().map(because).unwrap_or_default()
}

fn names<'s>(series: impl IntoIterator<Item = &'s Series>) -> Vec<String> {
    series.into_iter().map(|series| series.asset.clone()).collect()
}

impl Prices {
    /// Reads the closes of `assets` in `span`, and those of up to `lead_in` days before it.
    ///
    /// Relative ranges count back from the newest date that all the assets have. Every series of
    /// the result has at least one close in the range.
    pub fn select(
        &self,
        assets: &[String],
        span: Span,
        lead_in: u32,
    ) -> Result<Selection, SelectError> {
        let Reading { series, provenance } = self.read(assets)?;
        let shared = shared(&series);
        let days = match (shared, span) {
            (Some(shared), _) => span.resolve(shared),
            (None, Span::Between { from: Some(from), to: Some(to) }) => DateRange { from, to },
            (None, _) => {
                let empty: Vec<_> =
                    series.iter().filter(|series| series.points().is_empty()).collect();
                return Err(if empty.is_empty() {
                    SelectError::NoSharedDate { assets: names(&series) }
                } else {
                    SelectError::NoPrices {
                        assets: names(empty),
                        bad_rows: provenance.first_bad_rows,
                    }
                });
            }
        };

        let without: Vec<_> =
            series.iter().filter(|series| series.within(days).is_empty()).collect();
        if !without.is_empty() {
            let oldest =
                without.iter().filter_map(|series| series.points().first()).min_by_key(|p| p.date);
            let newest =
                without.iter().filter_map(|series| series.points().last()).max_by_key(|p| p.date);
            let assets = names(without);
            let Some((oldest, newest)) = oldest.zip(newest) else {
                return Err(SelectError::NoPrices { assets, bad_rows: provenance.first_bad_rows });
            };
            let available = DateRange { from: oldest.date, to: newest.date };
            return Err(SelectError::NoPricesInRange { assets, range: days, available });
        }

        let before = Length::new().try_days(lead_in).ok();
        let from = before.and_then(|days_before| days.from.checked_sub(days_before).ok());
        let with_lead_in = DateRange { from: from.unwrap_or(Date::MIN), to: days.to };
        let newest_shared = shared.map(|shared| shared.to);
        let range = RangeUsed {
            days,
            description: span.describe(newest_shared.unwrap_or(days.to)),
            newest_shared,
        };
        let cut = |series: Series| {
            let points = series.within(with_lead_in).to_vec();
            Series::new(series.asset, points)
        };
        Ok(Selection { series: series.into_iter().map(cut).collect(), range, provenance })
    }
}

/// Returns the oldest and the newest date that all the series have.
fn shared(series: &[Series]) -> Option<DateRange> {
    let dates = |series: &Series| -> BTreeSet<Date> {
        series.points().iter().map(|point| point.date).collect()
    };
    let all = series.iter().map(dates).reduce(|all, more| &all & &more)?;
    Some(DateRange { from: *all.first()?, to: *all.last()? })
}
