//! The card that an agent shows of itself.

use std::{fs, sync::Arc};

use super::{
    counts::Counters,
    route::{Audience, Signature},
    route_table::RouteTable,
};
use crate::{
    broker::Health,
    contract::{Contract, Name},
    proto::v1::{AgentCard, AgentHealth, AgentLoad, AgentRoute, RouteKind},
};

/// How many routes a card has at most.
const ROUTES: usize = 1000;

/// What an agent says of itself that stays as it is, and where to read what does not.
pub(super) struct Card {
    fixed: AgentCard,
    contracts: Vec<&'static Contract>,
    counters: Arc<Counters>,
}

/// What all agents of a runtime say of themselves.
pub(super) struct Program {
    pub(super) version: String,
    /// The contract of topics that were written by hand.
    pub(super) contract: Option<&'static Contract>,
    pub(super) started_at: i64,
    pub(super) host: String,
}

impl Card {
    pub(super) fn new<A>(
        name: &Name,
        instance: &Name,
        queue: &Name,
        table: &RouteTable<A>,
        counters: Arc<Counters>,
    ) -> Self {
        let mut contracts = Vec::new();
        let mut hash = |signature: &Signature| {
            let Some(contract) = signature.contract else { return String::new() };
            if contracts.iter().all(|known: &&Contract| known.hash() != contract.hash()) {
                contracts.push(contract);
            }
            contract.hash().to_owned()
        };
        let mut routes: Vec<_> = table
            .routes
            .iter()
            .map(|route| {
                let kind = match route.replies {
                    true => RouteKind::Rpc,
                    false if route.pattern.has_wildcards() => RouteKind::Pattern,
                    false => RouteKind::Topic,
                };
                AgentRoute {
                    topic: route.pattern.as_str().to_owned(),
                    kind: kind.into(),
                    each_replica: route.audience == Audience::Each,
                    request_type: route.signature.request.unwrap_or_default().to_owned(),
                    reply_type: route.signature.reply.to_owned(),
                    contract_hash: hash(&route.signature),
                    follow_up: String::new(),
                }
            })
            .collect();
        let mut follow_ups: Vec<_> = table.follow_ups.iter().collect();
        follow_ups.sort_by_key(|(name, _)| *name);
        routes.extend(follow_ups.into_iter().map(|(name, route)| AgentRoute {
            topic: route.topic.to_string(),
            kind: RouteKind::FollowUp.into(),
            each_replica: false,
            request_type: String::new(),
            reply_type: route.signature.reply.to_owned(),
            contract_hash: hash(&route.signature),
            follow_up: name.to_string(),
        }));
        let omitted = routes.len().saturating_sub(ROUTES);
        routes.truncate(ROUTES);
        let fixed = AgentCard {
            name: name.to_string(),
            instance: instance.to_string(),
            queue: queue.to_string(),
            routes,
            routes_omitted: u32::try_from(omitted).unwrap_or(u32::MAX),
            pid: std::process::id(),
            library: concat!("agentbus/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..AgentCard::default()
        };
        Self { fixed, contracts, counters }
    }

    /// Fills in what the runtime says for all its agents.
    pub(super) fn complete(&mut self, program: &Program) {
        let card = &mut self.fixed;
        card.version.clone_from(&program.version);
        card.started_at = program.started_at;
        card.host.clone_from(&program.host);
        if let Some(contract) = program.contract {
            let bare = card.routes.iter_mut().filter(|route| route.contract_hash.is_empty());
            bare.for_each(|route| contract.hash().clone_into(&mut route.contract_hash));
            if self.contracts.iter().all(|known| known.hash() != contract.hash()) {
                self.contracts.push(contract);
            }
        }
        card.contract_hashes = self.contracts.iter().map(|it| it.hash().to_owned()).collect();
    }

    pub(super) fn name(&self) -> &str {
        &self.fixed.name
    }

    pub(super) fn contracts(&self) -> &[&'static Contract] {
        &self.contracts
    }

    /// Writes the card as it is now.
    pub(super) fn write(&self, health: &Health) -> AgentCard {
        let counts = self.counters.read();
        AgentCard {
            load: Some(AgentLoad {
                in_flight: counts.in_flight,
                waiting: counts.waiting,
                held: counts.held,
                handled: counts.handled,
                retried: counts.retried,
                dead_lettered: counts.dead_lettered,
            }),
            health: Some(AgentHealth {
                healthy: health.is_healthy(),
                detail: match health.detail.as_str() {
                    "" if !health.is_healthy() => format!("the bus is {}", health.stage),
                    detail => detail.to_owned(),
                },
            }),
            ..self.fixed.clone()
        }
    }
}

/// Finds out the name of the host, as far as that can be had for nothing.
pub(super) fn host() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let variable = || std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).ok();
    let name = kernel.or_else(variable).unwrap_or_default();
    name.trim().chars().filter(|c| !c.is_control()).take(255).collect()
}
