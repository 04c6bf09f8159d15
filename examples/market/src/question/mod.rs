//! Reads questions in plain English: which assets, what about them, over which range.

mod assets;
mod clarification;
mod metrics;
mod time;
mod words;

pub use clarification::{Clarification, Reason};
pub use metrics::Metric;

use crate::range::Span;
use words::Word;

/// A question as it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Tickers in capitals, in the order in which they were named, each once; at least one.
    pub assets: Vec<String>,
    /// What is asked about them, in a fixed order, each once; at least one.
    pub metrics: Vec<Metric>,
    /// The range; [`Span::Whole`] where the question names none.
    pub span: Span,
}

/// Reads `text`, where prices of the assets in `available` can be had.
///
/// A question back is not a fault of the asker: it says what is needed to answer, and suggests what
/// would do.
pub fn parse(text: &str, available: &[String]) -> Result<Question, Clarification> {
    let words = words::split(text, available);
    if words.is_empty() {
        return Err(Clarification::empty(available));
    }
    let time = time::find(&words)?;
    let assets = assets::find(&words, &time.used, available)?;
    let metrics = metrics::find(&words, &assets, available)?;
    Ok(Question { assets, metrics, span: time.span.unwrap_or(Span::Whole) })
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::{Metric::*, *};
    use crate::range::Unit::{Day, Month, Week, Year};

    fn available() -> Vec<String> {
        ["BTC", "ETH", "ONE", "ZEC"].map(String::from).into()
    }

    fn last(count: u32, unit: crate::range::Unit) -> Span {
        Span::Last { count, unit }
    }

    #[test]
    fn questions_are_understood() {
        let q1 = Span::Between { from: Some(date(2024, 1, 1)), to: Some(date(2024, 3, 31)) };
        let year = Span::Between { from: Some(date(2023, 1, 1)), to: Some(date(2023, 12, 31)) };
        let march = Span::Between { from: Some(date(2024, 3, 1)), to: Some(date(2024, 3, 31)) };
        let since = Span::Between { from: Some(date(2024, 3, 1)), to: None };
        for (text, assets, metrics, span) in [
            (
                "How did ZEC move against BTC in the last 90 days?",
                &["ZEC", "BTC"][..],
                &[Return, Correlation][..],
                last(90, Day),
            ),
            ("what's the price of bitcoin", &["BTC"], &[Price], Span::Whole),
            ("How volatile was Zcash in 2023?", &["ZEC"], &[Volatility], year),
            ("Did eth and btc correlate in March 2024?", &["ETH", "BTC"], &[Correlation], march),
            ("Any unusual spikes for ether since 2024-03-01", &["ETH"], &[Anomalies], since),
            ("ZEC/BTC since March 2024", &["ZEC", "BTC"], &[Return], since),
            (
                "zec versus eth between 2024-01-01 and 2024-03-31",
                &["ZEC", "ETH"],
                &[Return, Correlation],
                q1,
            ),
            ("BTC performance from January to March 2024", &["BTC"], &[Return], q1),
            ("How did ZEC do yesterday?", &["ZEC"], &[Return], Span::DaysAgo(1)),
            ("gain of ETH this year", &["ETH"], &[Return], Span::Current(Year)),
            ("outliers in BTC's last two weeks", &["BTC"], &[Anomalies], last(2, Week)),
            ("ETH past 3 months trend", &["ETH"], &[Trend], last(3, Month)),
            (
                "price and volatility of $one past year",
                &["ONE"],
                &[Price, Volatility],
                last(1, Year),
            ),
            ("Which one moved more, BTC or ETH?", &["BTC", "ETH"], &[Return], Span::Whole),
            ("HOW DID ZEC MOVE AGAINST BTC", &["ZEC", "BTC"], &[Return, Correlation], Span::Whole),
            ("BTC", &["BTC"], &[Return], Span::Whole),
            ("Compare ETH with ZEC, 2023", &["ETH", "ZEC"], &[Return, Correlation], year),
            ("how did zec do against the dollar", &["ZEC"], &[Return], Span::Whole),
            ("do ZEC and BTC move together?", &["ZEC", "BTC"], &[Return, Correlation], Span::Whole),
            ("volatility of all assets", &["BTC", "ETH", "ONE", "ZEC"], &[Volatility], Span::Whole),
            ("ETH 1. Quartal", &["ETH"], &[Return], Span::Whole),
        ] {
            let expected = Question {
                assets: assets.iter().map(ToString::to_string).collect(),
                metrics: metrics.to_vec(),
                span,
            };
            assert_eq!(parse(text, &available()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_asked_back() {
        for (text, reason, part) in [
            ("", Reason::Empty, "What"),
            ("  ?! ", Reason::Empty, "What"),
            ("How did it move?", Reason::NoAsset, "BTC, ETH, ONE, ZEC"),
            ("how did foo move", Reason::NoAsset, "BTC, ETH, ONE, ZEC"),
            ("How did DOGE move against BTC?", Reason::UnknownAsset, "DOGE"),
            ("how did dogecoin move?", Reason::UnknownAsset, "DOGE"),
            ("How did XYZ move?", Reason::UnknownAsset, "XYZ"),
            ("price of $abc", Reason::UnknownAsset, "ABC"),
            ("How does ZEC correlate?", Reason::OneAsset, "ZEC"),
            ("How did ZEC move against?", Reason::OneAsset, "ZEC"),
            ("ZEC between 2024-03-31 and 2024-01-01", Reason::ReversedRange, "2024-01-01"),
            ("ZEC in 2023 and the last 90 days", Reason::ContradictoryRange, "one range"),
            ("ZEC in March 2024 or 2023", Reason::ContradictoryRange, "one range"),
            ("ZEC since 2024-02-30", Reason::UnclearRange, "2024-02-30"),
            ("ZEC in March", Reason::UnclearRange, "March"),
            ("ZEC since 03/04/2024", Reason::UnclearRange, "03/04/2024"),
            ("ZEC last 90", Reason::UnclearRange, "90"),
            ("ZEC last 0 days", Reason::UnclearRange, "0"),
            ("ZEC in the last 99999999999 days", Reason::UnclearRange, "99999999999"),
            ("ZEC in the last few days", Reason::UnclearRange, "few"),
            ("ZEC on 31 February 2024", Reason::UnclearRange, "2024"),
        ] {
            let clarification = parse(text, &available()).expect_err(text);
            assert_eq!(clarification.reason, reason, "{text}: {clarification:?}");
            assert!(clarification.question.contains(part), "{text}: {clarification:?}");
            assert!(clarification.question.ends_with('?'), "{clarification:?}");
            assert!(!clarification.suggestions.is_empty(), "{clarification:?}");
        }
    }

    #[test]
    fn without_any_asset_nothing_can_be_suggested() {
        let clarification = parse("price of ZEC", &[]).expect_err("nothing there");
        assert_eq!(clarification.reason, Reason::UnknownAsset);
    }

    #[test]
    fn no_text_is_too_odd_to_be_read() {
        for text in [
            "\0",
            "ü",
            "🦓 ZEC 🦓",
            "-",
            "----",
            "2024-",
            "2024-13-45",
            "-2024-01",
            "last",
            "last last",
            "between",
            "between and",
            "from to",
            "since",
            "in",
            "ZEC in",
            "1st of",
            "March of",
            "\u{1b}[31mZEC",
            "9999999999999999999999999",
            "ZEC 2024-03-01–2024-03-31",
            "$",
            "$$$",
            "''",
            "between 2024 and",
            "Q5 2024",
            "Q1",
            "may",
            "٣ days",
            "last ½ year",
            "ZEC".repeat(9999).as_str(),
        ] {
            drop(parse(text, &available()));
        }
    }

    #[test]
    fn no_order_of_words_is_too_odd_to_be_read() {
        const WORDS: [&str; 30] = [
            "ZEC", "since", "from", "between", "and", "to", "until", "the", "of", "start", "last",
            "next", "this", "a", "half", "couple", "few", "3", "31", "2024", "2024-02", "March",
            "first", "quarter", "Q3", "days", "year", "ago", "up", "on",
        ];
        for first in WORDS {
            for second in WORDS {
                for third in WORDS {
                    drop(parse(&format!("{first} {second} {third}"), &available()));
                }
            }
        }
    }
}
