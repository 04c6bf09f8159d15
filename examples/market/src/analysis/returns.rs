//! Returns: of days, and over a range.

use jiff::civil::Date;

use super::finite;
use crate::series::Point;

/// The log return of a day against the day before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DailyReturn {
    /// The day.
    pub date: Date,
    /// `ln(close / close of the day before)`; finite.
    pub log: f64,
}

/// The daily returns of some closes.
#[derive(Debug, Clone, PartialEq)]
pub struct DailyReturns {
    /// The returns, oldest first.
    pub days: Vec<DailyReturn>,
    /// How many pairs of neighbouring closes were left out because days are missing between them.
    pub gaps: usize,
}

impl DailyReturns {
    /// Computes the daily returns of `points`, oldest first.
    #[must_use]
    pub fn of(points: &[Point]) -> Self {
        let mut returns = Self { days: Vec::new(), gaps: 0 };
        for pair in points.windows(2) {
            let [before, day] = pair else { continue };
            if before.date.tomorrow().ok() != Some(day.date) {
                returns.gaps += 1;
            } else if let Some(log) = finite(day.close.ln() - before.close.ln()) {
                returns.days.push(DailyReturn { date: day.date, log });
            }
        }
        returns
    }

    /// Returns the log returns alone.
    #[must_use]
    pub fn logs(&self) -> Vec<f64> {
        self.days.iter().map(|day| day.log).collect()
    }
}

/// Computes `last / first − 1` of `points`; `None` with fewer than two.
#[must_use]
pub fn fraction(points: &[Point]) -> Option<f64> {
    match points {
        [first, .., last] => finite(last.close / first.close - 1.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{A, assert_close, series, with_gaps},
        *,
    };

    #[test]
    fn the_return_is_last_over_first() {
        // a[-1] / a[0] - 1
        assert_close(fraction(series(&A).points()), -0.3704);
        assert_eq!(fraction(series(&[1.0]).points()), None);
        assert_eq!(fraction(&[]), None);
        assert_eq!(fraction(series(&[f64::MIN_POSITIVE, f64::MAX]).points()), None);
    }

    #[test]
    fn days_after_a_gap_have_no_daily_return() {
        assert_eq!(DailyReturns::of(series(&A).points()).days.len(), 44);
        let returns = DailyReturns::of(with_gaps(A, &[10, 20, 21]).points());
        assert_eq!((returns.days.len(), returns.gaps), (39, 2));
        assert_eq!(returns.days[0].date.to_string(), "2024-01-02");
        // np.diff(np.log(a))[0]
        assert_close(Some(returns.days[0].log), 0.008_959_741_371_471_708);
    }
}
