//! The sample that ships with the package: made-up prices of ZEC, BTC and ETH.
//!
//! It was made by [`generate`], once, and is embedded in the binary, so that the first question can
//! be answered without any file. It uses no function of the platform's mathematics, so the same
//! seed gives the same bytes everywhere.

use std::fmt::Write as _;

use jiff::{ToSpan, civil::Date};

/// The sample as CSV: columns `date`, `asset` and `close`.
pub const CSV: &[u8] = include_bytes!("../data/sample.csv");

/// The newest date of the sample.
pub const NEWEST: Date = jiff::civil::date(2025, 12, 31);

/// How many days the sample has.
const DAYS: usize = 400;
const SEED: u64 = 0x0a6e_17b5;

/// How an asset is made up.
struct Recipe {
    asset: &'static str,
    start: f64,
    /// How much of the market's move it makes.
    market: f64,
    /// Standard deviation of its own daily moves.
    own: f64,
    /// Days on which something happens, and how much the price changes by that.
    shocks: &'static [(usize, f64)],
    /// A day without a price, and a day without a row.
    blank: Option<usize>,
    absent: Option<usize>,
}

const RECIPES: [Recipe; 3] = [
    Recipe {
        asset: "ZEC",
        start: 55.0,
        market: 1.1,
        own: 0.026,
        shocks: &[(212, 0.24), (318, 0.31), (371, -0.23)],
        blank: Some(108),
        absent: None,
    },
    Recipe {
        asset: "BTC",
        start: 91_500.0,
        market: 1.0,
        own: 0.008,
        shocks: &[(371, -0.11)],
        blank: None,
        absent: None,
    },
    Recipe {
        asset: "ETH",
        start: 3_450.0,
        market: 1.25,
        own: 0.016,
        shocks: &[(163, 0.15), (371, -0.14)],
        blank: None,
        absent: Some(193),
    },
];

/// Generates the sample, byte for byte as it is shipped.
#[must_use]
pub fn generate() -> String {
    let mut noise = Noise(SEED);
    let mut closes = RECIPES.map(|recipe| recipe.start);
    let mut csv = String::from("date,asset,close\n");
    for (day, days_back) in (0..DAYS).zip((0..400_i64).rev()) {
        let date = NEWEST - days_back.days();
        let market = 0.0012 + 0.016 * noise.next();
        for (recipe, close) in RECIPES.iter().zip(&mut closes) {
            let shock = recipe.shocks.iter().find(|(on, _)| *on == day).map_or(0.0, |(_, by)| *by);
            *close *= 1.0 + recipe.market * market + recipe.own * noise.next() + shock;
            if recipe.blank == Some(day) {
                push(&mut csv, format_args!("{date},{},\n", recipe.asset));
            } else if recipe.absent != Some(day) {
                push(&mut csv, format_args!("{date},{},{close:.2}\n", recipe.asset));
            }
        }
    }
    csv
}

fn push(csv: &mut String, row: std::fmt::Arguments<'_>) {
    csv.write_fmt(row).expect("writing to a string never fails");
}

/// Random numbers of mean 0 and standard deviation 1, nearly normal: the sum of twelve even ones.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        (0..12).map(|_| self.even()).sum::<f64>() - 6.0
    }

    /// Returns a number from 0 to 1, by `SplitMix64`.
    fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let high = u32::try_from(bits >> 32).expect("32 bits are left");
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analysis::{THRESHOLD, WINDOW, anomalies, correlation},
        prices::Prices,
        range::Span,
    };

    #[test]
    fn the_shipped_file_is_what_is_generated() {
        let generated = generate();
        if generated.as_bytes() != CSV {
            let line = generated
                .lines()
                .zip(CSV.split(|byte| *byte == b'\n'))
                .position(|(a, b)| a.as_bytes() != b);
            panic!(
                "data/sample.csv differs from what is generated, first on line {line:?} counted from 0"
            );
        }
    }

    #[test]
    fn the_sample_has_something_to_find() {
        let assets = ["ZEC", "BTC", "ETH"].map(String::from);
        let prices = Prices::new(Vec::new());
        assert_eq!(prices.assets().expect("readable"), ["BTC", "ETH", "ZEC"]);
        let sample = prices.select(&assets, Span::Whole, 0).expect("readable");
        assert_eq!(sample.range.newest_shared, Some(NEWEST));
        assert!(sample.provenance.synthetic);
        assert_eq!((sample.provenance.blank_rows, sample.provenance.bad_rows), (1, 0));
        let lengths: Vec<_> = sample.series.iter().map(|series| series.points().len()).collect();
        assert_eq!(lengths, [399, 400, 399]);
        for series in &sample.series {
            let found = anomalies(series, sample.range.days, WINDOW, THRESHOLD);
            assert!(!found.days.is_empty(), "{}", series.asset);
        }
        let [zec, btc, _] = &sample.series[..] else { panic!("three series") };
        let coefficient = correlation(zec.points(), btc.points()).coefficient;
        assert!(coefficient.is_some_and(|coefficient| (0.3..0.8).contains(&coefficient)));
    }
}
