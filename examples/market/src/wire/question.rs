//! Questions as they were understood, and questions back.

use super::malformed::{Malformed, known};
use crate::{
    proto,
    question::{Clarification, Metric, Reason},
};

impl From<Metric> for proto::Metric {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::Price => Self::Price,
            Metric::Return => Self::Return,
            Metric::Volatility => Self::Volatility,
            Metric::Correlation => Self::Correlation,
            Metric::Anomalies => Self::Anomalies,
            Metric::Trend => Self::Trend,
        }
    }
}

/// Writes metrics as they are on the wire.
pub(super) fn to_metrics(metrics: &[Metric]) -> Vec<i32> {
    metrics.iter().map(|metric| proto::Metric::from(*metric).into()).collect()
}

/// Reads metrics from the wire.
pub(super) fn from_metrics(metrics: &[i32]) -> Result<Vec<Metric>, Malformed> {
    let read = |metric| match metric {
        proto::Metric::Unspecified => None,
        proto::Metric::Price => Some(Metric::Price),
        proto::Metric::Return => Some(Metric::Return),
        proto::Metric::Volatility => Some(Metric::Volatility),
        proto::Metric::Correlation => Some(Metric::Correlation),
        proto::Metric::Anomalies => Some(Metric::Anomalies),
        proto::Metric::Trend => Some(Metric::Trend),
    };
    metrics.iter().map(|metric| known("metrics", *metric, read)).collect()
}

impl From<Reason> for proto::ClarificationReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Empty => Self::Empty,
            Reason::NoAsset => Self::NoAsset,
            Reason::UnknownAsset => Self::UnknownAsset,
            Reason::OneAsset => Self::OneAsset,
            Reason::ReversedRange => Self::ReversedRange,
            Reason::ContradictoryRange => Self::ContradictoryRange,
            Reason::UnclearRange => Self::UnclearRange,
        }
    }
}

fn reason(value: i32) -> Result<Reason, Malformed> {
    known("reason", value, |reason| match reason {
        proto::ClarificationReason::Unspecified => None,
        proto::ClarificationReason::Empty => Some(Reason::Empty),
        proto::ClarificationReason::NoAsset => Some(Reason::NoAsset),
        proto::ClarificationReason::UnknownAsset => Some(Reason::UnknownAsset),
        proto::ClarificationReason::OneAsset => Some(Reason::OneAsset),
        proto::ClarificationReason::ReversedRange => Some(Reason::ReversedRange),
        proto::ClarificationReason::ContradictoryRange => Some(Reason::ContradictoryRange),
        proto::ClarificationReason::UnclearRange => Some(Reason::UnclearRange),
    })
}

impl From<Clarification> for proto::Clarification {
    fn from(back: Clarification) -> Self {
        Self {
            reason: proto::ClarificationReason::from(back.reason).into(),
            question: back.question,
            suggestions: back.suggestions,
        }
    }
}

impl TryFrom<proto::Clarification> for Clarification {
    type Error = Malformed;

    fn try_from(back: proto::Clarification) -> Result<Self, Malformed> {
        Ok(Self::new(reason(back.reason)?, back.question, back.suggestions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_survives_the_way_there_and_back() {
        for value in 1..=6 {
            let metrics = from_metrics(&[value]).expect("a metric");
            assert_eq!(to_metrics(&metrics), [value]);
        }
        for value in 1..=7 {
            let reason = reason(value).expect("a reason");
            assert_eq!(i32::from(proto::ClarificationReason::from(reason)), value);
        }
        assert!(from_metrics(&[0]).is_err() && reason(8).is_err());
    }
}
