//! Starts agents and stops them.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use futures::future::join_all;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Agent, Middleware, Running, StartError,
    card::{Program, host},
    health::HealthBoard,
    launch::{Prepare, Prepared, Shared, prepare},
    middleware::Timeout,
    notices::Notices,
    presence::Presence,
    worker::Lifecycle,
};
use crate::{
    client::{Client, DeadLetter},
    config::Declare,
    contract::{Contract, Name},
    message::Timestamp,
    retry::RetryPolicy,
    store::{Conversations, MemoryConversations},
};

/// A set of agents to run on one bus.
///
/// ```
/// use agentbus::{Client, Runtime, broker::memory::Memory};
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
/// let agents = Runtime::new(Client::new(Memory::default())).agent(Scribe).start().await?;
/// assert_eq!(agents.client().request(LENGTH, &"four".to_owned()).await?, 4);
/// agents.stop().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "a runtime does nothing until it is started"]
pub struct Runtime {
    client: Client,
    middleware: Vec<Arc<dyn Middleware>>,
    retry: RetryPolicy,
    jitter: bool,
    notices: Notices,
    conversations: Option<Arc<dyn Conversations>>,
    agents: Vec<Prepare>,
    version: Option<Name>,
    contract: Option<&'static Contract>,
    discovery: Option<bool>,
}

