//! One row of a price file.

use super::{header::Columns, instant::Instant, line::Record, rejected::shown};

/// What a row says about its asset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Row {
    /// A close.
    Close(Instant, f64),
    /// No price: a gap, not a fault.
    Blank,
}

impl Row {
    /// Reads the time and the price of `record`, or says what is wrong with them.
    pub(super) fn parse(record: &Record, columns: &Columns) -> Result<Self, String> {
        let time = text(record, columns.time, "date")?;
        if time.is_empty() {
            return Err("no date".into());
        }
        let instant = Instant::parse(time).ok_or_else(|| {
            format!("`{}` is not an ISO date or an RFC 3339 time", shown(time.as_bytes()))
        })?;
        let price = text(record, columns.price, "price")?;
        if price.is_empty() {
            return Ok(Self::Blank);
        }
        match price.parse::<f64>() {
            Ok(close) if close.is_finite() && close > 0.0 => Ok(Self::Close(instant, close)),
            Ok(_) => {
                Err(format!("price `{}` is not above zero and finite", shown(price.as_bytes())))
            }
            Err(_) => Err(format!("price `{}` is not a number", shown(price.as_bytes()))),
        }
    }
}

/// Returns a cell as text without blanks around it, or says what is wrong with it.
pub(super) fn text<'r>(record: &'r Record, column: usize, name: &str) -> Result<&'r str, String> {
    let cell = record.get(column).unwrap_or_default();
    std::str::from_utf8(cell)
        .map(str::trim)
        .map_err(|_| format!("{name} `{}` is not UTF-8 text", shown(cell)))
}

#[cfg(test)]
mod tests {
    use super::{super::line::Lines, *};

    fn parse(line: &[u8]) -> Result<Option<f64>, String> {
        let mut record = Record::default();
        Lines::new(line).next(&mut record).expect("memory never fails").expect("a line");
        let columns = Columns { time: 0, price: 1, asset: None, count: 2 };
        Row::parse(&record, &columns).map(|row| match row {
            Row::Close(_, close) => Some(close),
            Row::Blank => None,
        })
    }

    #[test]
    fn a_price_is_a_number_above_zero() {
        assert_eq!(parse(b"2024-01-31,12.5"), Ok(Some(12.5)));
        assert_eq!(parse(b"2024-01-31, 1e-7 "), Ok(Some(1e-7)));
        assert_eq!(parse(b"2024-01-31,"), Ok(None));
        assert_eq!(parse(b"2024-01-31, "), Ok(None));
    }

    #[test]
    fn a_bad_row_says_why() {
        for (line, reason) in [
            (&b"2024-01-31,-1"[..], "price `-1` is not above zero and finite"),
            (b"2024-01-31,0", "price `0` is not above zero and finite"),
            (b"2024-01-31,NaN", "price `NaN` is not above zero and finite"),
            (b"2024-01-31,inf", "price `inf` is not above zero and finite"),
            (b"2024-01-31,1e999", "price `1e999` is not above zero and finite"),
            (b"2024-01-31,abc", "price `abc` is not a number"),
            (b"2024-01-31,\"1,234\"", "price `1,234` is not a number"),
            (b"2024-01-31,\xff", "price `\u{fffd}` is not UTF-8 text"),
            (b"\xff,1", "date `\u{fffd}` is not UTF-8 text"),
            (b",1", "no date"),
            (b"31/01/2024,1", "`31/01/2024` is not an ISO date or an RFC 3339 time"),
            (b"2024-02-30,", "`2024-02-30` is not an ISO date or an RFC 3339 time"),
        ] {
            assert_eq!(parse(line), Err(reason.into()), "{}", String::from_utf8_lossy(line));
        }
    }
}
