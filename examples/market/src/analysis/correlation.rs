//! How the returns of two assets go together.

use std::collections::BTreeMap;

use statrs::{
    distribution::{ContinuousCDF, StudentsT},
    statistics::Statistics as _,
};

use super::{finite, number, returns::DailyReturns};
use crate::series::Point;

/// Below this standard deviation daily returns do not vary: what is left is rounding.
pub(super) const STILL: f64 = 1e-12;

/// How the daily log returns of two assets go together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correlation {
    /// How many days both have a daily return on.
    pub count: usize,
    /// Pearson's coefficient, −1 to 1; `None` with fewer than 3 days, or where one does not vary.
    pub coefficient: Option<f64>,
    /// Probability, two-sided by Student's t, of a coefficient this far from zero if there were no
    /// relation; `None` together with the coefficient.
    pub p_value: Option<f64>,
}

/// Correlates the daily log returns of `first` and `second` on the days that both have one.
#[must_use]
pub fn correlation(first: &[Point], second: &[Point]) -> Correlation {
    let second: BTreeMap<_, _> =
        DailyReturns::of(second).days.into_iter().map(|day| (day.date, day.log)).collect();
    let (x, y): (Vec<_>, Vec<_>) = DailyReturns::of(first)
        .days
        .into_iter()
        .filter_map(|day| Some((day.log, *second.get(&day.date)?)))
        .unzip();
    let coefficient = pearson(&x, &y);
    Correlation {
        count: x.len(),
        coefficient,
        p_value: coefficient.and_then(|coefficient| p_value(coefficient, x.len())),
    }
}

fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let (sx, sy) = (x.std_dev(), y.std_dev());
    if x.len() < 3 || sx < STILL || sy < STILL {
        return None;
    }
    finite(x.covariance(y) / (sx * sy)).map(|coefficient| coefficient.clamp(-1.0, 1.0))
}

fn p_value(coefficient: f64, count: usize) -> Option<f64> {
    let freedom = number(count) - 2.0;
    let unexplained = 1.0 - coefficient * coefficient;
    if unexplained <= 0.0 {
        return Some(0.0);
    }
    let t = coefficient.abs() * (freedom / unexplained).sqrt();
    let p_value = 2.0 * StudentsT::new(0.0, 1.0, freedom).ok()?.sf(t);
    finite(p_value).map(|p_value| p_value.clamp(0.0, 1.0))
}

#[cfg(test)]
#[allow(clippy::unreadable_literal)] // the digits as scipy prints them
mod tests {
    use super::{
        super::fixture::{A, B, assert_close, series, with_gaps},
        *,
    };

    fn of(first: &[f64], second: &[f64]) -> Correlation {
        correlation(series(first).points(), series(second).points())
    }

    #[test]
    fn numbers_agree_with_scipy() {
        // stats.pearsonr(r, s)
        let whole = of(&A, &B);
        assert_close(whole.coefficient, 0.23231491447762545);
        assert_close(whole.p_value, 0.12914381335623382);
        assert_eq!(whole.count, 44);

        // gr, gs = np.diff(np.log(ga)), np.diff(np.log(gb))
        // both = ~np.isnan(gr) & ~np.isnan(gs); stats.pearsonr(gr[both], gs[both])
        let (a, b) = (with_gaps(A, &[10, 20, 21]), with_gaps(B, &[30]));
        let gaps = correlation(a.points(), b.points());
        assert_close(gaps.coefficient, 0.215394955117231);
        assert_close(gaps.p_value, 0.20043340526439182);
        assert_eq!(gaps.count, 37);

        // stats.pearsonr([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]), stats.pearsonr([1, 2, 3], [1, 3, 2])
        let five = pearson(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 4.0, 3.0, 5.0]);
        assert_close(five, 0.8);
        assert_close(p_value(0.8, 5), 0.10408803866182782);
        assert_close(p_value(0.5, 3), 0.6666666666666666);
    }

    #[test]
    fn the_same_and_the_opposite_correlate_fully() {
        let same = of(&A, &A);
        assert_close(same.coefficient, 1.0);
        assert!(same.p_value.is_some_and(|p_value| p_value < 1e-100));
        let opposite = of(&A, &A.map(|close| 1.0 / close));
        assert_close(opposite.coefficient, -1.0);
        assert!(opposite.p_value.is_some_and(|p_value| p_value < 1e-100));
    }

    #[test]
    fn too_little_or_unvarying_gives_none_with_the_count() {
        let none = |count| Correlation { count, coefficient: None, p_value: None };
        assert_eq!(of(&[], &[]), none(0));
        assert_eq!(of(&A[..1], &B), none(0));
        assert_eq!(of(&A[..3], &B), none(2));
        assert_eq!(of(&A[..20], &[5.0; 45]), none(19));
        let steady: Vec<_> = (0..20).map(|day| 1.01_f64.powi(day)).collect();
        assert_eq!(of(&steady, &A), none(19), "the same return every day does not vary");
        let apart: Vec<_> = std::iter::repeat_n(f64::NAN, 45).chain(B).collect();
        assert_eq!(of(&A, &apart), none(0), "no day in common");
    }
}
