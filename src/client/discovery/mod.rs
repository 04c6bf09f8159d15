//! Discovery: who is there, and who answers what.

mod card;
mod discovered;

use std::time::Duration;

pub use self::{
    card::{AgentCard, AgentContract, AgentLoad, AgentRoute, RouteKind},
    discovered::Discovered,
};
use super::{Client, RequestError, RequestOptions};
use crate::{
    contract::{Pattern, Rpc, Topic},
    proto::v1::{AgentStarted, AgentStopped, DiscoverRequest, DiscoverResponse},
};

/// The question who is there, which every runtime answers unless its
/// [`discovery`](crate::Config::discovery) is off; [`Client::discover`] asks it.
pub const DISCOVER: Rpc<DiscoverRequest, DiscoverResponse> = Rpc::new("agentbus.discover");

/// The event that an agent has started: its queues are bound and consumed from.
///
/// Best effort, one after the other, and never waited for: a start takes no longer because of it.
pub const AGENT_STARTED: Topic<AgentStarted> = Topic::new("agentbus.agent-started");

/// The event that an agent takes no more messages, and why; what it has begun may go on for the
/// configuration's [`shutdown_grace`](crate::Config::shutdown_grace).
///
/// Best effort: a stop waits for it for a second at most, and who is killed or has lost the bus says
/// nothing.
pub const AGENT_STOPPED: Topic<AgentStopped> = Topic::new("agentbus.agent-stopped");

/// How long there is to answer, where nothing else is said.
const WITHIN: Duration = Duration::from_secs(1);

/// Whom to look for, and for how long.
///
/// ```
/// # use std::time::Duration;
/// # use agentbus::{Pattern, client::Discovery};
/// let market = Discovery::default()
///     .agent(Pattern::parse("market.*")?)
///     .within(Duration::from_secs(3));
/// # Ok::<(), agentbus::contract::InvalidPattern>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Discovery {
    agent: Option<Pattern>,
    within: Duration,
    at_most: usize,
    contracts: bool,
}

impl Default for Discovery {
    /// All agents that answer within a second, without their contracts.
    fn default() -> Self {
        Self { agent: None, within: WITHIN, at_most: usize::MAX, contracts: false }
    }
}

impl Discovery {
    /// Looks for agents whose name matches a pattern: a name, or one with wildcards.
    pub fn agent(mut self, pattern: Pattern) -> Self {
        self.agent = Some(pattern);
        self
    }

    /// Waits so long for answers, instead of a second.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Ends after so many cards. Nobody knows how many there are, so that without it the whole time
    /// is waited.
    pub fn at_most(mut self, count: usize) -> Self {
        self.at_most = count;
        self
    }

    /// Asks for the descriptors of each agent's contracts as well.
    pub fn with_contracts(mut self) -> Self {
        self.contracts = true;
        self
    }
}

impl Client {
    /// Asks the agents on the bus who they are, and yields a card for each instance, as the answers
    /// come.
    ///
    /// An agent that does not answer in time, that has switched [`discovery`](crate::Config::discovery)
    /// off, or that is written in another language and does without, is not among them. At most 1024
    /// answers wait to be read.
    ///
    /// ```
    /// use agentbus::{Client, Runtime, broker::memory::Memory, client::Discovery};
    /// # use agentbus::{Agent, Context, HandlerError, Routes, Rpc};
    /// # const LENGTH: Rpc<String, u64> = Rpc::new("text.length");
    /// # struct Scribe;
    /// # impl Agent for Scribe {
    /// #     fn name(&self) -> &str { "scribe" }
    /// #     fn routes(&self) -> Routes<Self> { Routes::new().on(LENGTH, Self::length) }
    /// # }
    /// # impl Scribe {
    /// #     async fn length(&self, text: String, _: &Context) -> Result<u64, HandlerError> {
    /// #         Ok(text.len() as u64)
    /// #     }
    /// # }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::new(Memory::default());
    /// let agents = Runtime::new(client.clone()).version("1.2.0").agent(Scribe).start().await?;
    /// let mut found = client.discover(Discovery::default()).await?;
    /// while let Some(card) = found.next().await {
    ///     println!("{} {} {:?}", card.name, card.instance, card.version);
    ///     for route in card.routes {
    ///         println!("  {} {:?}", route.topic, route.request_type);
    ///     }
    /// }
    /// # agents.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`request_many`](Self::request_many); that nobody is there is none.
    pub async fn discover(&self, discovery: Discovery) -> Result<Discovered, RequestError> {
        let Discovery { agent, within, at_most, contracts } = discovery;
        let request = DiscoverRequest {
            agent: agent.map(|pattern| pattern.as_str().to_owned()).unwrap_or_default(),
            include_descriptor_sets: contracts,
        };
        let options = RequestOptions::default().timeout(within);
        match self.request_many(DISCOVER, &request, options).await {
            Ok(replies) => Ok(Discovered::new(Some(replies), at_most)),
            Err(RequestError::NobodyListens { .. } | RequestError::TimedOut { .. }) => {
                Ok(Discovered::new(None, at_most))
            }
            Err(error) => Err(error),
        }
    }
}
