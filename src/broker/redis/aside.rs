//! What had nowhere to go when it was due: brought back once its queue is there.

use std::sync::Arc;

use super::{
    bus::Bus,
    link::Again,
    record,
    scripts::{ASTRAY, RESCUE},
};
use crate::broker::{QueueRole, QueueSpec};

/// How many messages are looked at in one call.
const AT_ONCE: usize = 100;

/// Digits in front of each entry, which say until when it is kept.
const EXPIRY_DIGITS: usize = 13;

/// Delivers what was kept aside and belongs to a queue that was declared.
///
/// A topic belongs to the queues of agents: a replica that happens to be there must not take it
/// before the agent that it is for.
pub(super) async fn bring_back(bus: &Arc<Bus>, spec: &QueueSpec) {
    let works = matches!(spec.role, QueueRole::Work { .. });
    if !works && !matches!(spec.role, QueueRole::Replica { .. }) {
        return;
    }
    let belongs = |address: &str| match address.split_at_checked(1) {
        Some(("q", queue)) => spec.name == queue,
        Some(("t", topic)) => works && spec.bindings.iter().any(|bound| bound.matches(topic)),
        _ => false,
    };
    let kept = bus.undeliverable();
    let mut from = 0;
    loop {
        let call = bus.keys.call(&ASTRAY).arg(kept.as_str()).arg(from).arg(AT_ONCE);
        let found = bus.link.call_until(bus.patience(), Again::Harmless, &call).await;
        let found: Vec<(String, Vec<u8>)> = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, queue = %spec.name, "cannot look for what was kept aside");
                return;
            }
        };
        if found.is_empty() {
            return;
        }
        let mut left = 0;
        for (place, entry) in found {
            let message = entry.get(EXPIRY_DIGITS..).unwrap_or_default().to_vec();
            let (envelope, address) = record::decode(message);
            let is_rescued = address.is_some_and(|address| belongs(&address)) && {
                let level = envelope.metadata.priority.unwrap_or_default().level();
                let call = bus.keys.call(&RESCUE).arg(kept.as_str()).arg(&place).arg(&entry[..]);
                let call = call.arg(spec.name.as_str()).arg(level);
                let moved = bus.link.call_until::<i64>(bus.patience(), Again::Undone, &call).await;
                moved.is_ok_and(|moved| moved == 1)
            };
            if place.is_empty() && !is_rescued {
                left += 1;
            }
        }
        from += left;
        // The first look has also those that came back, whatever it found beside them.
        if left == 0 && from == 0 {
            return;
        }
    }
}
