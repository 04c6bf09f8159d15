//! Numbers as they are shown.

use std::time::Duration;

/// Shows a price: two decimals, more below 1, thousands apart.
pub(super) fn price(price: f64) -> String {
    let size = price.abs();
    if size >= 1e12 || (size < 1e-6 && size > 0.0) {
        return format!("{price:.3e}");
    }
    if size < 1.0 && size > 0.0 {
        return format!("{price:.6}");
    }
    let shown = format!("{price:.2}");
    let (whole, decimals) = shown.split_once('.').unwrap_or((&shown, "00"));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}.{decimals}")
}

/// Shows a fraction in per cent, with its sign.
pub(super) fn signed_percent(fraction: f64) -> String {
    let shown = percent(fraction);
    if fraction > 0.0 { format!("+{shown}") } else { shown }
}

/// Shows a fraction in per cent.
pub(super) fn percent(fraction: f64) -> String {
    let percent = 100.0 * fraction;
    if percent.abs() >= 1e9 { format!("{percent:.1e} %") } else { format!("{percent:.1} %") }
}

/// Shows a p-value with its relation, as in `p = 0.012` or `p < 0.001`.
pub(super) fn p_value(p_value: f64) -> String {
    if p_value < 0.001 { "p < 0.001".into() } else { format!("p = {p_value:.3}") }
}

/// Shows how long something took.
pub(super) fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        for (number, shown) in [
            (1_234_567.891, "1,234,567.89"),
            (-1234.5, "-1,234.50"),
            (999.999, "1,000.00"),
            (12.3, "12.30"),
            (0.0, "0.00"),
            (0.012_345_678, "0.012346"),
            (-0.05, "-0.050000"),
            (1.5e-9, "1.500e-9"),
            (1e300, "1.000e300"),
        ] {
            assert_eq!(price(number), shown);
        }
        assert_eq!(
            (signed_percent(0.123), signed_percent(-0.05)),
            ("+12.3 %".into(), "-5.0 %".into())
        );
        assert_eq!((p_value(0.0123), p_value(1e-9)), ("p = 0.012".into(), "p < 0.001".into()));
        assert_eq!(milliseconds(Duration::from_micros(1250)), "1.2 ms");
    }
}
