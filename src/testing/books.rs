//! What is held and what is owed, and how a message is known again.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;

use super::history::{Entry, Event, Outcome};
use crate::{
    broker::Destination,
    contract::{Name, Pattern},
    message::{Envelope, Id, Timestamp},
};

#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) entries: Vec<Entry>,
    /// Publishes that have not ended.
    pub(super) in_flight: usize,
    pub(super) next_delivery: u64,
    /// What was delivered and not settled.
    pub(super) held: BTreeMap<u64, Held>,
    /// What was published and not settled, by the queue it went to.
    pub(super) owed: Vec<Owed>,
    pub(super) queues: HashMap<Name, Declared>,
    /// How often a queue is consumed from.
    pub(super) consumers: BTreeMap<Name, usize>,
    /// Topics of requests, by what their replies are found by.
    pub(super) requests: HashMap<Id, Name>,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) queue: Name,
    pub(super) agent: Option<Name>,
    pub(super) envelope: Envelope,
    pub(super) at: Duration,
    pub(super) expired: bool,
    /// It was retried, snoozed or dead-lettered.
    pub(super) has_copy: bool,
}

#[derive(Debug)]
pub(super) struct Owed {
    pub(super) queue: Name,
    pub(super) key: Key,
    pub(super) due: Option<Timestamp>,
    pub(super) entry: usize,
}

/// By which a message is known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) id: Option<Id>,
    pub(super) payload: Bytes,
}

#[derive(Debug)]
pub(super) struct Declared {
    pub(super) keeper: Keeper,
    pub(super) bindings: Vec<Pattern>,
}

/// Whose queue it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keeper {
    Agent(Name),
    /// Dead letters, or somebody who watches.
    Nobody,
}

impl Books {
    /// Tells whether somebody works on what is in a queue; else it is looked at, or kept.
    pub(super) fn is_work(&self, queue: &Name) -> bool {
        match self.queues.get(queue) {
            Some(declared) => declared.keeper != Keeper::Nobody,
            None => !queue.ends_with(".dlq"),
        }
    }

    /// Finds what a message is a copy of: what is held from `queue`, or from any.
    pub(super) fn original(&self, queue: Option<&str>, copy: &Envelope) -> Option<u64> {
        let fits = |held: &&Held, key: &Key| {
            !held.has_copy
                && match queue {
                    Some(queue) => held.is(queue, key),
                    None => held.agent.is_some() && held.key() == *key,
                }
        };
        let find =
            |key: &Key| self.held.iter().find(|(_, held)| fits(held, key)).map(|(id, _)| *id);
        // A dead letter that could be sent only without its metadata has another id.
        let by_body = |(_, held): &(&u64, &Held)| {
            copy.metadata.failure.is_some() && held.envelope.payload == copy.payload
        };
        let loosely = || self.held.iter().find(by_body).map(|(id, _)| *id);
        find(&Key::of(copy)).or_else(loosely)
    }

    /// Tells what a copy of a message is for.
    pub(super) fn copy(
        &self,
        original: Option<u64>,
        copy: &Envelope,
        agent: &mut Option<Name>,
    ) -> Event {
        let original = original.and_then(|id| self.held.get(&id));
        let (Some(original), Some(due)) = (original, copy.metadata.due_at) else {
            return Event::Put;
        };
        agent.clone_from(&original.agent);
        let delay = due.remaining();
        let attempt = copy.metadata.attempt();
        if attempt > original.envelope.metadata.attempt() {
            Event::Retried { delay, attempt }
        } else {
            Event::Snoozed { delay }
        }
    }

    /// Notes in which queues a message will be.
    pub(super) fn owe(&mut self, to: Destination<'_>, envelope: &Envelope, entry: usize) {
        let reached = |(name, declared): &(&Name, &Declared)| match to {
            Destination::Topic(topic) => declared.bindings.iter().any(|it| it.matches(topic)),
            Destination::Queue(queue) | Destination::Reply(queue) => ***name == *queue,
        };
        let due = envelope.metadata.due_at;
        let owed = self.queues.iter().filter(reached).map(|(queue, _)| Owed {
            queue: queue.clone(),
            key: Key::of(envelope),
            due,
            entry,
        });
        self.owed.extend(owed);
    }

    /// Strikes out what was owed: of several copies, the one that was due first.
    pub(super) fn settle(&mut self, held: &Held) {
        let key = held.key();
        let owed = self.owed.iter().enumerate();
        let owed = owed.filter(|(_, owed)| owed.queue == held.queue && owed.key == key);
        if let Some((index, _)) = owed.min_by_key(|(_, owed)| owed.due) {
            self.owed.remove(index);
        }
    }
}

impl Held {
    pub(super) fn key(&self) -> Key {
        Key::of(&self.envelope)
    }

    pub(super) fn is(&self, queue: &str, key: &Key) -> bool {
        *self.queue == *queue && self.key() == *key
    }

    pub(super) fn describe(&self, now: Duration) -> String {
        let agent = self.agent.as_ref().unwrap_or(&self.queue);
        let topic = self.envelope.topic.as_deref().unwrap_or("a reply");
        format!("`{agent}` has held `{topic}` for {:?}", now.saturating_sub(self.at))
    }

    pub(super) fn entry(&self, at: Duration, event: Event, redelivered: bool) -> Entry {
        Entry {
            at,
            event,
            agent: self.agent.clone(),
            topic: self.envelope.topic.clone(),
            place: Some(self.queue.clone()),
            redelivered,
            envelope: self.envelope.clone(),
            outcome: Outcome::Taken,
        }
    }
}

impl Key {
    pub(super) fn of(envelope: &Envelope) -> Self {
        Self { id: envelope.metadata.message_id.clone(), payload: envelope.payload.clone() }
    }
}
