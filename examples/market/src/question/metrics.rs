//! Finds what a question asks about its assets.

use std::fmt;

use super::{Word, clarification::Clarification};

/// What can be asked of prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// The level: first, last, mean, lowest and highest close.
    Price,
    /// The change over the range.
    Return,
    /// How much the daily returns vary.
    Volatility,
    /// How the daily returns of two assets go together.
    Correlation,
    /// Days whose return stands out from the days before.
    Anomalies,
    /// The straight line through the closes.
    Trend,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Price => "price",
            Self::Return => "return",
            Self::Volatility => "volatility",
            Self::Correlation => "correlation",
            Self::Anomalies => "anomalies",
            Self::Trend => "trend",
        })
    }
}

/// The beginnings of words that ask for a metric.
const STEMS: [(Metric, &[&str]); 6] = [
    (
        Metric::Price,
        &[
            "price", "worth", "cost", "value", "close", "level", "quote", "average", "mean",
            "median", "highest", "lowest", "minimum", "maximum", "peak",
        ],
    ),
    (
        Metric::Return,
        &[
            "return", "move", "moving", "perform", "gain", "lose", "losing", "lost", "loss",
            "rise", "rising", "rose", "fall", "fell", "drop", "chang", "grow", "grew", "declin",
            "increas", "decreas", "climb", "profit", "fare",
        ],
    ),
    (
        Metric::Volatility,
        &[
            "volatil", "risk", "swing", "swung", "fluctuat", "stable", "stabil", "turbulen",
            "vary", "varied",
        ],
    ),
    (Metric::Correlation, &["correlat", "together", "relation", "related", "coupled"]),
    (
        Metric::Anomalies,
        &[
            "unusual",
            "anomal",
            "spik",
            "outlier",
            "abnormal",
            "strange",
            "weird",
            "odd",
            "extraordinar",
            "crash",
            "jump",
        ],
    ),
    (Metric::Trend, &["trend", "slope", "direction"]),
];

/// Words that set two assets against each other.
const AGAINST: [&str; 10] = [
    "against",
    "versus",
    "vs",
    "v",
    "compare",
    "compared",
    "comparison",
    "relative",
    "follow",
    "followed",
];

/// Words for the currency that prices are in, which is no second asset.
const CURRENCY: [&str; 4] = ["dollar", "dollars", "usd", "us"];

/// Tells whether `word` asks for a metric.
pub(super) fn is_word(word: &Word) -> bool {
    of(word).is_some() || word.is(&AGAINST)
}

fn of(word: &Word) -> Option<Metric> {
    let asks = |stems: &[&str]| stems.iter().any(|stem| word.lower.starts_with(stem));
    STEMS.iter().find(|(_, stems)| asks(stems)).map(|(metric, _)| *metric)
}

/// Finds the metrics that `words` ask for; the return where they ask for none.
///
/// Setting assets against each other asks for the return and the correlation.
pub(super) fn find(
    words: &[Word],
    assets: &[String],
    available: &[String],
) -> Result<Vec<Metric>, Clarification> {
    let is_asset = |word: &&Word| !assets.contains(&word.typed);
    let mut found: Vec<_> = words.iter().filter(is_asset).filter_map(of).collect();
    let is_against = words.iter().any(|word| word.is(&AGAINST));
    let has_currency = words.iter().any(|word| word.is(&CURRENCY));
    let is_pair = assets.len() > 1;

    if let ([asset], false) = (assets, has_currency)
        && (is_against || found.contains(&Metric::Correlation))
    {
        return Err(Clarification::one_asset(asset, available));
    }
    if is_against && is_pair {
        found.push(Metric::Correlation);
        if found.iter().all(|metric| *metric == Metric::Correlation) {
            found.push(Metric::Return);
        }
    }
    if !is_pair {
        found.retain(|metric| *metric != Metric::Correlation);
    }
    if found.is_empty() {
        found.push(Metric::Return);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{super::words, Metric::*, *};

    #[test]
    fn words_ask_for_metrics() {
        for (text, metrics) in [
            ("what was the highest close", &[Price][..]),
            ("how much did it gain or lose", &[Return]),
            ("how risky and volatile", &[Volatility]),
            ("any crashes, jumps or odd days", &[Anomalies]),
            ("the trend of the price", &[Price, Trend]),
            ("tell me about it", &[Return]),
            ("how stable, against the dollar", &[Volatility]),
        ] {
            let found = find(&words::split(text, &[]), &["ZEC".into()], &[]);
            assert_eq!(found.as_deref(), Ok(metrics), "{text}");
        }
    }

    #[test]
    fn pairs_are_correlated_where_they_are_set_against_each_other() {
        let pair = ["ZEC".into(), "BTC".into()];
        for (text, metrics) in [
            ("correlation", &[Correlation][..]),
            ("volatility of one versus the other", &[Volatility, Correlation]),
            ("one relative to the other", &[Return, Correlation]),
            ("both", &[Return]),
        ] {
            let found = find(&words::split(text, &[]), &pair, &[]);
            assert_eq!(found.as_deref(), Ok(metrics), "{text}");
        }
    }
}
