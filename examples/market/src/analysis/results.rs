//! Everything that is computed for a question.

use super::{
    Anomalies, Correlation, Statistics, THRESHOLD, Trend, Volatility, WINDOW, anomalies,
    correlation, fraction, statistics, trend, volatility,
};
use crate::{
    question::Metric,
    range::DateRange,
    series::{Point, SKETCH_POINTS, Series, sketch},
};

/// What is to be computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The range that the results are about.
    pub range: DateRange,
    /// What was asked for; statistics, return, volatility and trend are computed in any case.
    pub metrics: Vec<Metric>,
    /// How many daily returns a day is compared with to be an anomaly.
    pub anomaly_window: usize,
    /// From which z-score on a day is an anomaly.
    pub anomaly_threshold: f64,
}

impl Task {
    /// Asks for `metrics` over `range`, with the usual window and threshold.
    #[must_use]
    pub fn new(range: DateRange, metrics: Vec<Metric>) -> Self {
        Self { range, metrics, anomaly_window: WINDOW, anomaly_threshold: THRESHOLD }
    }
}

/// What was computed for one asset.
#[derive(Debug, Clone, PartialEq)]
pub struct AssetResults {
    /// Ticker in capitals.
    pub asset: String,
    /// Statistics of the closes; `None` without any close in the range.
    pub statistics: Option<Statistics>,
    /// `last / first − 1`; `None` with fewer than two closes.
    pub change: Option<f64>,
    /// How much the daily returns vary; `None` with fewer than two of them.
    pub volatility: Option<Volatility>,
    /// The straight line through the closes; `None` with fewer than two.
    pub trend: Option<Trend>,
    /// Days that stand out; `None` where that was not asked for.
    pub anomalies: Option<Anomalies>,
    /// The closes of the range, thinned out for drawing.
    pub sketch: Vec<Point>,
}

/// How two assets go together.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The first asset.
    pub first: String,
    /// The second asset.
    pub second: String,
    /// Their correlation.
    pub correlation: Correlation,
}

/// Computes `task` for every series, and for every pair of them where correlation is asked for.
///
/// The series may begin before the range; only anomalies look at what comes before it.
#[must_use]
pub fn analyse(series: &[Series], task: &Task) -> (Vec<AssetResults>, Vec<Pair>) {
    let assets = series.iter().map(|series| one(series, task)).collect();
    let mut pairs = Vec::new();
    if task.metrics.contains(&Metric::Correlation) {
        for (i, first) in series.iter().enumerate() {
            for second in &series[i + 1..] {
                pairs.push(Pair {
                    first: first.asset.clone(),
                    second: second.asset.clone(),
                    correlation: correlation(first.within(task.range), second.within(task.range)),
                });
            }
        }
    }
    (assets, pairs)
}

fn one(series: &Series, task: &Task) -> AssetResults {
    let points = series.within(task.range);
    AssetResults {
        asset: series.asset.clone(),
        statistics: statistics(points),
        change: fraction(points),
        volatility: volatility(points),
        trend: trend(points),
        anomalies: task
            .metrics
            .contains(&Metric::Anomalies)
            .then(|| anomalies(series, task.range, task.anomaly_window, task.anomaly_threshold)),
        sketch: sketch(points, SKETCH_POINTS),
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::{super::fixture, *};

    #[test]
    fn every_series_and_every_pair_is_analysed() {
        let series = [fixture::A, fixture::B, fixture::A].map(|closes| fixture::series(&closes));
        let range = DateRange { from: date(2024, 2, 1), to: date(2024, 2, 14) };
        let (assets, pairs) = analyse(&series, &Task::new(range, vec![Metric::Correlation]));
        assert_eq!((assets.len(), pairs.len()), (3, 3));
        assert!(assets.iter().all(|asset| asset.anomalies.is_none()));
        assert_eq!(assets[0].statistics.as_ref().map(|statistics| statistics.count), Some(14));

        let (assets, pairs) = analyse(&series, &Task::new(range, vec![Metric::Anomalies]));
        assert!(pairs.is_empty());
        assert_eq!(assets[0].anomalies.as_ref().map(|found| found.days.len()), Some(2));
    }

    #[test]
    fn nothing_gives_nothing() {
        let range = DateRange { from: date(2024, 2, 1), to: date(2024, 2, 14) };
        let metrics = vec![Metric::Correlation, Metric::Anomalies];
        let (assets, _) = analyse(&[Series::new("ZEC", Vec::new())], &Task::new(range, metrics));
        assert_eq!((&assets[0].statistics, assets[0].change), (&None, None));
        assert!(assets[0].sketch.is_empty());
    }
}
