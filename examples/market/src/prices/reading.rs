//! Reads the sources, row by row.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use jiff::civil::{Date, Time};

use super::{
    file::PriceFile,
    line::Line,
    rejected::{BadRow, Rejected},
    row::{self, Row},
    source::Source,
    ticker::Ticker,
};
use crate::series::{Point, Series};

/// The most assets that are listed, so that a file with a wrong asset column stays harmless.
const MOST_ASSETS: usize = 10_000;

/// The sources that prices are read from.
#[derive(Debug, Clone)]
pub struct Prices {
    sources: Vec<Source>,
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// One for each asset that was asked for, in that order; all dates that there are.
    pub series: Vec<Series>,
    /// Where they came from.
    pub provenance: Provenance,
}

/// Where prices came from, and what was wrong with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The sources that had a row about the assets.
    pub sources: Vec<String>,
    /// Set when one of them is made up.
    pub synthetic: bool,
    /// How many rows about the assets were read, blank and bad ones included.
    pub rows: u64,
    /// How many of them had no price.
    pub blank_rows: u64,
    /// How many of them had the time of the row that counted for that day so far; the later row
    /// counts.
    pub duplicate_rows: u64,
    /// How many of them could not be used.
    pub bad_rows: u64,
    /// The first of those.
    pub first_bad_rows: Vec<BadRow>,
}

/// Why prices could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// An asset is in none of the sources.
    #[error("no prices for {}; there are prices for {}", list(.missing), list(.available))]
    MissingAsset {
        /// The assets that are missing.
        missing: Vec<String>,
        /// The assets that are there, sorted.
        available: Vec<String>,
    },
    /// A file could not be opened or read.
    #[error("cannot read `{file}`")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not a price file.
    #[error("`{file}` {problem}")]
    WrongFormat {
        /// The file.
        file: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
}

fn list(assets: &[String]) -> String {
    if assets.is_empty() { "nothing".into() } else { assets.join(", ") }
}

/// The close of each day, with the time of the row that it is from.
type Days = BTreeMap<Date, (Option<Time>, f64)>;

impl Prices {
    /// Takes prices from `sources`, or from the built-in sample where there are none.
    ///
    /// Nothing is read yet. Where two sources have the same time of the same asset, the later
    /// source counts.
    #[must_use]
    pub fn new(sources: Vec<Source>) -> Self {
        Self { sources: if sources.is_empty() { vec![Source::Sample] } else { sources } }
    }

    /// Lists the assets that there are, sorted. Reads every file that has an asset column to its end.
    pub fn assets(&self) -> Result<Vec<String>, ReadError> {
        let mut found = BTreeSet::new();
        for source in &self.sources {
            let mut file = PriceFile::open(source)?;
            let Some(column) = file.columns.asset else {
                found.extend(file.sole_asset);
                continue;
            };
            let mut last = Vec::new();
            while let Some(line) = file.next()? {
                let Some(cell) = file.record.get(column) else { continue };
                if line != Line::Read || file.record.len() != file.columns.count || cell == last {
                    continue;
                }
                last = cell.to_vec();
                let asset = std::str::from_utf8(cell).ok().and_then(|name| name.parse().ok());
                found.extend(asset.filter(|asset| file.wants(asset)));
                if found.len() > MOST_ASSETS {
                    let problem = format!("has more than {MOST_ASSETS} assets");
                    return Err(ReadError::WrongFormat { file: file.name, problem });
                }
            }
        }
        Ok(found.iter().map(ToString::to_string).collect())
    }

