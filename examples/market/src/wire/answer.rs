//! Answers.

use std::time::Duration;

use super::{
    all,
    malformed::{Malformed, required},
    question::{from_metrics, to_metrics},
    try_all,
};
use crate::{
    answer::{Answer, Outcome, Results, Timing},
    proto::{self, answer::Outcome as Sent},
};

impl From<Results> for proto::Results {
    fn from(results: Results) -> Self {
        Self {
            metrics: to_metrics(&results.metrics),
            range: Some(results.range.into()),
            assets: all(results.assets),
            correlations: all(results.pairs),
            provenance: Some(results.provenance.into()),
        }
    }
}

impl TryFrom<proto::Results> for Results {
    type Error = Malformed;

    fn try_from(results: proto::Results) -> Result<Self, Malformed> {
        Ok(Self {
            metrics: from_metrics(&results.metrics)?,
            range: required("results.range", results.range)?.try_into()?,
            assets: try_all(results.assets)?,
            pairs: try_all(results.correlations)?,
            provenance: required("results.provenance", results.provenance)?.into(),
        })
    }
}

impl TryFrom<proto::Answer> for Answer {
    type Error = Malformed;

    fn try_from(answer: proto::Answer) -> Result<Self, Malformed> {
        Ok(Self {
            conversation_id: answer.conversation_id,
            outcome: match required("outcome", answer.outcome)? {
                Sent::Results(results) => Outcome::Results(results.try_into()?),
                Sent::Clarification(back) => Outcome::Clarification(back.try_into()?),
                Sent::Failure(failure) => Outcome::Failure(failure.message),
            },
            timings: try_all(answer.timings)?,
        })
    }
}

impl From<Timing> for proto::AgentTiming {
    fn from(timing: Timing) -> Self {
        let milliseconds = timing.took.as_secs_f64() * 1e3;
        Self { agent: timing.agent, topic: timing.topic, milliseconds }
    }
}

impl TryFrom<proto::AgentTiming> for Timing {
    type Error = Malformed;

    fn try_from(timing: proto::AgentTiming) -> Result<Self, Malformed> {
        let took = Duration::try_from_secs_f64(timing.milliseconds / 1e3);
        let took =
            took.map_err(|error| Malformed::new("timings.milliseconds", error.to_string()))?;
        Ok(Self { agent: timing.agent, topic: timing.topic, took })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_an_outcome_is_malformed() {
        let malformed = Answer::try_from(proto::Answer::default()).expect_err("no outcome");
        assert_eq!(malformed.to_string(), "`outcome` is not set");
    }

    #[test]
    fn a_time_that_is_none_is_malformed() {
        for milliseconds in [-1.0, f64::NAN, f64::INFINITY] {
            let timing = proto::AgentTiming { milliseconds, ..Default::default() };
            assert!(Timing::try_from(timing).is_err());
        }
    }
}
