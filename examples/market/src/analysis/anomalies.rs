//! Days whose return stands out from the days before.

use jiff::civil::Date;
use statrs::statistics::Statistics as _;

use super::{correlation::STILL, finite, returns::DailyReturns};
use crate::{range::DateRange, series::Series};

/// How many daily returns a day is compared with, unless told otherwise.
pub const WINDOW: usize = 30;
/// From which z-score on a day is an anomaly, unless told otherwise.
pub const THRESHOLD: f64 = 3.0;

/// How far out an anomaly is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// From the threshold on.
    Moderate,
    /// From a z-score of 4 on.
    High,
    /// From a z-score of 6 on.
    Extreme,
}

impl Severity {
    fn of(z_score: f64) -> Self {
        match z_score.abs() {
            z if z >= 6.0 => Self::Extreme,
            z if z >= 4.0 => Self::High,
            _ => Self::Moderate,
        }
    }
}

/// A day whose return stands out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anomaly {
    /// The day.
    pub date: Date,
    /// Its return against the day before, as a fraction.
    pub fraction: f64,
    /// How many sample standard deviations its log return lies from the mean of the window.
    pub z_score: f64,
    /// How far out that is.
    pub severity: Severity,
}

/// Days that stand out.
#[derive(Debug, Clone, PartialEq)]
pub struct Anomalies {
    /// The days, oldest first.
    pub days: Vec<Anomaly>,
    /// How many days of the range could be judged; the others have too few daily returns before
    /// them, or none that differ.
    pub judged: usize,
    /// How many daily returns each day was compared with.
    pub window: usize,
    /// From which z-score on a day is an anomaly.
    pub threshold: f64,
}

/// Finds the days of `range` whose daily log return lies at least `threshold` standard deviations
/// from the mean of the `window` daily returns before it.
///
/// The window never holds the day itself, and may begin before the range. A window below 2 judges
/// no day.
#[must_use]
pub fn anomalies(series: &Series, range: DateRange, window: usize, threshold: f64) -> Anomalies {
    let returns = DailyReturns::of(series.points());
    let logs = returns.logs();
    let mut found = Anomalies { days: Vec::new(), judged: 0, window, threshold };
    for (i, day) in returns.days.iter().enumerate().skip(window) {
        if day.date < range.from || day.date > range.to {
            continue;
        }
        let before = &logs[i - window..i];
        let deviation = before.std_dev();
        if deviation.is_nan() || deviation < STILL {
            continue;
        }
        let z_score = finite((day.log - before.mean()) / deviation);
        let (Some(z_score), Some(fraction)) = (z_score, finite(day.log.exp_m1())) else { continue };
        found.judged += 1;
        if z_score.abs() >= threshold {
            let severity = Severity::of(z_score);
            found.days.push(Anomaly { date: day.date, fraction, z_score, severity });
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unreadable_literal)] // the digits as numpy prints them
mod tests {
    use jiff::civil::date;

    use super::{
        super::fixture::{A, assert_close, series, with_gaps},
        *,
    };

    const ALL: DateRange = DateRange { from: date(2024, 1, 1), to: date(2024, 12, 31) };

    #[test]
    fn z_scores_agree_with_numpy() {
        // for i in range(30, len(r)): w = r[i-30:i]; z = (r[i] - w.mean()) / w.std(ddof=1)
        let found = anomalies(&series(&A), ALL, 30, 3.0);
        assert_eq!((found.judged, found.days.len()), (14, 2));
        let [up, down] = found.days[..] else { panic!("two days") };
        assert_eq!((up.date, up.severity), (date(2024, 2, 10), Severity::Extreme));
        assert_close(Some(up.z_score), 9.151575454420895);
        assert_close(Some(up.fraction), 0.25);
        assert_eq!((down.date, down.severity), (date(2024, 2, 11), Severity::High));
        assert_close(Some(down.z_score), -4.200165862623611);

        // the same with 5 for 30
        let found = anomalies(&series(&A), ALL, 5, 3.0);
        let days: Vec<_> = found.days.iter().map(|day| day.severity).collect();
        assert_eq!(days, [Severity::High, Severity::Moderate, Severity::Extreme]);
        assert_close(Some(found.days[1].z_score), -3.7253950656375947);
    }

    #[test]
    fn the_window_may_begin_before_the_range() {
        let range = DateRange { from: date(2024, 2, 10), to: date(2024, 2, 10) };
        let found = anomalies(&series(&A), range, 30, 3.0);
        assert_eq!((found.judged, found.days.len()), (1, 1));
    }

    #[test]
    fn a_gap_only_shortens_what_can_be_judged() {
        let found = anomalies(&with_gaps(A, &[10, 20, 21]), ALL, 30, 3.0);
        assert_eq!((found.judged, found.days.len()), (9, 2));
    }

    #[test]
    fn what_cannot_be_judged_is_not_an_anomaly() {
        for (closes, window) in
            [(&[][..], 30), (&A[..1], 30), (&A[..31], 30), (&[5.0; 45], 30), (&A, 0), (&A, 1)]
        {
            let found = anomalies(&series(closes), ALL, window, 3.0);
            assert_eq!((found.judged, found.days.len()), (0, 0), "{closes:?} {window}");
        }
        let mut steady: Vec<_> = (0..40).map(|day| 1.01_f64.powi(day)).collect();
        steady.push(9.0);
        assert_eq!(anomalies(&series(&steady), ALL, 30, 3.0).judged, 0, "returns do not differ");
    }
}
