//! Lanes on RabbitMQ: a quorum queue each, and the exchange that chooses between them.
//!
//! The queue by the agent's own name is the normal lane. What is published to a topic comes, by the
//! same patterns as for any queue, to a headers exchange of the agent's, which reads
//! `agentbus-priority`; what has no such header, or a normal one, goes by its alternate exchange to
//! the normal lane. So publishers need not know which agents have lanes: one publish, one
//! confirmation, and agents without lanes are bound as ever.

use lapin::{
    ExchangeKind,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::arguments::Arguments;
use crate::{
    contract::Name,
    message::{Lane, PRIORITY_HEADER},
};

/// Returns the name of the queue of a lane.
pub(super) fn queue(agent: &str, lane: Lane) -> Name {
    match lane {
        Lane::Normal => agent.into(),
        lane => format!("{agent}.{lane}").into(),
    }
}

/// Returns the agent's queue that a queue may be a lane of.
pub(super) fn owner(queue: &str) -> Option<&str> {
    let (agent, lane) = queue.rsplit_once('.')?;
    let is_lane = |it: &Lane| *it != Lane::Normal && it.as_str() == lane;
    Lane::ALL.iter().any(is_lane).then_some(agent)
}

/// An exchange that belongs to the lanes of one agent.
pub(super) struct LaneExchange {
    pub(super) name: ShortString,
    pub(super) kind: ExchangeKind,
    pub(super) arguments: FieldTable,
}

/// Returns the exchange that chooses the lane.
pub(super) fn exchange(agent: &str) -> ShortString {
    short(format!("{agent}.lanes"))
}

/// Returns the exchange that leads to the normal lane.
pub(super) fn others(agent: &str) -> ShortString {
    short(format!("{agent}.lanes.others"))
}

/// Lists the exchanges of an agent, those first that others refer to.
pub(super) fn exchanges(agent: &str) -> [LaneExchange; 2] {
    let others = others(agent);
    let alternate = Arguments::none().text("alternate-exchange", others.as_str()).into_table();
    [
        LaneExchange { name: others, kind: ExchangeKind::Fanout, arguments: FieldTable::default() },
        LaneExchange { name: exchange(agent), kind: ExchangeKind::Headers, arguments: alternate },
    ]
}

/// Lists what binds the queues of the lanes: queue, exchange and arguments.
///
/// A header matches a value of its own type only, and clients write small integers as what they
/// like: 8, 16, 32 or 64 bits.
pub(super) fn bindings(agent: &str) -> Vec<(ShortString, ShortString, FieldTable)> {
    let normal = (short(agent), others(agent), FieldTable::default());
    let chosen = Lane::ALL.into_iter().filter(|lane| *lane != Lane::Normal).flat_map(|lane| {
        let queue = short(&*queue(agent, lane));
        lane.priorities().flat_map(integers).map(move |level| {
            let mut arguments = FieldTable::default();
            arguments.insert(PRIORITY_HEADER.into(), level);
            (queue.clone(), exchange(agent), arguments)
        })
    });
    std::iter::once(normal).chain(chosen).collect()
}

fn integers(priority: crate::message::Priority) -> [AMQPValue; 4] {
    let level = priority.level();
    [
        AMQPValue::LongLongInt(level.into()),
        AMQPValue::LongInt(level.into()),
        AMQPValue::ShortInt(level.into()),
        AMQPValue::ShortShortInt(level.cast_signed()),
    ]
}

/// The names of agents' queues are checked: the longest has 197 bytes.
fn short(text: impl Into<String>) -> ShortString {
    ShortString::try_new(text.into()).expect("a checked name and a short suffix")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_lane_is_the_agents_own_queue() {
        let names = Lane::ALL.map(|lane| queue("data", lane).to_string());
        assert_eq!(names, ["data.urgent", "data.high", "data", "data.low"]);
        assert_eq!(owner("data.high"), Some("data"));
        assert_eq!(owner("data.normal"), None);
        assert_eq!(owner("data"), None);
    }

    #[test]
    fn what_is_bound_by_header_is_all_but_normal() {
        let bound = bindings("data");
        assert_eq!(bound.len(), 1 + 7 * 4);
        assert!(bound.iter().skip(1).all(|(queue, ..)| queue.as_str() != "data"));
        let high = bound.iter().filter(|(queue, ..)| queue.as_str() == "data.high");
        assert_eq!(high.count(), 2 * 4);
    }
}
