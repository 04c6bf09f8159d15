//! Sends what is published: as many messages in one call as there are while others are on their way.

use std::sync::Arc;

use futures::{StreamExt as _, stream::FuturesUnordered};
use redis::Value;
use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    bindings::Known,
    bus::Keys,
    fault::Fault,
    link::{Again, Link},
    scripts::PUBLISH,
};
use crate::contract::Name;

/// How many calls are on their way at once.
const CALLS: usize = 3;

/// How many messages one call has at most.
const MESSAGES: usize = 128;

/// How many bytes of messages a call has before there are enough; one message may have more.
const BYTES: usize = 1 << 20;

/// A message that is to be written to queues.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The bindings that the queues were found by; none for queues by name.
    pub(super) known: Option<Arc<Known>>,
    pub(super) level: u8,
    pub(super) record: Arc<[u8]>,
    pub(super) queues: Arc<[Name]>,
    /// When nobody waits for it any more.
    pub(super) deadline: Instant,
    pub(super) written: oneshot::Sender<Result<Written, Fault>>,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The bindings have changed.
    Stale,
    Nowhere,
    Everywhere,
    /// Whether any queue has it, and which are full.
    Partly(bool, Vec<usize>),
}

/// Sends what arrives until all who could send are gone.
pub(super) async fn run(link: Arc<Link>, keys: Arc<Keys>, mut outgoing: mpsc::Receiver<Outgoing>) {
    let mut calls = FuturesUnordered::new();
    let mut waiting = Vec::with_capacity(MESSAGES);
    let mut is_open = true;
    while is_open || !calls.is_empty() {
        select! {
            biased;
            Some(()) = calls.next() => {}
            received = outgoing.recv_many(&mut waiting, MESSAGES), if is_open && calls.len() < CALLS => {
                is_open = received > 0;
                // Whoever has gone need not be surprised by it later.
                waiting.retain(|message| !message.written.is_closed());
                for batch in batches(&mut waiting) {
                    calls.push(send(&link, &keys, batch));
                }
            }
        }
    }
}

/// Parts messages, in their order, into those that one call can have: of one epoch, and not too many
/// bytes.
fn batches(waiting: &mut Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut batches: Vec<Vec<Outgoing>> = Vec::new();
    let (mut epoch, mut bytes) = (None::<Arc<Known>>, 0);
    for message in waiting.drain(..) {
        let differs = match (&epoch, &message.known) {
            (Some(epoch), Some(known)) => !Arc::ptr_eq(epoch, known),
            _ => false,
        };
        if batches.is_empty() || differs || bytes > BYTES {
            batches.push(Vec::new());
            (epoch, bytes) = (None, 0);
        }
        epoch = epoch.or_else(|| message.known.clone());
        bytes += message.record.len();
        batches.last_mut().expect("there is one").push(message);
    }
    batches
}

async fn send(link: &Link, keys: &Keys, batch: Vec<Outgoing>) {
    let deadline = batch.iter().map(|message| message.deadline).max();
    let limit = deadline.unwrap_or_else(Instant::now).saturating_duration_since(Instant::now());
    let mut call = keys.call(&PUBLISH);
    let epoch = batch.iter().find_map(|message| message.known.as_ref());
    call.push(epoch.map_or("", |known| known.epoch.as_str()));
    for message in &batch {
        call.push(u8::from(message.known.is_some())).push(message.level);
        call.push(&message.record[..]).push(message.queues.len());
        for queue in message.queues.iter() {
            call.push(queue.as_str());
        }
    }
    match link.call_until::<Vec<Value>>(limit, Again::Undone, &call).await {
        Ok(results) if results.len() == batch.len() => {
            for (message, result) in batch.into_iter().zip(results) {
                drop(message.written.send(read(result)));
            }
        }
        Ok(results) => {
            let reason = format!("{} results for {} messages", results.len(), batch.len());
            fail(batch, &Fault::Answer(reason));
        }
        Err(fault) => fail(batch, &fault),
    }
}

fn fail(batch: Vec<Outgoing>, fault: &Fault) {
    for message in batch {
        drop(message.written.send(Err(fault.clone())));
    }
}

fn read(result: Value) -> Result<Written, Fault> {
    match result {
        Value::Int(-1) => Ok(Written::Stale),
        Value::Int(0) => Ok(Written::Nowhere),
        Value::Int(_) => Ok(Written::Everywhere),
        Value::BulkString(text) => {
            Err(Fault::WrongType(String::from_utf8_lossy(&text).into_owned()))
        }
        other => {
            let mut numbers = redis::from_redis_value::<Vec<usize>>(other)
                .map_err(|error| Fault::Answer(error.to_string()))?;
            let any = !numbers.is_empty() && numbers.remove(0) == 1;
            Ok(Written::Partly(any, numbers))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(known: Option<&Arc<Known>>, bytes: usize) -> Outgoing {
        Outgoing {
            known: known.cloned(),
            level: 5,
            record: vec![0; bytes].into(),
            queues: Arc::from([]),
            deadline: Instant::now(),
            written: oneshot::channel().0,
        }
    }

    #[test]
    fn one_call_has_messages_of_one_epoch_and_not_too_many_bytes() {
        let known = || Arc::new(Known::read(("1".to_owned(), Vec::new())).unwrap());
        let (one, other) = (known(), known());
        let mut waiting = vec![
            message(None, 1),
            message(Some(&one), 1),
            message(None, 1),
            message(Some(&one), 1),
            message(Some(&other), 2 * BYTES),
            message(Some(&other), 1),
        ];
        let lengths: Vec<_> = batches(&mut waiting).iter().map(Vec::len).collect();
        assert_eq!(lengths, [4, 1, 1]);
        assert!(waiting.is_empty() && batches(&mut waiting).is_empty());
    }

    #[test]
    fn results_are_read() {
        let full = Value::Array(vec![Value::Int(1), Value::Int(0), Value::Int(2)]);
        assert_eq!(read(full), Ok(Written::Partly(true, vec![0, 2])));
        assert_eq!(read(Value::Int(-1)), Ok(Written::Stale));
        let wrong = read(Value::BulkString(b"WRONGTYPE".to_vec()));
        assert!(matches!(wrong, Err(Fault::WrongType(_))));
    }
}
