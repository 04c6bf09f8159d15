//! A price file that is being read.

use std::io::Read;

use super::{
    header::Columns,
    line::{Line, Lines, Record},
    reading::ReadError,
    source::Source,
    ticker::Ticker,
};

/// A source that is open, past its header.
pub(super) struct PriceFile {
    pub(super) name: String,
    lines: Lines<Box<dyn Read + Send>>,
    pub(super) record: Record,
    pub(super) columns: Columns,
    /// The asset that was given with the file, or that its name gives where there is no column.
    pub(super) sole_asset: Option<Ticker>,
}

impl PriceFile {
    pub(super) fn open(source: &Source) -> Result<Self, ReadError> {
        let name = source.to_string();
        let unreadable = |source| ReadError::Unreadable { file: name.clone(), source };
        let wrong = |problem: String| ReadError::WrongFormat { file: name.clone(), problem };

        let mut lines = Lines::new(source.open().map_err(unreadable)?);
        let mut record = Record::default();
        let columns = match lines.next(&mut record).map_err(unreadable)? {
            None => {
                return Err(wrong(
                    "is empty: the first line must name a date and a price column".into(),
                ));
            }
            Some(Line::Bad(reason)) => return Err(wrong(format!("has no header: {reason}"))),
            Some(Line::Read) => Columns::find(&record).map_err(wrong)?,
        };
        let sole_asset = match (source, columns.asset) {
            (Source::File { asset, .. }, Some(_)) => asset.clone(),
            (_, Some(_)) => None,
            (_, None) => Some(source.sole_asset().ok_or_else(|| {
                wrong(format!(
                    "has no `asset` column and its name is not a ticker: write `ASSET={name}`"
                ))
            })?),
        };
        Ok(Self { name, lines, record, columns, sole_asset })
    }

    /// Reads the next row into `record`; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Line>, ReadError> {
        let unreadable = |source| ReadError::Unreadable { file: self.name.clone(), source };
        self.lines.next(&mut self.record).map_err(unreadable)
    }

    /// Returns the line that the last row begins on.
    pub(super) fn line(&self) -> u64 {
        self.lines.number()
    }

    /// Tells whether rows about `asset` are to be taken from this file.
    pub(super) fn wants(&self, asset: &Ticker) -> bool {
        self.sole_asset.as_ref().is_none_or(|sole| sole == asset)
    }
}
