//! Price files, good and bad, are read as documented.

use std::{fmt::Write as _, fs, path::PathBuf};

use jiff::civil::date;
use market::{
    prices::{Prices, ReadError, Reading, SelectError, Source},
    range::{DateRange, Span, Unit},
};
use tempfile::TempDir;

/// Price files in a directory of their own.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> Source {
        fs::write(self.path(name), text).expect("a writable directory");
        Source::File { path: self.path(name), asset: None }
    }

    fn prices(&self, name: &str, text: impl AsRef<[u8]>) -> Prices {
        Prices::new(vec![self.file(name, text)])
    }
}

fn assets(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn read(text: impl AsRef<[u8]>) -> Reading {
    Files::new().prices("zec.csv", text).read(&assets(&["ZEC"])).expect("a readable file")
}

fn closes(reading: &Reading) -> Vec<(String, f64)> {
    reading.series[0].points().iter().map(|p| (p.date.to_string(), p.close)).collect()
}

fn close(date: &str, close: f64) -> (String, f64) {
    (date.into(), close)
}

#[test]
fn a_file_may_hold_one_asset_named_by_the_file() {
    let reading = read("date,open,close\n2024-01-01,9,10\n2024-01-02,9,11.5\n");
    assert_eq!(closes(&reading), [close("2024-01-01", 10.0), close("2024-01-02", 11.5)]);
    assert_eq!(reading.series[0].asset, "ZEC");
    assert_eq!(reading.provenance.rows, 2);
    assert!(!reading.provenance.synthetic);
}

#[test]
fn a_file_may_hold_several_assets_in_any_case() {
    let files = Files::new();
    let prices = files.prices(
        "all.csv",
        "symbol,date,price\nzec,2024-01-01,1\nBTC,2024-01-01,2\nZec,2024-01-02,3\n,2024-01-02,3\n",
    );
    assert_eq!(prices.assets().expect("assets"), ["BTC", "ZEC"]);
    let reading = prices.read(&assets(&["btc", "ZEC", "BTC"])).expect("both");
    let found: Vec<_> =
        reading.series.iter().map(|s| (s.asset.as_str(), s.points().len())).collect();
    assert_eq!(found, [("BTC", 1), ("ZEC", 2)]);
    assert_eq!(reading.provenance.first_bad_rows[0].reason, "no asset");
}

#[test]
fn a_file_given_for_an_asset_is_that_asset() {
    let files = Files::new();
    files.file("my prices.csv", "date,close\n2024-01-01,1\n");
    files.file("all.csv", "date,close,asset\n2024-01-01,1,BTC\n2024-01-01,2,ETH\n");
    let named = |asset: &str, name| -> Source {
        format!("{asset}={}", files.path(name).display()).parse().expect("a source")
    };
    let prices = Prices::new(vec![named("zec", "my prices.csv"), named("eth", "all.csv")]);
    assert_eq!(prices.assets().expect("assets"), ["ETH", "ZEC"]);
    assert_eq!(prices.read(&assets(&["ZEC", "ETH"])).expect("both").series.len(), 2);
}

#[test]
fn several_files_add_up_and_the_later_counts() {
    let files = Files::new();
    let first = files.file("a.csv", "date,close,asset\n2024-01-01,1,ZEC\n2024-01-02,2,ZEC\n");
    let second = files.file("zec.csv", "date,close\n2024-01-02,20\n2024-01-03,30\n");
    let reading = Prices::new(vec![first, second]).read(&assets(&["ZEC"])).expect("both");
    let expected = [close("2024-01-01", 1.0), close("2024-01-02", 20.0), close("2024-01-03", 30.0)];
    assert_eq!(closes(&reading), expected);
    assert_eq!(reading.provenance.duplicate_rows, 1);
    assert_eq!(reading.provenance.sources.len(), 2);
}

#[test]
fn a_missing_asset_lists_what_is_there() {
    let error = Files::new()
        .prices("all.csv", "date,close,asset\n2024-01-01,1,BTC\n2024-01-01,2,ETH\n")
        .read(&assets(&["ZEC", "BTC", "DOGE"]))
        .expect_err("ZEC is not there");
    assert_eq!(error.to_string(), "no prices for ZEC, DOGE; there are prices for BTC, ETH");
    assert!(matches!(error, ReadError::MissingAsset { .. }));
}

#[test]
fn blank_prices_are_gaps() {
    let reading = read("date,close\n2024-01-01,\n2024-01-02,2\n2024-01-03, \n,\n");
    assert_eq!(closes(&reading), [close("2024-01-02", 2.0)]);
    let provenance = reading.provenance;
    assert_eq!((provenance.rows, provenance.blank_rows, provenance.bad_rows), (3, 2, 0));
}

#[test]
fn unsorted_rows_are_sorted_and_duplicates_counted() {
    let reading = read("date,close\n2024-01-03,3\n2024-01-01,1\n2024-01-03,4\n2024-01-02,2\n");
    let expected = [close("2024-01-01", 1.0), close("2024-01-02", 2.0), close("2024-01-03", 4.0)];
    assert_eq!(closes(&reading), expected);
    assert_eq!(reading.provenance.duplicate_rows, 1);
}

#[test]
fn the_last_of_a_day_is_its_close() {
    let reading = read(
        "timestamp,close\n2024-01-01T10:00:00Z,1\n2024-01-01T23:59:00Z,2\n2024-01-01T11:00:00Z,3\n\
         2024-01-02T00:30:00+01:00,4\n2024-01-02T09:00:00Z,5\n2024-01-03,6\n2024-01-03T23:00:00Z,7\n",
    );
    let expected = [close("2024-01-01", 2.0), close("2024-01-02", 5.0), close("2024-01-03", 6.0)];
    assert_eq!(closes(&reading), expected);
    assert_eq!(reading.provenance.duplicate_rows, 0);
}

#[test]
fn bad_rows_name_file_line_and_reason() {
    let files = Files::new();
    let text =
        b"date,close\r\n2024-01-01,-1\r\n\r\n2024-01-02,2\r\n2024-01-03\r\n2024-01-04,1,234\r\n\
        2024-01-05,\xff\r\n\"2024-01-06,7\r\nx,8\r\n";
    let reading = files.prices("zec.csv", text).read(&assets(&["ZEC"])).expect("readable");
    assert_eq!(closes(&reading), [close("2024-01-02", 2.0)]);
    assert_eq!((reading.provenance.rows, reading.provenance.bad_rows), (7, 6));
    let bad: Vec<_> = reading
        .provenance
        .first_bad_rows
        .iter()
        .map(|bad| (bad.line, bad.reason.as_str()))
        .collect();
    let expected = [
        (2, "price `-1` is not above zero and finite"),
        (5, "1 fields where the header has 2"),
        (6, "3 fields where the header has 2"),
        (7, "price `\u{fffd}` is not UTF-8 text"),
        (8, "a quote is not closed"),
        (9, "`x` is not an ISO date or an RFC 3339 time"),
    ];
    assert_eq!(bad, expected);
    assert_eq!(
        reading.provenance.first_bad_rows[0].file,
        files.path("zec.csv").display().to_string()
    );
}

#[test]
fn only_the_first_bad_rows_are_kept() {
    let mut text = String::from("date,close\n2024-01-01,1\n");
    for _ in 0..1000 {
        text.push_str("2024-01-01,x\n");
    }
    let provenance = read(text).provenance;
    assert_eq!((provenance.bad_rows, provenance.first_bad_rows.len()), (1000, 20));
}

#[test]
fn a_byte_order_mark_and_quotes_are_no_hindrance() {
    let reading = read("\u{feff}\"Date\",\"PriceUSD\"\r\n\"2024-01-01\",\"1.5\"\r\n");
    assert_eq!(closes(&reading), [close("2024-01-01", 1.5)]);
}

#[test]
fn files_that_are_no_price_files_say_why() {
    let files = Files::new();
    for (name, text, part) in [
        ("zec.csv", &b""[..], "is empty"),
        ("zec.csv", b"\n\n", "is empty"),
        ("zec.csv", b"day,close\n", "no date column"),
        ("zec.csv", b"date,value\n", "no price column"),
        ("zec.csv", b"\x00\x01\x02\xff", "not UTF-8 text"),
        ("zec.csv", b"\"date,close\n", "a quote is not closed"),
        ("my zec.csv", b"date,close\n2024-01-01,1\n", "its name is not a ticker"),
    ] {
        let error = files.prices(name, text).read(&assets(&["ZEC"])).expect_err(part);
        assert!(matches!(error, ReadError::WrongFormat { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let files = Files::new();
    for path in [files.path("absent.csv"), files.0.path().to_path_buf()] {
        let prices = Prices::new(vec![Source::File { path: path.clone(), asset: None }]);
        let error = prices.read(&assets(&["ZEC"])).expect_err("unreadable");
        assert!(matches!(error, ReadError::Unreadable { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()));
        assert!(prices.assets().is_err());
    }
}

#[test]
fn a_file_of_minutes_comes_down_to_days() {
    let mut text = String::from("time,asset,close\n");
    for minute in 0..3 * 24 * 60 {
        let (day, hour, rest) = (minute / 1440 + 1, minute / 60 % 24, minute % 60);
        writeln!(text, "2024-01-0{day}T{hour:02}:{rest:02}:00Z,ZEC,{}", minute + 1)
            .expect("memory");
    }
    let reading = read(text);
    let expected =
        [close("2024-01-01", 1440.0), close("2024-01-02", 2880.0), close("2024-01-03", 4320.0)];
    assert_eq!(closes(&reading), expected);
}

fn two_assets() -> String {
    let mut text = String::from("date,asset,close\n");
    for day in 1..=31 {
        writeln!(text, "2024-01-{day:02},ZEC,{day}").expect("memory");
        if (5..=28).contains(&day) {
            writeln!(text, "2024-01-{day:02},BTC,{day}").expect("memory");
        }
    }
    text
}

#[test]
fn relative_ranges_count_back_from_the_newest_shared_date() {
    let prices = Files::new();
    let prices = prices.prices("a.csv", two_assets());
    let last_week = Span::Last { count: 1, unit: Unit::Week };
    let both = prices.select(&assets(&["ZEC", "BTC"]), last_week, 0).expect("both");
    assert_eq!(both.range.days, DateRange { from: date(2024, 1, 21), to: date(2024, 1, 28) });
    assert_eq!(both.range.newest_shared, Some(date(2024, 1, 28)));
    assert!(both.series.iter().all(|series| series.points().len() == 8));

    let alone = prices.select(&assets(&["ZEC"]), last_week, 3).expect("one");
    assert_eq!(alone.range.days.to, date(2024, 1, 31));
    assert_eq!(alone.series[0].points().len(), 11, "with the days that lead in");

    let whole = prices.select(&assets(&["ZEC", "BTC"]), Span::Whole, 0).expect("both");
    assert_eq!(whole.range.days, DateRange { from: date(2024, 1, 5), to: date(2024, 1, 28) });
}

#[test]
fn a_range_without_prices_says_what_there_is() {
    let files = Files::new();
    let prices = files.prices("a.csv", two_assets());
    let since = Span::Between { from: Some(date(2025, 1, 1)), to: None };
    let early = Span::Between { from: Some(date(2024, 1, 1)), to: Some(date(2024, 1, 3)) };
    let both = assets(&["ZEC", "BTC"]);
    let error = prices.select(&both, since, 0).expect_err("nothing in 2025");
    assert!(matches!(&error, SelectError::NoPricesInRange { assets, .. } if *assets == both));
    assert!(error.to_string().starts_with("no prices for ZEC, BTC from 2025-01-01 on;"), "{error}");
    let error = prices.select(&both, early, 0).expect_err("no BTC so early");
    assert_eq!(
        error.to_string(),
        "no prices for BTC from 2024-01-01 to 2024-01-03; there are prices from 2024-01-05 to 2024-01-28"
    );
}

#[test]
fn assets_without_a_shared_date_cannot_be_counted_back() {
    let files = Files::new();
    let prices = files
        .prices("a.csv", "date,asset,close\n2024-01-01,ZEC,1\n2024-01-02,BTC,2\n2024-01-01,ETH,\n");
    let both = assets(&["ZEC", "BTC"]);
    let error = prices.select(&both, Span::Whole, 0).expect_err("no shared date");
    assert!(matches!(error, SelectError::NoSharedDate { .. }));
    let named = Span::Between { from: Some(date(2024, 1, 1)), to: Some(date(2024, 1, 2)) };
    let selection = prices.select(&both, named, 0).expect("named dates need no shared one");
    assert_eq!(selection.range.newest_shared, None);
    let error = prices.select(&assets(&["ETH"]), Span::Whole, 0).expect_err("only blanks");
    assert_eq!(error.to_string(), "no usable price for ETH");

    let prices = files.prices("zec.csv", "date,close\n2024-01-01,n/a\n");
    let error = prices.select(&assets(&["ZEC"]), Span::Whole, 0).expect_err("only a bad row");
    let text = error.to_string();
    assert!(text.starts_with("no usable price for ZEC; the first bad row is "), "{text}");
    assert!(text.ends_with("zec.csv:2: price `n/a` is not a number"), "{text}");
}