    /// Reads the closes of `assets`, which may be in any case.
    ///
    /// Rows may be in any order. Of several rows a day the one with the latest time counts, a date
    /// without a time being later than any; of several with the same time, the one read last.
    /// Bad rows are counted and passed over. Takes memory for one close a day and asset, however
    /// many rows there are.
    pub fn read(&self, assets: &[String]) -> Result<Reading, ReadError> {
        let mut wanted: Vec<(Ticker, Days, bool)> = Vec::new();
        for asset in assets {
            let ticker: Ticker = asset.parse().map_err(|_| self.missing(vec![asset.clone()]))?;
            if wanted.iter().all(|(known, ..)| *known != ticker) {
                wanted.push((ticker, Days::new(), false));
            }
        }
        let (mut provenance, mut rejected) = (Provenance::default(), Rejected::default());
        for source in &self.sources {
            if matches!(source, Source::File { asset: Some(asset), .. } if wanted.iter().all(|(known, ..)| known != asset))
            {
                continue;
            }
            let before = provenance.rows;
            read_source(source, &mut wanted, &mut provenance, &mut rejected)?;
            if provenance.rows > before {
                provenance.sources.push(source.to_string());
                provenance.synthetic |= source.is_synthetic();
            }
        }
        let missing: Vec<_> =
            wanted.iter().filter(|(.., seen)| !seen).map(|(asset, ..)| asset.to_string()).collect();
        if !missing.is_empty() {
            return Err(self.missing(missing));
        }
        provenance.bad_rows = rejected.count;
        provenance.first_bad_rows = rejected.first;
        let series = wanted
            .into_iter()
            .map(|(asset, days, _)| {
                let point = |(date, (_, close))| Point { date, close };
                Series::new(asset.as_str(), days.into_iter().map(point).collect())
            })
            .collect();
        Ok(Reading { series, provenance })
    }

    fn missing(&self, missing: Vec<String>) -> ReadError {
        match self.assets() {
            Ok(available) => ReadError::MissingAsset { missing, available },
            Err(error) => error,
        }
    }
}

fn read_source(
    source: &Source,
    wanted: &mut [(Ticker, Days, bool)],
    provenance: &mut Provenance,
    rejected: &mut Rejected,
) -> Result<(), ReadError> {
    let mut file = PriceFile::open(source)?;
    let sole = file.sole_asset.clone();
    let mut current = match (&sole, file.columns.asset) {
        (Some(asset), None) => {
            let Some(index) = wanted.iter().position(|(known, ..)| known == asset) else {
                return Ok(());
            };
            wanted[index].2 = true;
            index
        }
        _ => 0,
    };
    while let Some(line) = file.next()? {
        let number = file.line();
        let (record, columns) = (&file.record, &file.columns);
        let mut bad = |reason: String| {
            provenance.rows += 1;
            rejected.add(&file.name, number, || reason);
        };
        if let Line::Bad(reason) = line {
            bad(reason.into());
            continue;
        }
        if record.len() != columns.count {
            bad(format!("{} fields where the header has {}", record.len(), columns.count));
            continue;
        }
        if let Some(column) = columns.asset {
            let name = match row::text(record, column, "asset") {
                Ok(name) => name,
                Err(reason) => {
                    bad(reason);
                    continue;
                }
            };
            if name.is_empty() && record.iter().any(|cell| !cell.trim_ascii().is_empty()) {
                bad("no asset".into());
                continue;
            }
            // Neighbouring rows are mostly about the same asset.
            if !wanted.get(current).is_some_and(|(asset, ..)| asset.is(name)) {
                let Some(index) = wanted.iter().position(|(asset, ..)| asset.is(name)) else {
                    continue;
                };
                current = index;
            }
            if !file.wants(&wanted[current].0) {
                continue;
            }
        } else if record.iter().all(|cell| cell.trim_ascii().is_empty()) {
            continue;
        }
        let (_, days, seen) = &mut wanted[current];
        *seen = true;
        match Row::parse(record, columns) {
            Err(reason) => bad(reason),
            Ok(Row::Blank) => {
                provenance.rows += 1;
                provenance.blank_rows += 1;
            }
            Ok(Row::Close(instant, close)) => {
                provenance.rows += 1;
                let kept = days.entry(instant.date).or_insert((instant.time, 0.0));
                if kept.1 > 0.0 && kept.0 == instant.time {
                    provenance.duplicate_rows += 1;
                }
                if kept.1 <= 0.0 || instant.replaces(kept.0) {
                    *kept = (instant.time, close);
                }
            }
        }
    }
    Ok(())
}
