//! Questions are answered by the program alone, on the embedded bus.

mod support;

use std::{fmt::Write as _, net::TcpListener};

use serde_json::{Value, json};
use support::{Files, README, README_ANSWER, ask, ask_json};

fn close_to(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap_or(f64::NAN);
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{found} for {expected}");
}

#[test]
fn the_question_of_the_readme_is_answered() {
    let text = ask(&[README]).answered();
    assert!(text.starts_with(&format!("{README_ANSWER}\n")), "{text}");
    for part in [
        "These prices are synthetic: a made-up sample. Real ones go through `--prices FILE`.",
        "│ return                 ┆              +32.1 % ┆                  -6.9 % │",
        "█",
        "Range         2025-10-02 to 2025-12-31 (the last 90 days, counted back from 2025-12-31)",
        "Source        built-in sample, synthetic (800 rows, 1 without a price)",
        "Agents        query (query.request) ",
        ", data (data.assets) ",
        ", data (data.request) ",
        ", analysis (analysis.request) ",
        "Conversation  ",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn json_stands_alone_and_is_the_same_every_time() {
    let answer = ask_json(&[README]);
    assert_eq!(answer["question"], README);
    assert_eq!(answer["sentence"], README_ANSWER);
    assert_eq!(answer["results"]["provenance"]["synthetic"], true);
    assert_eq!(answer["results"]["metrics"], json!(["METRIC_RETURN", "METRIC_CORRELATION"]));
    assert_eq!(answer, ask_json(&["How did ZEC", "move against BTC in the last 90 days?"]));
}

#[test]
fn every_metric_and_range_is_understood() {
    for (question, metrics, from, to) in [
        ("price of BTC on 2025-03-01", &["PRICE"][..], "2025-03-01", "2025-03-01"),
        ("how did ZEC do since 2025-03-01", &["RETURN"], "2025-03-01", "2025-12-31"),
        ("volatility of ETH in March 2025", &["VOLATILITY"], "2025-03-01", "2025-03-31"),
        (
            "do ZEC and ETH correlate between 2025-01-01 and 2025-06-30",
            &["CORRELATION"],
            "2025-01-01",
            "2025-06-30",
        ),
        ("unusual days of ZEC in 2025", &["ANOMALIES"], "2025-01-01", "2025-12-31"),
        ("trend of BTC this year", &["TREND"], "2025-01-01", "2025-12-31"),
        ("BTC in the last 2 weeks", &["RETURN"], "2025-12-17", "2025-12-31"),
        ("How did ZEC do yesterday?", &["RETURN"], "2025-12-29", "2025-12-30"),
        ("ETH", &["RETURN"], "2024-11-27", "2025-12-31"),
    ] {
        let results = ask_json(&[question])["results"].take();
        let metrics: Vec<_> = metrics.iter().map(|metric| format!("METRIC_{metric}")).collect();
        assert_eq!(results["metrics"], json!(metrics), "{question}");
        assert_eq!(results["range"]["days"], json!({"from": from, "to": to}), "{question}");
        assert!(results["range"]["description"].as_str().is_some_and(|text| !text.is_empty()));
    }
}

#[test]
fn a_question_that_is_not_understood_is_asked_back() {
    for (question, reason, part) in [
        ("", "EMPTY", "What would you like to know?"),
        ("How did it move?", "NO_ASSET", "BTC, ETH, ZEC"),
        ("How did DOGE move?", "UNKNOWN_ASSET", "There are no prices for DOGE"),
        ("How does ZEC correlate?", "ONE_ASSET", "Against which asset"),
        ("ZEC between 2025-03-31 and 2025-01-01", "REVERSED_RANGE", "2025-01-01"),
        ("ZEC in 2025 and the last 90 days", "CONTRADICTORY_RANGE", "one range"),
        ("ZEC since 2025-02-30", "UNCLEAR_RANGE", "2025-02-30"),
    ] {
        let asked = ask(&["--json", question]);
        assert_eq!((asked.code, asked.stderr.as_str()), (Some(3), ""), "{question}");
        let back = support::json(&asked.stdout)["clarification"].take();
        assert_eq!(back["reason"], format!("CLARIFICATION_REASON_{reason}"), "{question}");
        assert!(back["question"].as_str().is_some_and(|text| text.contains(part)), "{back}");
        let asked = ask(&[question]);
        assert_eq!(asked.code, Some(3));
        assert!(asked.stdout.contains(part) && asked.stdout.contains("\n  - "), "{asked:?}");
    }
}

#[test]
fn numbers_are_those_that_can_be_computed_by_hand() {
    let files = Files::new();
    let up = files.file(
        "aaa.csv",
        "date,close\n2024-01-01,100\n2024-01-02,200\n2024-01-03,100\n2024-01-04,200\n",
    );
    let down = files.file(
        "both.csv",
        "time,symbol,PriceUSD\n2024-01-01,BBB,10\n2024-01-02,BBB,5\n2024-01-03,BBB,10\n2024-01-04,BBB,5\n",
    );
    let answer = ask_json(&["AAA against BBB", "--prices", &up, "--prices", &down]);
    let results = &answer["results"];
    assert_eq!(results["range"]["newestShared"], "2024-01-04");
    assert_eq!(results["provenance"], json!({"sources": [up, down], "rows": "8"}));
    let first = &results["assets"][0];
    close_to(&first["change"]["fraction"], 1.0);
    close_to(&first["statistics"]["mean"], 150.0);
    close_to(&first["statistics"]["median"], 150.0);
    // The sum of the squared deviations is 4 · 50², over n − 1 = 3.
    close_to(&first["statistics"]["standardDeviation"], (10_000.0_f64 / 3.0).sqrt());
    // The log returns are ln 2 · (1, −1, 1), whose sample deviation is ln 2 · 2/√3.
    let daily = std::f64::consts::LN_2 * 2.0 / 3.0_f64.sqrt();
    close_to(&first["volatility"]["daily"], daily);
    close_to(&first["volatility"]["annualised"], daily * 365.0_f64.sqrt());
    // Days −1.5 to 1.5 against ∓50: slope 100/5, R² 20² · 5/10000.
    close_to(&first["trend"]["slopePerDay"], 20.0);
    close_to(&first["trend"]["rSquared"], 0.2);
    assert_eq!(first["statistics"]["highest"], json!({"date": "2024-01-02", "close": 200.0}));
    close_to(&results["assets"][1]["change"]["fraction"], -0.5);
    close_to(&results["correlations"][0]["coefficient"], -1.0);
    assert_eq!(results["correlations"][0]["count"], "3");
}

#[test]
fn an_anomaly_is_judged_by_the_days_before_the_range() {
    // Thirty returns of ±ln 2, then one of 10 · ln 2: z = 10 / √(30/29).
    let mut text = String::from("date,close\n");
    for day in 1..=31 {
        writeln!(text, "2024-01-{day:02},{}", if day % 2 == 0 { 200 } else { 100 })
            .expect("memory");
    }
    text.push_str("2024-02-01,102400\n");
    let files = Files::new();
    let file = files.file("aaa.csv", text);
    let answer = ask_json(&["unusual days of AAA on 2024-02-01", "--prices", &file]);
    let found = &answer["results"]["assets"][0]["anomalies"];
    assert_eq!((&found["judged"], &found["window"]), (&json!("1"), &json!(30)));
    assert_eq!(found["days"][0]["severity"], "SEVERITY_EXTREME");
    close_to(&found["days"][0]["fraction"], 1023.0);
    close_to(&found["days"][0]["zScore"], 10.0 / (30.0_f64 / 29.0).sqrt());
}

#[test]
fn bad_rows_are_reported_and_counted() {
    let files = Files::new();
    let file = files.file(
        "zec.csv",
        "date,close\n2024-01-01,10\nnot a date,11\n2024-01-02,-5\n2024-01-03,\n2024-01-04,20\n",
    );
    let text = ask(&["how did ZEC move", "--prices", &file]).answered();
    assert!(text.starts_with("ZEC rose 100.0 % from 2024-01-01 to 2024-01-04.\n"), "{text}");
    assert!(!text.contains("synthetic"), "{text}");
    for part in [
        format!("Source        {file} (5 rows, 1 without a price, 2 bad)"),
        format!("Bad rows      {file}:3: `not a date` is not an ISO date or an RFC 3339 time"),
        format!("              {file}:4: price `-5` is not above zero and finite"),
    ] {
        assert!(text.contains(&part), "{part} in\n{text}");
    }
    let provenance = ask_json(&["ZEC", "--prices", &file])["results"]["provenance"].take();
    assert_eq!(provenance["badRows"], "2");
    assert_eq!(provenance["firstBadRows"][0]["line"], "3");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let files = Files::new();
    let strange = files.file("zec.csv", "a,b\n1,2\n");
    for (file, part) in [
        ("/no/such.csv", "cannot read `/no/such.csv`: "),
        (&strange, "neither a date nor a price column"),
    ] {
        let error = ask(&["ZEC", "--prices", file]).failed();
        assert!(error.starts_with("market: agent `data` failed to start: "), "{error}");
        assert!(error.contains(part) && error.contains(file), "{error}");
    }
}

#[test]
fn prices_that_are_not_there_are_a_failure_that_says_what_is() {
    let asked = ask(&["ZEC since 2030-01-01"]);
    assert_eq!(asked.code, Some(1), "{asked:?}");
    assert!(
        asked.stdout.starts_with(
            "No answer: no prices for ZEC from 2030-01-01 on; there are prices from 2024-11-27 to \
             2025-12-31.\n"
        ),
        "{asked:?}"
    );
}

#[test]
fn a_question_as_long_as_a_book_is_refused() {
    let error = ask(&[&"ZEC ".repeat(1000)]).failed();
    assert!(error.contains("`text` is longer than 1000 bytes"), "{error}");
}

#[test]
fn a_bus_that_is_not_there_is_named_without_its_password() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    let bus = format!("amqp://me:s3cret@{port}/x");
    for arguments in [&["ask", "ZEC"][..], &["ask", "--all", "ZEC"], &["serve", "all"]] {
        let mut by_option = support::market(arguments);
        by_option.args(["--bus", &bus]);
        let mut by_variable = support::market(arguments);
        by_variable.env("AGENTBUS_URL", &bus);
        for command in [by_option, by_variable] {
            let error = support::Ran::of(command).failed();
            assert!(error.contains(&format!("cannot be reached at {port}")), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}

#[test]
fn what_belongs_elsewhere_is_sent_there() {
    let on_a_bus = ["--bus", "amqp://me:s3cret@localhost:1"];
    for (arguments, part) in [
        (&["ask", "ZEC", "--prices", "a.csv"][..], "`market serve data --prices …`"),
        (&["serve", "query", "--prices", "a.csv"], "agent `query` reads no prices"),
    ] {
        let error = support::Ran::of(support::market(&[arguments, &on_a_bus].concat())).failed();
        assert!(error.contains(part), "{error}");
    }
    let error = support::Ran::of(support::market(&["serve", "all"])).failed();
    assert!(error.contains("--bus amqp://localhost"), "{error}");
    let error = ask(&["ZEC", "--bus", "me:s3cret@localhost"]).failed();
    assert!(error.starts_with("market: `--bus` is not the address of a bus: "), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
}
