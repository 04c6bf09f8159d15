//! Where a publish goes on the wire.

use lapin::types::ShortString;

use super::{
    Core, properties,
    publisher::Outgoing,
    reply_address::{REPLY_TO, ReplyAddress},
};
use crate::{
    broker::Destination,
    contract::MAX_NAME_BYTES,
    message::{Envelope, Timestamp},
};

/// Exchange and routing key of a publish, and what goes with them.
struct Route {
    exchange: ShortString,
    routing_key: ShortString,
    /// Whether the broker is to say that nobody is bound.
    mandatory: bool,
    /// Whether the topic travels as a header.
    with_topic: bool,
    delayed: bool,
}

/// Writes a message as it goes over the wire.
///
/// # Errors
///
/// Returns what cannot be sent, in words.
pub(super) fn outgoing(
    core: &Core,
    to: Destination<'_>,
    envelope: &mut Envelope,
) -> Result<Outgoing, String> {
    let delayed = envelope.metadata.due_at.is_some_and(|due_at| !due_at.has_passed());
    let route =
        if delayed { delayed_route(core, to, envelope)? } else { route(core, to, envelope)? };
    let own = envelope.topic.clone();
    if let (true, Destination::Topic(topic)) = (route.delayed, to) {
        envelope.topic = Some(topic.clone());
    }
    let properties =
        properties::write(envelope, route.with_topic, route.delayed, core.options.cloud_events);
    envelope.topic = own;
    Ok(Outgoing {
        exchange: route.exchange,
        routing_key: route.routing_key,
        mandatory: route.mandatory,
        properties: properties?,
        payload: envelope.payload.clone(),
    })
}

fn route(core: &Core, to: Destination<'_>, envelope: &Envelope) -> Result<Route, String> {
    let lane = match to {
        Destination::Queue(queue) => {
            core.topology.queues.lane_of(queue, envelope.metadata.priority)
        }
        Destination::Topic(_) | Destination::Reply(_) => None,
    };
    let name = lane.as_deref().unwrap_or_else(|| to.name());
    let routing_key = properties::short("the destination", name)?;
    let (exchange, mandatory, with_topic) = match to {
        Destination::Topic(_) => (core.options.exchange.as_str(), true, false),
        Destination::Queue(queue) => {
            if queue.starts_with(REPLY_TO) {
                return Err(format!("`{queue}` is the address of an inbox, not a queue"));
            }
            ("", true, true)
        }
        // The broker returns what it delivered to an inbox, so it must not be asked to.
        Destination::Reply(address) => {
            ("", ReplyAddress::parse(address)? == ReplyAddress::Queue, false)
        }
    };
    let exchange = properties::short("`exchange`", exchange)?;
    Ok(Route { exchange, routing_key, mandatory, with_topic, delayed: false })
}

fn delayed_route(core: &Core, to: Destination<'_>, envelope: &Envelope) -> Result<Route, String> {
    if !core.topology.can_delay() {
        return Err(format!(
            "exchange `{}` does not exist, so that nothing can be delayed; create it, or set `declare = \"active\"`",
            core.topology.delays.delivery()
        ));
    }
    if to.name().len() > MAX_NAME_BYTES {
        return Err(format!(
            "the destination of a delayed message has at most {MAX_NAME_BYTES} bytes"
        ));
    }
    let address = match to {
        Destination::Topic(topic) => super::delay::topic_address(topic),
        Destination::Queue(queue) => super::delay::queue_address(queue),
        Destination::Reply(address) => {
            if ReplyAddress::parse(address)? != ReplyAddress::Queue {
                return Err("a reply to an inbox cannot be delayed".to_owned());
            }
            super::delay::queue_address(address)
        }
    };
    let delay = envelope.metadata.due_at.map(Timestamp::remaining).unwrap_or_default();
    let (exchange, routing_key) = core
        .topology
        .delays
        .route(delay, &address)
        .ok_or_else(|| "a message cannot be delayed for more than two years".to_owned())?;
    Ok(Route {
        exchange,
        routing_key: properties::short("the destination", &routing_key)?,
        mandatory: true,
        with_topic: !matches!(to, Destination::Reply(_)),
        delayed: true,
    })
}
