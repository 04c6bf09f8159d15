//! Statistics of closes.

use statrs::statistics::{Data, Median, Statistics as _};

use super::finite;
use crate::series::Point;

/// Statistics of the closes in a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// How many closes there are; at least 1.
    pub count: usize,
    /// The first close.
    pub first: Point,
    /// The last close.
    pub last: Point,
    /// The lowest close; the earliest of equals.
    pub lowest: Point,
    /// The highest close; the earliest of equals.
    pub highest: Point,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Middle value; the mean of the two middle ones where the count is even.
    pub median: Option<f64>,
    /// Sample standard deviation (n − 1); `None` with one close.
    pub standard_deviation: Option<f64>,
}

/// Computes the statistics of `points`; `None` without any.
#[must_use]
pub fn statistics(points: &[Point]) -> Option<Statistics> {
    let (first, last) = (points.first()?, points.last()?);
    let extreme = |wins: fn(f64, f64) -> bool| {
        points.iter().fold(
            *first,
            |best, point| {
                if wins(point.close, best.close) { *point } else { best }
            },
        )
    };
    let closes = || points.iter().map(|point| point.close);
    Some(Statistics {
        count: points.len(),
        first: *first,
        last: *last,
        lowest: extreme(|close, best| close < best),
        highest: extreme(|close, best| close > best),
        mean: finite(closes().mean()),
        median: finite(Data::new(closes().collect::<Vec<_>>()).median()),
        standard_deviation: finite(closes().std_dev()),
    })
}

#[cfg(test)]
#[allow(clippy::unreadable_literal)] // the digits as numpy prints them
mod tests {
    use super::{
        super::fixture::{A, B, assert_close, series},
        *,
    };

    #[test]
    fn numbers_agree_with_numpy() {
        // a.mean(), np.median(a), a.std(ddof=1), a.min(), a.argmin(), a.max(), a.argmax()
        let a = statistics(series(&A).points()).expect("closes");
        assert_close(a.mean, 79.60088888888889);
        assert_close(a.median, 77.71);
        assert_close(a.standard_deviation, 14.698851195404574);
        assert_eq!((a.count, a.first.close, a.last.close), (45, 100.0, 62.96));
        assert_eq!((a.lowest.close, a.lowest.date.to_string()), (60.31, "2024-02-12".into()));
        assert_eq!((a.highest.close, a.highest.date.to_string()), (100.9, "2024-01-02".into()));

        let b = statistics(series(&B).points()).expect("closes");
        assert_close(b.mean, 44.394222222222226);
        assert_close(b.standard_deviation, 5.737468751702939);
        // np.median(a[:44])
        assert_close(statistics(series(&A[..44]).points()).and_then(|a| a.median), 77.755);
    }

    #[test]
    fn few_or_equal_closes_give_what_can_be_said() {
        assert_eq!(statistics(&[]), None);
        let one = statistics(series(&[5.0]).points()).expect("one close");
        assert_eq!((one.mean, one.median, one.standard_deviation), (Some(5.0), Some(5.0), None));
        let two = statistics(series(&[5.0, 7.0]).points()).expect("two closes");
        assert_close(two.standard_deviation, std::f64::consts::SQRT_2);
        let equal = statistics(series(&[5.0; 9]).points()).expect("nine closes");
        assert_eq!((equal.standard_deviation, equal.highest.date), (Some(0.0), equal.first.date));
        let huge = statistics(series(&[f64::MAX, f64::MAX, 1.0]).points()).expect("three closes");
        assert!(huge.standard_deviation.is_none_or(f64::is_finite));
    }
}
