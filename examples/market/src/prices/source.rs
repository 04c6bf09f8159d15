//! Where prices are read from, as `--prices` says.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::PathBuf,
    str::FromStr,
};

use super::ticker::Ticker;
use crate::sample;

/// One place that prices are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A CSV file.
    File {
        /// Where it is.
        path: PathBuf,
        /// The one asset to take from it; `None` takes what its asset column or its name says.
        asset: Option<Ticker>,
    },
    /// The sample that ships with the package; synthetic.
    Sample,
}

impl Source {
    /// Tells whether the prices are made up.
    #[must_use]
    pub fn is_synthetic(&self) -> bool {
        *self == Self::Sample
    }

    /// Returns the asset that a file without an asset column holds: the one it was given, or else
    /// its stem, as in `eth.csv`.
    pub(super) fn sole_asset(&self) -> Option<Ticker> {
        match self {
            Self::File { asset: Some(asset), .. } => Some(asset.clone()),
            Self::File { path, asset: None } => path.file_stem()?.to_str()?.parse().ok(),
            Self::Sample => None,
        }
    }

    pub(super) fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::File { path, .. } => Box::new(File::open(path)?),
            Self::Sample => Box::new(sample::CSV),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "{}", path.display()),
            Self::Sample => f.write_str("built-in sample"),
        }
    }
}

impl FromStr for Source {
    type Err = SourceError;

    /// Reads `FILE` or `ASSET=FILE`. A file whose own name has a `=` is meant where it exists.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        let file = |path: &str, asset| Self::File { path: path.into(), asset };
        match text.split_once('=') {
            None if text.trim().is_empty() => Err(SourceError::NoFile),
            None => Ok(file(text, None)),
            Some(_) if PathBuf::from(text).is_file() => Ok(file(text, None)),
            Some((_, path)) if path.trim().is_empty() => Err(SourceError::NoFile),
            Some((asset, path)) => {
                let asset =
                    asset.parse().map_err(|_| SourceError::NotATicker { asset: asset.into() })?;
                Ok(file(path, Some(asset)))
            }
        }
    }
}

/// Why a `--prices` value names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The file is left out.
    #[error("no file named: write `FILE` or `ASSET=FILE`")]
    NoFile,
    /// What stands before `=` is not a ticker.
    #[error(
        "`{asset}` is not a ticker: at most 20 letters, digits and `.-_/`, as in `ZEC=zcash.csv`"
    )]
    NotATicker {
        /// What stands there.
        asset: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_file_with_or_without_an_asset() {
        for (text, path, sole) in [
            ("prices/eth.csv", "prices/eth.csv", Some("ETH")),
            ("zec=a.csv", "a.csv", Some("ZEC")),
            ("ZEC=a=b.csv", "a=b.csv", Some("ZEC")),
            ("my prices.csv", "my prices.csv", None),
        ] {
            let source: Source = text.parse().expect(text);
            assert_eq!(source.to_string(), path);
            assert_eq!(source.sole_asset().as_ref().map(Ticker::as_str), sole, "{text}");
            assert!(!source.is_synthetic());
        }
    }

    #[test]
    fn what_names_no_file_is_an_error() {
        assert_eq!("".parse::<Source>(), Err(SourceError::NoFile));
        assert_eq!("ZEC=".parse::<Source>(), Err(SourceError::NoFile));
        assert!(matches!("a b=c".parse::<Source>(), Err(SourceError::NotATicker { .. })));
        assert!(matches!("=c".parse::<Source>(), Err(SourceError::NotATicker { .. })));
    }
}
