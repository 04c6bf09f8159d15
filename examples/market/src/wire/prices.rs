//! Prices, and why there are none.

use super::{
    all,
    malformed::{Malformed, required},
    try_all,
};
use crate::{
    prices::{BadRow, Provenance, ReadError, SelectError, Selection},
    proto::{self, SeriesFailureKind as Kind},
};

impl From<Selection> for proto::SeriesSet {
    fn from(selection: Selection) -> Self {
        Self {
            series: all(selection.series),
            range: Some(selection.range.into()),
            provenance: Some(selection.provenance.into()),
        }
    }
}

impl TryFrom<proto::SeriesSet> for Selection {
    type Error = Malformed;

    fn try_from(set: proto::SeriesSet) -> Result<Self, Malformed> {
        Ok(Self {
            series: try_all(set.series)?,
            range: required("range", set.range)?.try_into()?,
            provenance: required("provenance", set.provenance)?.into(),
        })
    }
}

impl From<Provenance> for proto::Provenance {
    fn from(provenance: Provenance) -> Self {
        let bad_row = |BadRow { file, line, reason }| proto::BadRow { file, line, reason };
        Self {
            sources: provenance.sources,
            synthetic: provenance.synthetic,
            rows: provenance.rows,
            blank_rows: provenance.blank_rows,
            duplicate_rows: provenance.duplicate_rows,
            bad_rows: provenance.bad_rows,
            first_bad_rows: provenance.first_bad_rows.into_iter().map(bad_row).collect(),
        }
    }
}

impl From<proto::Provenance> for Provenance {
    fn from(provenance: proto::Provenance) -> Self {
        let bad_row = |proto::BadRow { file, line, reason }| BadRow { file, line, reason };
        Self {
            sources: provenance.sources,
            synthetic: provenance.synthetic,
            rows: provenance.rows,
            blank_rows: provenance.blank_rows,
            duplicate_rows: provenance.duplicate_rows,
            bad_rows: provenance.bad_rows,
            first_bad_rows: provenance.first_bad_rows.into_iter().map(bad_row).collect(),
        }
    }
}

impl From<SelectError> for proto::SeriesFailure {
    fn from(error: SelectError) -> Self {
        let message = match &error {
            SelectError::Read(ReadError::Unreadable { source, .. }) => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        let (kind, missing, available) = match error {
            SelectError::Read(ReadError::MissingAsset { missing, available }) => {
                (Kind::MissingAsset, missing, available)
            }
            SelectError::Read(ReadError::Unreadable { .. }) => {
                (Kind::UnreadableFile, Vec::new(), Vec::new())
            }
            SelectError::Read(ReadError::WrongFormat { .. }) => {
                (Kind::WrongFormat, Vec::new(), Vec::new())
            }
            SelectError::NoSharedDate { .. } => (Kind::NoSharedDate, Vec::new(), Vec::new()),
            SelectError::NoPricesInRange { assets, .. } => {
                (Kind::NoPricesInRange, assets, Vec::new())
            }
            SelectError::NoPrices { assets, .. } => (Kind::NoPrices, assets, Vec::new()),
        };
        Self { kind: kind.into(), message, missing, available }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{prices::Prices, range::Span};

    #[test]
    fn a_selection_survives_the_way_there_and_back() {
        let prices = Prices::new(Vec::new());
        let assets = ["ZEC", "BTC"].map(String::from);
        let mut selection = prices.select(&assets, Span::Whole, 0).expect("the sample");
        let bad = BadRow { file: "a.csv".into(), line: 7, reason: "no date".into() };
        selection.provenance.first_bad_rows.push(bad);
        assert_eq!(proto::SeriesSet::from(selection.clone()).try_into(), Ok(selection));
    }

    #[test]
    fn a_missing_asset_lists_what_there_is() {
        let prices = Prices::new(Vec::new());
        let error = prices.select(&["DOGE".into()], Span::Whole, 0).expect_err("no DOGE");
        let failure = proto::SeriesFailure::from(error);
        assert_eq!(failure.kind(), Kind::MissingAsset);
        assert_eq!(failure.missing, ["DOGE"]);
        assert_eq!(failure.available, ["BTC", "ETH", "ZEC"]);
        assert_eq!(failure.message, "no prices for DOGE; there are prices for BTC, ETH, ZEC");
    }
}
