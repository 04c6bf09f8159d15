//! The short name of an asset.

use std::{fmt, str::FromStr};

/// Ticker of an asset: 1 to 20 letters, digits and `.`, `-`, `_`, `/`, held in capitals.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticker(String);

impl Ticker {
    /// Returns the ticker's letters, in capitals.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether `name` stands for this ticker, whatever its case and the blanks around it.
    pub(super) fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name.trim())
    }
}

impl FromStr for Ticker {
    type Err = NotATicker;

    fn from_str(text: &str) -> Result<Self, NotATicker> {
        let text = text.trim();
        let fits = (1..=20).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_/".contains(&byte))
            && text.bytes().any(|byte| byte.is_ascii_alphanumeric());
        fits.then(|| Self(text.to_ascii_uppercase())).ok_or(NotATicker)
    }
}

impl fmt::Display for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The text is not a ticker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotATicker;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickers_are_short_plain_and_in_capitals() {
        for (text, ticker) in [("zec", "ZEC"), (" Brk.b ", "BRK.B"), ("1inch", "1INCH")] {
            assert_eq!(text.parse::<Ticker>().map(|ticker| ticker.to_string()), Ok(ticker.into()));
        }
        for text in ["", " ", "--", "my prices", "ZÉC", "\u{1b}[31m", "ABCDEFGHIJKLMNOPQRSTU"] {
            assert_eq!(text.parse::<Ticker>(), Err(NotATicker), "{text:?}");
        }
    }
}
