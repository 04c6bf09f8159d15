//! Finds the columns of a price file.

use super::{line::Record, rejected::shown};

/// Names of the column with the time, the preferred one first.
pub(super) const TIME: [&str; 3] = ["date", "time", "timestamp"];
/// Names of the column with the price, the preferred one first.
pub(super) const PRICE: [&str; 4] = ["close", "price", "priceusd", "price(usd)"];
/// Names of the column with the asset, the preferred one first.
pub(super) const ASSET: [&str; 2] = ["asset", "symbol"];

/// Which column holds what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) time: usize,
    pub(super) price: usize,
    pub(super) asset: Option<usize>,
    /// How many columns there are.
    pub(super) count: usize,
}

impl Columns {
    /// Finds the columns in `header`, or says what is wrong with it.
    pub(super) fn find(header: &Record) -> Result<Self, String> {
        let names: Vec<_> = header
            .iter()
            .map(|cell| String::from_utf8_lossy(cell).trim().to_ascii_lowercase())
            .collect();
        let find = |wanted: &[&str]| {
            wanted.iter().find_map(|wanted| names.iter().position(|name| name == wanted))
        };
        let (time, price) = (find(&TIME), find(&PRICE));
        if let (Some(time), Some(price)) = (time, price) {
            return Ok(Self { time, price, asset: find(&ASSET), count: names.len() });
        }

        let missing = match (time, price) {
            (None, None) => "neither a date nor a price column",
            (None, _) => "no date column",
            _ => "no price column",
        };
        let found: Vec<_> =
            header.iter().take(20).map(|cell| format!("`{}`", shown(cell))).collect();
        let hint =
            if header.iter().any(|cell| cell.contains(&0) || std::str::from_utf8(cell).is_err()) {
                "; the file is not UTF-8 text"
            } else if let [name] = &names[..]
                && name.contains([';', '\t'])
            {
                "; separate the columns by commas"
            } else {
                ""
            };
        Err(format!(
            "has {missing}: found {}{hint}; allowed are `date`, `time` or `timestamp`, and `close`, \
             `price`, `PriceUSD` or `price(USD)`",
            found.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::line::Lines, *};

    fn find(header: &[u8]) -> Result<Columns, String> {
        let mut record = Record::default();
        Lines::new(header).next(&mut record).expect("memory never fails").expect("a line");
        Columns::find(&record)
    }

    #[test]
    fn columns_are_found_by_any_of_their_names() {
        for (header, (time, price, asset)) in [
            ("date,close", (0, 1, None)),
            ("Symbol,TIMESTAMP,open,Price", (1, 3, Some(0))),
            ("time, PriceUSD ,asset", (0, 1, Some(2))),
            ("date,txVolume(USD),price(USD)", (0, 2, None)),
            ("timestamp,date,price,close", (1, 3, None)),
            ("\"date\",\"close\"", (0, 1, None)),
        ] {
            let columns = find(header.as_bytes()).expect(header);
            assert_eq!(
                (columns.time, columns.price, columns.asset),
                (time, price, asset),
                "{header}"
            );
        }
    }

    #[test]
    fn a_header_without_the_columns_says_what_was_found() {
        for (header, parts) in [
            (&b"day,close"[..], ["no date column", "found `day`, `close`"]),
            (b"date,value", ["no price column", "allowed are `date`"]),
            (b"a", ["neither a date nor a price column", "`PriceUSD`"]),
            (b"date;close", ["found `date;close`", "separate the columns by commas"]),
            (b"\xff\xfed\0a\0t\0e\0", ["neither", "not UTF-8 text"]),
        ] {
            let error = find(header).expect_err("no columns");
            for part in parts {
                assert!(error.contains(part), "{part} in {error}");
            }
        }
    }
}
