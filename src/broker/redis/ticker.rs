//! What happens by itself when its time comes: delayed messages, dead letters, unused queues.
//!
//! Every process does it for the bus; whoever comes second finds nothing to do.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use redis::Value;
use tokio::{select, time::sleep};

use super::{
    bus::Bus,
    fault::Fault,
    link::Again,
    scripts::{DELIVER, TICK},
    turn::millis,
};
use crate::contract::Name;

/// How long is slept at most: what was said while nobody listened may be due earlier.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How often a message is routed anew whose bindings change meanwhile, before it waits a little.
const TRIES: usize = 10;

/// Does what is due, until the bus is closed.
pub(super) async fn run(bus: Arc<Bus>) {
    let bell = bus.link.listen("t");
    while !bus.is_closed() {
        let wait = match tick(&bus).await {
            Ok(next) => next.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN),
            Err(Fault::Closed) => return,
            Err(fault) => {
                if !fault.is_passing() {
                    tracing::warn!(error = %fault, "cannot do what is due");
                }
                Duration::from_millis(fastrand::u64(250..1000))
            }
        };
        if wait.is_zero() {
            continue;
        }
        select! {
            () = sleep(wait) => {}
            () = bell.rung() => {}
            () = bus.closing.cancelled() => {}
        }
    }
}

/// Does what is due, and returns when there is more.
async fn tick(bus: &Arc<Bus>) -> Result<Option<Duration>, Fault> {
    let call = bus.keys.call(&TICK).arg(millis(bus.lease()));
    let mut answer = bus.link.call::<Vec<Value>>(bus.patience(), &call).await?.into_iter();
    let next = answer.next();
    let mut due = Vec::new();
    while let (Some(number), Some(_level), Some(topic)) =
        (answer.next(), answer.next(), answer.next())
    {
        let text = |value| {
            redis::from_redis_value::<String>(value)
                .map_err(|error| Fault::Answer(error.to_string()))
        };
        due.push((text(number)?, Name::from(text(topic)?)));
    }
    let delivered = join_all(due.iter().map(|(number, topic)| deliver(bus, number, topic))).await;
    delivered.into_iter().collect::<Result<Vec<()>, Fault>>()?;
    Ok(match next {
        Some(Value::Int(millis)) => u64::try_from(millis).ok().map(Duration::from_millis),
        _ => None,
    })
}

/// Hands a message to the queues that are bound to its topic now.
async fn deliver(bus: &Arc<Bus>, number: &str, topic: &Name) -> Result<(), Fault> {
    let mut known = None;
    for _ in 0..TRIES {
        let (link, limit) = (&bus.link, bus.patience());
        let bindings = bus.bindings.get(link, &bus.keys, limit, known.as_ref()).await?;
        let queues = bindings.bound_to(topic);
        let mut call = bus.keys.call(&DELIVER).arg(&bindings.epoch).arg(number);
        for queue in queues.iter() {
            call.push(queue.as_str());
        }
        if link.call_until::<i64>(limit, Again::Harmless, &call).await? != -1 {
            return Ok(());
        }
        known = Some(bindings);
    }
    Ok(())
}
