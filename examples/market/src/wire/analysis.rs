//! Tasks and results of an analysis.

use super::{
    all,
    malformed::{Malformed, count, date, known, required, size},
    question::{from_metrics, to_metrics},
    try_all,
};
use crate::{
    analysis::{
        Anomalies, Anomaly, AssetResults, Correlation, Pair, Severity, Statistics, Task, Trend,
        Volatility,
    },
    proto,
    series::Series,
};

impl proto::AnalysisRequest {
    /// Asks for `task` over `series`.
    #[must_use]
    pub fn new(series: Vec<Series>, task: &Task) -> Self {
        Self {
            series: all(series),
            range: Some(task.range.into()),
            metrics: to_metrics(&task.metrics),
            anomaly_window: Some(u32::try_from(task.anomaly_window).unwrap_or(u32::MAX)),
            anomaly_threshold: Some(task.anomaly_threshold),
        }
    }

    /// Returns what is to be analysed, and how.
    pub fn read(self) -> Result<(Vec<Series>, Task), Malformed> {
        if self.series.is_empty() {
            return Err(Malformed::new("series", "is empty: there is nothing to analyse"));
        }
        let range = required("range", self.range)?.try_into()?;
        let mut task = Task::new(range, from_metrics(&self.metrics)?);
        if let Some(window) = self.anomaly_window {
            task.anomaly_window = size("anomaly_window", window.into())?;
        }
        if let Some(threshold) = self.anomaly_threshold {
            if threshold.is_nan() || threshold <= 0.0 {
                let problem = format!("is {threshold}, not above zero");
                return Err(Malformed::new("anomaly_threshold", problem));
            }
            task.anomaly_threshold = threshold;
        }
        Ok((try_all(self.series)?, task))
    }
}

impl proto::AnalysisResponse {
    /// Answers with what was computed.
    #[must_use]
    pub fn new(assets: Vec<AssetResults>, pairs: Vec<Pair>) -> Self {
        Self { assets: all(assets), correlations: all(pairs) }
    }

    /// Returns what was computed.
    pub fn read(self) -> Result<(Vec<AssetResults>, Vec<Pair>), Malformed> {
        Ok((try_all(self.assets)?, try_all(self.correlations)?))
    }
}

impl From<AssetResults> for proto::AssetResults {
    fn from(results: AssetResults) -> Self {
        Self {
            asset: results.asset,
            statistics: results.statistics.map(Into::into),
            change: results.change.map(|fraction| proto::Return { fraction }),
            volatility: results.volatility.map(Into::into),
            trend: results.trend.map(|Trend { slope_per_day, r_squared }| proto::Trend {
                slope_per_day,
                r_squared,
            }),
            anomalies: results.anomalies.map(Into::into),
            sketch: all(results.sketch),
        }
    }
}

impl TryFrom<proto::AssetResults> for AssetResults {
    type Error = Malformed;

    fn try_from(results: proto::AssetResults) -> Result<Self, Malformed> {
        Ok(Self {
            asset: results.asset,
            statistics: results.statistics.map(TryInto::try_into).transpose()?,
            change: results.change.map(|change| change.fraction),
            volatility: results.volatility.map(TryInto::try_into).transpose()?,
            trend: results.trend.map(|proto::Trend { slope_per_day, r_squared }| Trend {
                slope_per_day,
                r_squared,
            }),
            anomalies: results.anomalies.map(TryInto::try_into).transpose()?,
            sketch: try_all(results.sketch)?,
        })
    }
}

impl From<Statistics> for proto::Statistics {
    fn from(statistics: Statistics) -> Self {
        Self {
            count: count(statistics.count),
            first: Some(statistics.first.into()),
            last: Some(statistics.last.into()),
            lowest: Some(statistics.lowest.into()),
            highest: Some(statistics.highest.into()),
            mean: statistics.mean,
            median: statistics.median,
            standard_deviation: statistics.standard_deviation,
        }
    }
}

impl TryFrom<proto::Statistics> for Statistics {
    type Error = Malformed;

    fn try_from(statistics: proto::Statistics) -> Result<Self, Malformed> {
        Ok(Self {
            count: size("statistics.count", statistics.count)?,
            first: required("statistics.first", statistics.first)?.try_into()?,
            last: required("statistics.last", statistics.last)?.try_into()?,
            lowest: required("statistics.lowest", statistics.lowest)?.try_into()?,
            highest: required("statistics.highest", statistics.highest)?.try_into()?,
            mean: statistics.mean,
            median: statistics.median,
            standard_deviation: statistics.standard_deviation,
        })
    }
}

impl From<Volatility> for proto::Volatility {
    fn from(volatility: Volatility) -> Self {
        Self {
            daily: volatility.daily,
            annualised: volatility.annualised,
            returns: count(volatility.returns),
            gaps: count(volatility.gaps),
        }
    }
}

