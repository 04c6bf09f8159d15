//! The line of publishes that wait for room in a queue.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::oneshot;

use super::engine::MAX_DELAYED;
use crate::message::Envelope;

/// Messages that wait for room, first come first served.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: VecDeque<Waiting>,
    next_number: u64,
    /// How many of them nobody waits for.
    unattended: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    envelope: Arc<Envelope>,
    owner: Owner,
}

/// Whose concern a message in line is.
#[derive(Debug)]
enum Owner {
    /// A publisher waits to be told.
    Publisher(oneshot::Sender<()>),
    /// Nobody waits for it.
    Bus { _place: Place },
}

/// Counts the messages that wait in any line of a bus and that nobody waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Unattended(Arc<AtomicUsize>);

/// One message among those counted, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Unattended {
    pub(super) fn len(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more message; `None` where there are as many as there may be.
    pub(super) fn place(&self) -> Option<Place> {
        let add = |count| (count < MAX_DELAYED).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Place(self.0.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Line {
    /// Lets a publisher wait; it hears when its message is in the queue, or that the queue is
    /// no more.
    pub(super) fn enter(&mut self, envelope: Arc<Envelope>) -> (u64, oneshot::Receiver<()>) {
        let (admitted, receiver) = oneshot::channel();
        (self.add(envelope, Owner::Publisher(admitted)), receiver)
    }

    /// Lets a message wait that nobody waits for: one that is due, or a dead letter; `false` where
    /// too many do.
    pub(super) fn leave_here(&mut self, envelope: Arc<Envelope>, all: &Unattended) -> bool {
        let Some(place) = all.place() else { return false };
        self.add(envelope, Owner::Bus { _place: place });
        self.unattended += 1;
        true
    }

    fn add(&mut self, envelope: Arc<Envelope>, owner: Owner) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.push_back(Waiting { number, envelope, owner });
        number
    }

    /// Returns the size of the first message's body.
    pub(super) fn first_bytes(&self) -> Option<u64> {
        Some(self.waiting.front()?.envelope.payload.len() as u64)
    }

    /// Takes the first message and tells its publisher; `None` if that one has gone meanwhile.
    pub(super) fn admit(&mut self) -> Option<Arc<Envelope>> {
        let first = self.waiting.pop_front()?;
        match first.owner {
            Owner::Publisher(admitted) => admitted.send(()).ok().map(|()| first.envelope),
            Owner::Bus { .. } => {
                self.unattended -= 1;
                Some(first.envelope)
            }
        }
    }

    /// Removes a publisher that waits no longer; `false` if its turn has come before.
    pub(super) fn withdraw(&mut self, number: u64) -> bool {
        match self.waiting.binary_search_by_key(&number, |waiting| waiting.number) {
            Ok(at) => self.waiting.remove(at).is_some(),
            Err(_) => false,
        }
    }

    /// Removes what nobody waits for, and returns how much that was.
    pub(super) fn purge(&mut self) -> u64 {
        let is_awaited = |waiting: &Waiting| matches!(waiting.owner, Owner::Publisher(_));
        self.waiting.retain(is_awaited);
        std::mem::take(&mut self.unattended)
    }

    /// Returns how many messages nobody waits for.
    pub(super) fn unattended(&self) -> u64 {
        self.unattended
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends everybody away.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.unattended = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served_and_who_left_is_skipped() {
        let mut line = Line::default();
        let (first, mut heard) = line.enter(Arc::default());
        let (second, mut unheard) = line.enter(Arc::default());
        let (_, gone) = line.enter(Arc::default());
        drop(gone);
        assert!(line.withdraw(second));
        assert!(!line.withdraw(second));
        assert!(line.admit().is_some());
        assert!(!line.withdraw(first), "its turn has come");
        assert_eq!(heard.try_recv(), Ok(()));
        assert!(unheard.try_recv().is_err());
        assert!(line.admit().is_none(), "nobody waits for this one any more");
        assert!(line.is_empty());
    }

    #[test]
    fn what_nobody_waits_for_is_counted_until_it_leaves_the_line() {
        let (mut line, all) = (Line::default(), Unattended::default());
        for _ in 0..4 {
            assert!(line.leave_here(Arc::default(), &all));
        }
        let (_, mut heard) = line.enter(Arc::default());
        line.admit();
        assert_eq!((line.unattended(), all.len()), (3, 3));
        assert_eq!(line.purge(), 3);
        assert_eq!((line.unattended(), all.len()), (0, 0));
        assert!(line.admit().is_some(), "a publisher is not purged");
        assert_eq!(heard.try_recv(), Ok(()));
        line.leave_here(Arc::default(), &all);
        line.clear();
        assert_eq!((line.unattended(), all.len()), (0, 0));
    }

    #[test]
    fn no_more_are_left_in_line_than_may_be_held() {
        let (mut line, all) = (Line::default(), Unattended::default());
        all.0.store(MAX_DELAYED - 1, Ordering::Relaxed);
        assert!(line.leave_here(Arc::default(), &all));
        assert!(!line.leave_here(Arc::default(), &all));
        assert_eq!((line.unattended(), all.len()), (1, MAX_DELAYED));
    }
}
