//! The straight line through closes.

use statrs::statistics::Statistics as _;

use super::finite;
use crate::series::Point;

/// The straight line through closes, by least squares over calendar days.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Rise in price a day; negative where it falls.
    pub slope_per_day: f64,
    /// Share of the variance that the line explains, 0 to 1; `None` where the closes are all equal.
    pub r_squared: Option<f64>,
}

/// Fits a line through `points`; `None` with fewer than two. Missing days count as time that passed.
#[must_use]
pub fn trend(points: &[Point]) -> Option<Trend> {
    let first = points.first()?.date;
    let day = |point: &Point| f64::from((point.date - first).get_days());
    let days: Vec<_> = points.iter().map(day).collect();
    let closes: Vec<_> = points.iter().map(|point| point.close).collect();
    let covariance = days.iter().covariance(closes.iter());
    let slope_per_day = finite(covariance / days.iter().variance())?;
    let varies = closes.iter().any(|close| close.total_cmp(&closes[0]).is_ne());
    let r_squared = varies
        .then(|| slope_per_day * covariance / closes.iter().variance())
        .and_then(finite)
        .map(|share| share.clamp(0.0, 1.0));
    Some(Trend { slope_per_day: if varies { slope_per_day } else { 0.0 }, r_squared })
}

#[cfg(test)]
#[allow(clippy::unreadable_literal)] // the digits as scipy prints them
mod tests {
    use super::{
        super::fixture::{A, assert_close, series, with_gaps},
        *,
    };

    #[test]
    fn numbers_agree_with_scipy() {
        // lr = stats.linregress(np.arange(45), a); lr.slope, lr.rvalue ** 2
        let whole = trend(series(&A).points()).expect("a line");
        assert_close(Some(whole.slope_per_day), -1.0556877470355728);
        assert_close(whole.r_squared, 0.8898017889363518);

        // d = np.arange(45)[~np.isnan(ga)]; stats.linregress(d, ga[d])
        let gaps = trend(with_gaps(A, &[10, 20, 21]).points()).expect("a line");
        assert_close(Some(gaps.slope_per_day), -1.0519506431377819);
        assert_close(gaps.r_squared, 0.8900735653505819);
    }

    #[test]
    fn few_or_equal_closes_give_what_can_be_said() {
        assert_eq!(trend(&[]), None);
        assert_eq!(trend(series(&[5.0]).points()), None);
        let line = trend(series(&[5.0, f64::NAN, 9.0]).points()).expect("a line");
        assert_eq!((line.slope_per_day, line.r_squared), (2.0, Some(1.0)));
        let flat = trend(series(&[0.1; 50]).points()).expect("a line");
        assert_eq!((flat.slope_per_day, flat.r_squared), (0.0, None));
    }
}
