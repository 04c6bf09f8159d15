//! What comes back for a question.

use std::time::Duration;

use crate::{
    analysis::{AssetResults, Pair},
    prices::{Provenance, RangeUsed},
    question::{Clarification, Metric},
};

/// The answer to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Joins everything the agents said to each other for this answer.
    pub conversation_id: String,
    /// How the question ended.
    pub outcome: Outcome,
    /// How long each agent took, in the order in which they were asked.
    pub timings: Vec<Timing>,
}

/// How a question ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was understood and computed.
    Results(Results),
    /// It could not be understood.
    Clarification(Clarification),
    /// It was understood, and the prices could not be read: why, for a person.
    Failure(String),
}

/// What was computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// What was asked for, as it was understood.
    pub metrics: Vec<Metric>,
    /// The range that was used.
    pub range: RangeUsed,
    /// One for each asset, in the order of the question.
    pub assets: Vec<AssetResults>,
    /// One for each pair of assets, where correlation was asked for.
    pub pairs: Vec<Pair>,
    /// Where the prices came from.
    pub provenance: Provenance,
}

/// How long one agent took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Name of the agent.
    pub agent: String,
    /// What it was asked for, such as `data.request`.
    pub topic: String,
    /// From the request to the reply.
    pub took: Duration,
}
