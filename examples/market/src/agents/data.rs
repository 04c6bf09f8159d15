//! The agent that reads prices.

use std::sync::OnceLock;

use agentbus::{Agent, BoxError, Client, Context, HandlerError, Routes};
use tokio::task::spawn_blocking;

use crate::{
    prices::Prices,
    proto::{
        AssetsRequest, AssetsResponse, SeriesRequest, SeriesResponse, data_agent,
        series_response::Outcome,
    },
    range::Span,
    wire::Malformed,
};

/// Reads prices from files, anew for every request.
///
/// Which assets there are is found out once, when the agent starts, since it can take reading every
/// file to its end; an asset that a file gains later is listed after a restart.
#[derive(Debug)]
pub struct Data {
    prices: Prices,
    assets: OnceLock<Vec<String>>,
}

impl Data {
    /// Makes an agent that reads `prices`.
    #[must_use]
    pub fn new(prices: Prices) -> Self {
        Self { prices, assets: OnceLock::new() }
    }
}

impl Agent for Data {
    fn name(&self) -> &'static str {
        "data"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(data_agent::LIST, Self::list).on(data_agent::FETCH, Self::fetch)
    }

    /// Lists the assets, so that a file that cannot be read keeps the agent from starting.
    async fn on_start(&self, _: &Client) -> Result<(), BoxError> {
        let prices = self.prices.clone();
        let assets = spawn_blocking(move || prices.assets()).await??;
        self.assets.get_or_init(|| assets);
        Ok(())
    }
}

impl Data {
    async fn list(&self, _: AssetsRequest, _: &Context) -> Result<AssetsResponse, HandlerError> {
        Ok(AssetsResponse { assets: self.assets.get().cloned().unwrap_or_default() })
    }

    async fn fetch(
        &self,
        request: SeriesRequest,
        _: &Context,
    ) -> Result<SeriesResponse, HandlerError> {
        let SeriesRequest { assets, span, lead_in_days } = request;
        if assets.is_empty() {
            return Err(Malformed::new("assets", "is empty: name at least one").refuse());
        }
        let span = match span {
            Some(span) => Span::try_from(span).map_err(Malformed::refuse)?,
            None => Span::Whole,
        };
        let prices = self.prices.clone();
        // Off the threads that take messages: a file may be large.
        let selected = spawn_blocking(move || prices.select(&assets, span, lead_in_days)).await?;
        let outcome = match selected {
            Ok(selection) => Outcome::Series(selection.into()),
            Err(error) => Outcome::Failure(error.into()),
        };
        Ok(SeriesResponse { outcome: Some(outcome) })
    }
}
