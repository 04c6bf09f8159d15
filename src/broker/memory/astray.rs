//! What is undeliverable, and where it was to go.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

use super::{address::Address, lock};
use crate::message::Envelope;

/// How many addresses are kept before those of messages that are gone are looked for.
const FEW: usize = 64;

/// Where the messages in the queue of what is undeliverable were to go.
#[derive(Debug, Default)]
pub(super) struct Astray(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    notes: Vec<(Weak<Envelope>, Address)>,
    /// How many notes there may be before those of messages that are gone are dropped.
    most: usize,
}

/// Addresses by the place of the message, which is held somewhere as long as it is looked for.
pub(super) type Addresses = HashMap<*const Envelope, Address>;

impl Astray {
    /// Notes where a message was to go, for as long as somebody holds it.
    pub(super) fn note(&self, envelope: &Arc<Envelope>, to: Address) {
        let mut kept = lock(&self.0);
        if kept.notes.len() >= kept.most.max(FEW) {
            kept.notes.retain(|(envelope, _)| envelope.strong_count() > 0);
            // Each note is looked at twice on average, however many there are.
            kept.most = 2 * kept.notes.len();
        }
        kept.notes.push((Arc::downgrade(envelope), to));
    }

    /// Returns what was to go to certain addresses. A note held by its address in memory cannot
    /// be mistaken: as long as it is here, no other message has its place.
    pub(super) fn meant_for(&self, belongs: impl Fn(&Address) -> bool) -> Addresses {
        let kept = lock(&self.0);
        let alive = kept.notes.iter().filter(|(envelope, _)| envelope.strong_count() > 0);
        let meant = alive.filter(|(_, to)| belongs(to));
        meant.map(|(envelope, to)| (envelope.as_ptr(), to.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_what_is_gone_are_dropped() {
        let astray = Astray::default();
        let stays = Arc::new(Envelope::default());
        astray.note(&stays, Address::Queue("stays".into()));
        for _ in 0..10 * FEW {
            astray.note(&Arc::new(Envelope::default()), Address::Queue("gone".into()));
        }
        assert!(lock(&astray.0).notes.len() <= FEW);
        assert_eq!(astray.meant_for(|_| true).len(), 1);
        assert!(astray.meant_for(|to| !matches!(to, Address::Queue(_))).is_empty());
    }
}
