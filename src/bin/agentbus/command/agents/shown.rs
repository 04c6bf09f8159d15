//! A card as JSON.

use agentbus::client::{AgentCard, AgentRoute, RouteKind};
use serde::Serialize;

use crate::time;

/// What an agent says of itself. Its JSON has these fields.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown<'a> {
    agent: &'a str,
    instance: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    queue: &'a str,
    routes: Vec<ShownRoute<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    routes_omitted: u32,
    contracts: Vec<&'a str>,
    started_at: String,
    load: ShownLoad,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    pid: u32,
    library: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownRoute<'a> {
    topic: &'a str,
    kind: &'static str,
    each_replica: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    follow_up: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownLoad {
    in_flight: u64,
    waiting: u64,
    held: u64,
    handled: u64,
    retried: u64,
    dead_lettered: u64,
}

impl<'a> Shown<'a> {
    pub(super) fn new(card: &'a AgentCard) -> Self {
        let load = &card.load;
        Self {
            agent: &card.name,
            instance: &card.instance,
            version: card.version.as_deref(),
            queue: &card.queue,
            routes: card.routes.iter().map(ShownRoute::new).collect(),
            routes_omitted: card.routes_omitted,
            contracts: card.contracts.iter().map(|contract| &*contract.hash).collect(),
            started_at: time::shown(card.started_at),
            load: ShownLoad {
                in_flight: load.in_flight,
                waiting: load.waiting,
                held: load.held,
                handled: load.handled,
                retried: load.retried,
                dead_lettered: load.dead_lettered,
            },
            trouble: card.trouble.as_deref(),
            host: card.host.as_deref(),
            pid: card.pid,
            library: &card.library,
        }
    }
}

impl<'a> ShownRoute<'a> {
    fn new(route: &'a AgentRoute) -> Self {
        Self {
            topic: &route.topic,
            kind: match route.kind {
                RouteKind::Rpc => "rpc",
                RouteKind::Topic => "topic",
                RouteKind::Pattern => "pattern",
                RouteKind::FollowUp => "followUp",
                _ => "other",
            },
            each_replica: route.each_replica,
            request_type: route.request_type.as_deref(),
            reply_type: route.reply_type.as_deref(),
            contract: route.contract_hash.as_deref(),
            follow_up: route.follow_up.as_deref(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}
