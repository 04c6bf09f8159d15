use std::time::Duration;

use super::*;
use crate::{
    analysis::{Task, analyse},
    answer::Timing,
    prices::{BadRow, Prices},
    question,
};

/// Answers `text` from the sample, without any bus.
fn found(text: &str) -> Results {
    let prices = Prices::new(Vec::new());
    let question = question::parse(text, &prices.assets().expect("readable")).expect(text);
    let selection = prices.select(&question.assets, question.span, 45).expect(text);
    let task = Task::new(selection.range.days, question.metrics.clone());
    let (assets, pairs) = analyse(&selection.series, &task);
    Results {
        metrics: question.metrics,
        range: selection.range,
        assets,
        pairs,
        provenance: selection.provenance,
    }
}

fn answer(outcome: Outcome) -> Answer {
    let timing = |agent: &str, topic: &str, micros| Timing {
        agent: agent.into(),
        topic: topic.into(),
        took: Duration::from_micros(micros),
    };
    Answer {
        conversation_id: "0198-abc".into(),
        outcome,
        timings: vec![timing("query", "query.request", 9000), timing("data", "data.request", 4200)],
    }
}

#[test]
fn sentences_say_what_was_asked() {
    for (text, parts) in [
        (
            "How did ZEC move against BTC in the last 90 days?",
            &[
                "ZEC ",
                " from 2025-10-02 to 2025-12-31, while BTC ",
                "their daily returns correlate at 0.",
                "n = 90).",
            ][..],
        ),
        ("price of BTC on 2025-03-01", &["On 2025-03-01, BTC closed at "]),
        (
            "price of BTC in March 2025",
            &["From 2025-03-01 to 2025-03-31, BTC closed at ", " on average."],
        ),
        (
            "ETH on 2025-03-01",
            &["ETH has fewer than two closes, so no change can be told on 2025-03-01."],
        ),
        (
            "volatility of ETH and ZEC",
            &["the annualised volatility of ETH was ", "; the annualised volatility of ZEC was "],
        ),
        (
            "unusual days of ZEC",
            &["From 2024-11-27 to 2025-12-31, ", " days stood out for ZEC: 2025-12-03 (-"],
        ),
        ("unusual days of ZEC in April 2025", &["of the 30 days judged stood out for ZEC."]),
        ("trend of BTC this year", &["the trend of BTC was ", " a day (R² = 0."]),
        (
            "compare ZEC, BTC and ETH",
            &["the daily returns of ZEC and BTC correlate at", "of BTC and ETH correlate"],
        ),
    ] {
        let said = sentence(&found(text));
        for part in parts {
            assert!(said.contains(part), "{text}: {said}");
        }
        assert!(said.ends_with('.') && !said.contains('\n'), "{said}");
    }
}

#[test]
fn a_report_has_all_parts() {
    let results = found("How did ZEC move against BTC in the last 90 days, and unusual days?");
    let text = render(&answer(Outcome::Results(results)), 80);
    for part in [
        "synthetic",
        "standard deviation",
        "volatility, annualised",
        "correlation of daily returns",
        "Range         2025-10-02 to 2025-12-31 (the last 90 days, counted back from 2025-12-31)",
        "Source        built-in sample, synthetic (800 rows, 1 without a price)",
        "Agents        query (query.request) 9.0 ms, data (data.request) 4.2 ms",
        "Conversation  0198-abc",
        "▁",
        "█",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn tables_fit_the_width() {
    let results = found("compare ZEC, BTC and ETH and show unusual days");
    for width in [40, 60, 80, 120, 200] {
        for table in table::tables(&results, width) {
            for line in table.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
        let text = render(&answer(Outcome::Results(results.clone())), width);
        let sparklines = text.lines().filter(|line| line.contains('█') && !line.contains('│'));
        assert!(sparklines.clone().count() >= 3);
        assert!(sparklines.into_iter().all(|line| line.chars().count() <= width), "{text}");
    }
}

#[test]
fn bad_rows_are_listed_and_counted() {
    let mut results = found("ZEC");
    results.provenance.bad_rows = 22;
    results.provenance.synthetic = false;
    results.provenance.first_bad_rows = (2..22)
        .map(|line| BadRow { file: "\u{1b}[31mz.csv".into(), line, reason: "no date".into() })
        .collect();
    let text = render(&answer(Outcome::Results(results)), 80);
    assert!(text.contains("22 bad"), "{text}");
    assert!(text.contains("Bad rows      \u{fffd}[31mz.csv:2: no date"), "{text}");
    assert!(text.contains("and 2 more"), "{text}");
    assert!(!text.contains("synthetic"), "{text}");
}

#[test]
fn questions_back_and_failures_are_shown() {
    let back = question::parse("DOGE", &["ZEC".into()]).expect_err("no DOGE");
    let text = render(&answer(Outcome::Clarification(back)), 80);
    assert!(
        text.starts_with(
            "There are no prices for DOGE; which of these do you mean: ZEC?\n  - ZEC\n"
        )
    );
    let text = render(&answer(Outcome::Failure("`a.csv` is empty".into())), 80);
    assert!(text.starts_with("No answer: `a.csv` is empty.\n"));
}