impl Runtime {
    /// Makes a runtime without agents.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            middleware: Vec::new(),
            retry: RetryPolicy::default(),
            jitter: true,
            notices: Notices::default(),
            conversations: None,
            agents: Vec::new(),
            version: None,
            contract: None,
            discovery: None,
        }
    }

    /// Adds an agent.
    pub fn agent<A: Agent>(mut self, agent: A) -> Self {
        self.agents.push(Box::new(|shared| Box::pin(prepare(agent, shared))));
        self
    }

    /// Adds middleware; the first added runs outermost.
    pub fn layer(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(Arc::new(middleware));
        self
    }

    /// Sets how often and after what delays failed messages are handled again, for agents and
    /// routes that have no policy of their own ([`Agent::retry`],
    /// [`Routes::retry`](super::Routes::retry)), nor one by their
    /// [contract](crate::contract::Retries).
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Leaves the jitter out of all policies, those of agents and routes included.
    #[cfg(feature = "testing")]
    pub(crate) fn without_jitter(mut self) -> Self {
        self.jitter = false;
        self
    }

    /// Calls `hook` with every dead letter of the agents; of several hooks, the last one.
    ///
    /// It is called once the dead letter is confirmed, and before the message that failed is
    /// acked: at least once for each dead letter, and once more, for another dead letter of the same
    /// message id, where the process ends in between. While it runs, the message keeps its place in
    /// the agent's [`prefetch`](crate::Config::prefetch), which bounds how many run at a time. It has
    /// ten seconds; then, as when it panics, that is logged and all goes on without it.
    ///
    /// What the broker gives up on by itself (`crash_loop`) no agent gets to know of, and what a
    /// [`Subscriber`](crate::Subscriber) cannot decode is no agent's: for these it is not called.
    ///
    /// ```
    /// # use agentbus::{Client, Runtime, client::DeadLetter};
    /// # fn runtime(client: Client) -> Runtime {
    /// Runtime::new(client).on_dead_letter(|letter: DeadLetter| async move {
    ///     eprintln!("{:?}: {:?}", letter.id(), letter.failure());
    /// })
    /// # }
    /// ```
    pub fn on_dead_letter<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(DeadLetter) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.notices.hook(hook);
        self
    }

    /// Sets where the state of `request_later` is kept; by default in memory.
    pub fn conversations(mut self, store: Arc<dyn Conversations>) -> Self {
        self.conversations = Some(store);
        self
    }

    /// Says which version of the program this is, for [cards](Client::discover): mostly
    /// `env!("CARGO_PKG_VERSION")`.
    pub fn version(mut self, version: impl Into<Name>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Says which contract those topics are part of that were written by hand, for
    /// [cards](Client::discover): the `CONTRACT` of generated code. Generated topics know theirs.
    pub fn contract(mut self, contract: &'static Contract) -> Self {
        self.contract = Some(contract);
        self
    }

    /// Says whether the agents tell who they are to [whoever asks](Client::discover), and announce
    /// their [start](crate::client::AGENT_STARTED) and [stop](crate::client::AGENT_STOPPED);
    /// otherwise the configuration's [`discovery`](crate::Config::discovery) decides, and on the
    /// exchange of another system (`declare = "queues"`) they do not.
    pub fn discovery(mut self, yes: bool) -> Self {
        self.discovery = Some(yes);
        self
    }

    /// Starts every agent.
    ///
    /// When this returns, every queue is bound and consumed from, and every `on_start` has
    /// returned: no message published from now on is missed.
    ///
    /// # Errors
    ///
    /// Returns the first reason why an agent could not start; the others are stopped again, as by
    /// [`Running::stop`].
    pub async fn start(self) -> Result<Running, StartError> {
        let config = self.client.config();
        let stop = CancellationToken::new();
        let lifecycle = Lifecycle {
            stop: stop.clone(),
            hurry: CancellationToken::new(),
            abandon: CancellationToken::new(),
            tasks: TaskTracker::new(),
            why: Arc::new(OnceLock::new()),
        };
        let guard = stop.drop_guard();
        let mut middleware = self.middleware;
        if let Some(limit) = config.handler_timeout {
            middleware.push(Arc::new(Timeout::new(limit)));
        }
        let store = || -> Arc<dyn Conversations> {
            let (limit, ttl) = (config.max_conversations, config.conversation_ttl);
            Arc::new(MemoryConversations::new(limit, ttl))
        };
        let chain: Arc<[Arc<dyn Middleware>]> = middleware.into();
        let board = HealthBoard::new(self.client.broker().health(), Arc::clone(&chain));
        let shared = Shared {
            chain,
            retry: self.retry,
            jitter: self.jitter,
            notices: Arc::new(self.notices),
            conversations: self.conversations.unwrap_or_else(store),
            lifecycle: lifecycle.clone(),
            board: Arc::clone(&board),
            client: self.client.clone(),
        };
        // All queues are bound before any agent begins, so that agents may ask each other from
        // `on_start`; for the same reason they begin together.
        let mut prepared = Vec::new();
        for prepare in self.agents {
            let agent = prepare(shared.clone()).await?;
            let known = |other: &Prepared| other.name == agent.name;
            if prepared.iter().any(known) {
                return Err(StartError::Twice { agent: agent.name });
            }
            prepared.push(agent);
        }
        let counters = prepared
            .iter()
            .map(|agent| (agent.name.clone(), Arc::clone(&agent.counters)))
            .collect();
        let (mut cards, begin): (Vec<_>, Vec<_>) =
            prepared.into_iter().map(|agent| (agent.card, agent.begin)).unzip();
        let begun = join_all(begin).await;
        let mut on_stop = Vec::with_capacity(begun.len());
        let mut failed = None;
        for begun in begun {
            match begun {
                Ok(stop) => on_stop.push(stop),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        // An exchange of others may show them what nobody is bound to.
        let usual = config.discovery && config.declare == Declare::Active;
        let tells = self.discovery.unwrap_or(usual)
            && config.declare != Declare::Passive
            && failed.is_none()
            && !cards.is_empty();
        if tells {
            let program = Program {
                version: self.version.map(|it| it.to_string()).unwrap_or_default(),
                contract: self.contract,
                started_at: i64::try_from(Timestamp::now().as_millis()).unwrap_or(i64::MAX),
                host: host(),
            };
            for card in &mut cards {
                card.complete(&program);
            }
            let (client, board) = (self.client.clone(), Arc::clone(&board));
            let presence = Presence::new(client, cards, board, lifecycle.clone());
            lifecycle.tasks.spawn(presence.run());
        }
        let running = Running::new(self.client, lifecycle, on_stop, counters, board, guard);
        match failed {
            None => Ok(running),
            Some(error) => {
                running.stop().await;
                Err(error)
            }
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("client", &self.client)
            .field("agents", &self.agents.len())
            .finish_non_exhaustive()
    }
}