impl TryFrom<proto::Volatility> for Volatility {
    type Error = Malformed;

    fn try_from(volatility: proto::Volatility) -> Result<Self, Malformed> {
        Ok(Self {
            daily: volatility.daily,
            annualised: volatility.annualised,
            returns: size("volatility.returns", volatility.returns)?,
            gaps: size("volatility.gaps", volatility.gaps)?,
        })
    }
}

impl From<Anomalies> for proto::Anomalies {
    fn from(found: Anomalies) -> Self {
        Self {
            days: all(found.days),
            judged: count(found.judged),
            window: u32::try_from(found.window).unwrap_or(u32::MAX),
            threshold: found.threshold,
        }
    }
}

impl TryFrom<proto::Anomalies> for Anomalies {
    type Error = Malformed;

    fn try_from(found: proto::Anomalies) -> Result<Self, Malformed> {
        Ok(Self {
            days: try_all(found.days)?,
            judged: size("anomalies.judged", found.judged)?,
            window: size("anomalies.window", found.window.into())?,
            threshold: found.threshold,
        })
    }
}

impl From<Anomaly> for proto::Anomaly {
    fn from(anomaly: Anomaly) -> Self {
        let severity = match anomaly.severity {
            Severity::Moderate => proto::Severity::Moderate,
            Severity::High => proto::Severity::High,
            Severity::Extreme => proto::Severity::Extreme,
        };
        Self {
            date: anomaly.date.to_string(),
            fraction: anomaly.fraction,
            z_score: anomaly.z_score,
            severity: severity.into(),
        }
    }
}

impl TryFrom<proto::Anomaly> for Anomaly {
    type Error = Malformed;

    fn try_from(anomaly: proto::Anomaly) -> Result<Self, Malformed> {
        let severity = known("severity", anomaly.severity, |severity| match severity {
            proto::Severity::Unspecified => None,
            proto::Severity::Moderate => Some(Severity::Moderate),
            proto::Severity::High => Some(Severity::High),
            proto::Severity::Extreme => Some(Severity::Extreme),
        })?;
        Ok(Self {
            date: date("anomalies.date", &anomaly.date)?,
            fraction: anomaly.fraction,
            z_score: anomaly.z_score,
            severity,
        })
    }
}

impl From<Pair> for proto::Correlation {
    fn from(pair: Pair) -> Self {
        let Correlation { count: days, coefficient, p_value } = pair.correlation;
        Self { first: pair.first, second: pair.second, count: count(days), coefficient, p_value }
    }
}

impl TryFrom<proto::Correlation> for Pair {
    type Error = Malformed;

    fn try_from(pair: proto::Correlation) -> Result<Self, Malformed> {
        let count = size("correlations.count", pair.count)?;
        let correlation =
            Correlation { count, coefficient: pair.coefficient, p_value: pair.p_value };
        Ok(Self { first: pair.first, second: pair.second, correlation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{analysis::analyse, prices::Prices, question::Metric, range::Span};

    fn sample() -> (Vec<Series>, Task) {
        let assets = ["ZEC", "BTC"].map(String::from);
        let selection =
            Prices::new(Vec::new()).select(&assets, Span::Whole, 0).expect("the sample");
        let metrics = vec![Metric::Correlation, Metric::Anomalies];
        (selection.series, Task::new(selection.range.days, metrics))
    }

    #[test]
    fn a_task_survives_the_way_there_and_back() {
        let (series, task) = sample();
        let request = proto::AnalysisRequest::new(series.clone(), &task);
        assert_eq!(request.read(), Ok((series, task)));
    }

    #[test]
    fn results_survive_the_way_there_and_back() {
        let (series, task) = sample();
        let (assets, pairs) = analyse(&series, &task);
        assert!(assets[0].anomalies.as_ref().is_some_and(|found| !found.days.is_empty()));
        let response = proto::AnalysisResponse::new(assets.clone(), pairs.clone());
        assert_eq!(response.read(), Ok((assets, pairs)));
    }

    #[test]
    fn a_request_that_makes_no_sense_says_which_field() {
        let (series, task) = sample();
        let request = proto::AnalysisRequest::new(series, &task);
        for (request, field) in [
            (proto::AnalysisRequest { series: Vec::new(), ..request.clone() }, "`series`"),
            (proto::AnalysisRequest { range: None, ..request.clone() }, "`range`"),
            (proto::AnalysisRequest { metrics: vec![99], ..request.clone() }, "`metrics`"),
            (
                proto::AnalysisRequest { anomaly_threshold: Some(f64::NAN), ..request },
                "`anomaly_threshold`",
            ),
        ] {
            let malformed = request.read().expect_err(field);
            assert!(malformed.to_string().starts_with(field), "{malformed}");
        }
    }
}
