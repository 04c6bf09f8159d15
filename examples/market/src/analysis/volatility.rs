//! How much daily returns vary.

use statrs::statistics::Statistics as _;

use super::{finite, returns::DailyReturns};
use crate::series::Point;

/// Days a year that the markets are open: these never close.
pub const DAYS_A_YEAR: f64 = 365.0;

/// How much daily returns vary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Volatility {
    /// Sample standard deviation of the daily log returns.
    pub daily: f64,
    /// `daily × √365`.
    pub annualised: f64,
    /// How many daily returns it rests on; at least 2.
    pub returns: usize,
    /// How many pairs of neighbouring closes were left out because days are missing between them.
    pub gaps: usize,
}

/// Computes the volatility of `points`; `None` with fewer than two daily returns.
#[must_use]
pub fn volatility(points: &[Point]) -> Option<Volatility> {
    let returns = DailyReturns::of(points);
    let daily = finite(returns.days.iter().map(|day| day.log).std_dev())?;
    Some(Volatility {
        daily,
        annualised: finite(daily * DAYS_A_YEAR.sqrt())?,
        returns: returns.days.len(),
        gaps: returns.gaps,
    })
}

#[cfg(test)]
#[allow(clippy::unreadable_literal)] // the digits as numpy prints them
mod tests {
    use super::{
        super::fixture::{A, assert_close, series, with_gaps},
        *,
    };

    #[test]
    fn numbers_agree_with_numpy() {
        // r.std(ddof=1), r.std(ddof=1) * np.sqrt(365)
        let whole = volatility(series(&A).points()).expect("returns");
        assert_close(Some(whole.daily), 0.053856535464547606);
        assert_close(Some(whole.annualised), 1.028927665323995);
        assert_eq!((whole.returns, whole.gaps), (44, 0));

        // gr = np.diff(np.log(ga)); gr[~np.isnan(gr)].std(ddof=1)
        let gaps = volatility(with_gaps(A, &[10, 20, 21]).points()).expect("returns");
        assert_close(Some(gaps.daily), 0.05639367939103037);
        assert_eq!((gaps.returns, gaps.gaps), (39, 2));
    }

    #[test]
    fn fewer_than_two_daily_returns_give_none() {
        for closes in [&[][..], &[1.0], &[1.0, 2.0], &[1.0, f64::NAN, 2.0, f64::NAN, 3.0]] {
            assert_eq!(volatility(series(closes).points()), None, "{closes:?}");
        }
        let equal = volatility(series(&[5.0; 3]).points()).expect("two returns");
        assert_eq!((equal.daily, equal.annualised), (0.0, 0.0));
    }
}
