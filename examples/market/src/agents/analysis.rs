//! The agent that computes.

use agentbus::{Agent, Context, HandlerError, Routes};
use tokio::task::spawn_blocking;

use crate::{
    analysis::analyse,
    proto::{AnalysisRequest, AnalysisResponse, analysis_agent},
    wire::Malformed,
};

/// Computes statistics, return, volatility, trend, anomalies and correlations of prices it is sent.
#[derive(Debug)]
pub struct Analysis;

impl Agent for Analysis {
    fn name(&self) -> &'static str {
        "analysis"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(analysis_agent::ANALYSE, Self::analyse)
    }
}

impl Analysis {
    async fn analyse(
        &self,
        request: AnalysisRequest,
        _: &Context,
    ) -> Result<AnalysisResponse, HandlerError> {
        let (series, task) = request.read().map_err(Malformed::refuse)?;
        // Off the threads that take messages: long series take a while.
        let (assets, pairs) = spawn_blocking(move || analyse(&series, &task)).await?;
        Ok(AnalysisResponse::new(assets, pairs))
    }
}
