//! What a running agent says of itself.

use bytes::Bytes;

use crate::{contract::Name, message::Timestamp, proto::v1};

/// What a running agent says of itself. Nobody checks that it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentCard {
    /// Name of the agent.
    pub name: Name,
    /// Instance of the agent: its replicas have one each, new with every start.
    pub instance: Name,
    /// Version of the program, where it [says](crate::Runtime::version).
    pub version: Option<Name>,
    /// Queue that the agent's replicas share.
    pub queue: Name,
    /// What the agent listens to; at most 1000.
    pub routes: Vec<AgentRoute>,
    /// How many routes are left out.
    pub routes_omitted: u32,
    /// The contracts that the routes are part of.
    pub contracts: Vec<AgentContract>,
    /// When the agent started.
    pub started_at: Timestamp,
    /// What the agent has to do, and has done.
    pub load: AgentLoad,
    /// What keeps the agent's process from its work; `None` when all is well.
    pub trouble: Option<Name>,
    /// Name of the host, where it is known.
    pub host: Option<Name>,
    /// Number of the process on its host.
    pub pid: u32,
    /// What the agent is made with, such as `agentbus/0.1.0`.
    pub library: Name,
}

/// One route of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentRoute {
    /// Topic or pattern; for a follow-up the topic of its request.
    pub topic: Name,
    /// What kind of route it is.
    pub kind: RouteKind,
    /// Whether every replica gets a copy, not one of them.
    pub each_replica: bool,
    /// Protobuf full name of what is taken; `None` where that is anything.
    pub request_type: Option<Name>,
    /// Protobuf full name of what answers it; for a follow-up, of the answer it takes.
    pub reply_type: Option<Name>,
    /// Hash of the contract that the topic is part of, where that is known.
    pub contract_hash: Option<Name>,
    /// Name of the follow-up.
    pub follow_up: Option<Name>,
}

/// What kind of route it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RouteKind {
    /// Requests, which are answered.
    Rpc,
    /// One-way messages.
    Topic,
    /// One-way messages under all topics that match.
    Pattern,
    /// Answers to the agent's own requests.
    FollowUp,
    /// One that this version does not know.
    Other,
}

/// A contract that an agent was built with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentContract {
    /// Tells the contract from others.
    pub hash: Name,
    /// An encoded `google.protobuf.FileDescriptorSet` with all imports, for
    /// [`Schema::decode`](crate::Schema::decode); `None` where it was not asked for, or is too large
    /// for a message.
    pub descriptor_set: Option<Bytes>,
}

/// What an agent has to do, and what became of its messages since it started; as
/// [`Counts`](crate::agent::Counts) has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentLoad {
    /// Being handled at present.
    pub in_flight: u64,
    /// Of these, waiting in middleware.
    pub waiting: u64,
    /// Held at present, because the bus does not take their retry or dead letter.
    pub held: u64,
    /// Handled.
    pub handled: u64,
    /// Attempts that failed and were put off.
    pub retried: u64,
    /// Moved to the dead letters.
    pub dead_lettered: u64,
}

impl From<v1::AgentCard> for AgentCard {
    fn from(card: v1::AgentCard) -> Self {
        let load = card.load.unwrap_or_default();
        let health = card.health.unwrap_or(v1::AgentHealth { healthy: true, ..Default::default() });
        let contract = |hash: String| AgentContract { hash: hash.into(), descriptor_set: None };
        Self {
            name: card.name.into(),
            instance: card.instance.into(),
            version: given(card.version),
            queue: card.queue.into(),
            routes: card.routes.into_iter().map(AgentRoute::from).collect(),
            routes_omitted: card.routes_omitted,
            contracts: card.contract_hashes.into_iter().map(contract).collect(),
            started_at: Timestamp::from_millis(u64::try_from(card.started_at).unwrap_or(0)),
            load: AgentLoad {
                in_flight: load.in_flight,
                waiting: load.waiting,
                held: load.held,
                handled: load.handled,
                retried: load.retried,
                dead_lettered: load.dead_lettered,
            },
            trouble: (!health.healthy).then(|| health.detail.into()),
            host: given(card.host),
            pid: card.pid,
            library: card.library.into(),
        }
    }
}

impl From<v1::AgentRoute> for AgentRoute {
    fn from(route: v1::AgentRoute) -> Self {
        Self {
            kind: match route.kind() {
                v1::RouteKind::Rpc => RouteKind::Rpc,
                v1::RouteKind::Topic => RouteKind::Topic,
                v1::RouteKind::Pattern => RouteKind::Pattern,
                v1::RouteKind::FollowUp => RouteKind::FollowUp,
                v1::RouteKind::Unspecified => RouteKind::Other,
            },
            topic: route.topic.into(),
            each_replica: route.each_replica,
            request_type: given(route.request_type),
            reply_type: given(route.reply_type),
            contract_hash: given(route.contract_hash),
            follow_up: given(route.follow_up),
        }
    }
}

/// In protobuf, what is not there is empty.
fn given(text: String) -> Option<Name> {
    (!text.is_empty()).then(|| text.into())
}
