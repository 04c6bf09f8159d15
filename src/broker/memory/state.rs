//! What a queue holds, and what follows from each change of it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    line::{Line, Unattended},
    ready::{Message, Ready},
    unsettled::{Holder, Unsettled},
};
use crate::{
    broker::{
        Delivery,
        consumers::{Consumer, Consumers},
        limits::Limits,
    },
    message::Envelope,
};

/// How many acked messages are left to publishers to drop, and of what size.
const SPENT: usize = 16;
const SPENT_BYTES: usize = 512;

/// What a queue holds; it lies under the queue's lock.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) ready: Ready,
    pub(super) unsettled: Unsettled,
    pub(super) consumers: Consumers,
    pub(super) line: Line,
    pub(super) next_consumer: u64,
    /// Since when it has had no consumer.
    pub(super) unused_since: Option<Instant>,
    /// When the timer will look after the queue.
    pub(super) alarm: Option<Instant>,
    /// Deleted or expired.
    pub(super) gone: bool,
    pub(super) effects: Effects,
    /// Messages that were acked, to be dropped by who publishes the next ones: an allocator is
    /// slow where what one thread makes is always dropped by another.
    pub(super) spent: Vec<Arc<Envelope>>,
}

/// What became of a message that nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It is in the queue, or in its line.
    Here,
    /// Too many wait in line already.
    Crowded,
    /// The queue is no more.
    Gone,
}

/// What an operation leaves to be done once the lock is free.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) gone: Vec<Consumer>,
    pub(super) undelivered: Vec<Delivery>,
    pub(super) crashed: Vec<Message>,
    pub(super) dropped: Vec<Message>,
    pub(super) alarm: Option<Instant>,
}

impl State {
    /// Appends a message if there is room and nobody was earlier.
    pub(super) fn take(&mut self, limits: &Limits, envelope: &Arc<Envelope>) -> bool {
        self.expire(limits);
        let taken = self.line.is_empty() && self.make_room(limits, envelope.payload.len() as u64);
        if taken {
            self.append(limits, envelope.clone());
        }
        taken
    }

    /// Appends a message that nobody waits for, or lets it wait in line.
    pub(super) fn leave_here(
        &mut self,
        limits: &Limits,
        envelope: &Arc<Envelope>,
        unattended: &Unattended,
    ) -> Left {
        if self.gone {
            Left::Gone
        } else if self.take(limits, envelope) || self.line.leave_here(envelope.clone(), unattended)
        {
            Left::Here
        } else {
            Left::Crowded
        }
    }

    /// Leaves an acked message to publishers to drop, or gives it back where they have enough.
    pub(super) fn spend(&mut self, message: Message) -> Option<Message> {
        if self.gone || self.spent.len() >= SPENT || message.envelope.payload.len() > SPENT_BYTES {
            return Some(message);
        }
        self.spent.push(message.envelope);
        None
    }

    /// Returns messages to be dropped once the lock is free.
    pub(super) fn take_spent(&mut self) -> [Option<Arc<Envelope>>; 2] {
        [self.spent.pop(), self.spent.pop()]
    }

    /// Counts what waits to be handed out, for room first or not.
    pub(super) fn count(&self) -> u64 {
        self.ready.len() + self.line.unattended()
    }

    fn append(&mut self, limits: &Limits, envelope: Arc<Envelope>) {
        self.ready.push(envelope, limits.ttl.and_then(later));
    }

    fn make_room(&mut self, limits: &Limits, bytes: u64) -> bool {
        let has_room = |ready: &Ready| {
            ready.len() < limits.max_length
                // What is larger than all there may be is kept alone; it would never fit otherwise.
                && (ready.is_empty() || ready.bytes().saturating_add(bytes) <= limits.max_bytes)
        };
        while limits.drops_oldest && !has_room(&self.ready) {
            let Some(oldest) = self.ready.pop_oldest() else { break };
            if limits.dropped.is_some() {
                self.effects.dropped.push(oldest);
            }
        }
        has_room(&self.ready)
    }

    pub(super) fn give_back(&mut self, limits: &Limits, mut message: Message) {
        message.releases = message.releases.saturating_add(1);
        if message.releases > limits.releases {
            self.effects.crashed.push(message);
        } else {
            self.ready.put_back(message);
        }
    }

    pub(super) fn expire(&mut self, limits: &Limits) {
        if limits.ttl.is_some() {
            self.ready.expire(Instant::now());
        }
    }

    /// Hands out what consumers have room for, lets in what the queue has room for, and sets the
    /// alarm.
    pub(super) fn move_on(&mut self, limits: &Limits) {
        if self.gone {
            return;
        }
        self.expire(limits);
        loop {
            self.dispatch();
            match self.line.first_bytes() {
                Some(bytes) if self.make_room(limits, bytes) => {
                    if let Some(envelope) = self.line.admit() {
                        self.append(limits, envelope);
                    }
                }
                _ => break,
            }
        }
        if limits.ttl.is_some() || limits.expires.is_some() {
            self.set_alarm(limits);
        }
    }

    fn dispatch(&mut self) {
        while !self.ready.is_empty() {
            let Some(consumer) = self.consumers.next(&mut self.effects.gone) else { break };
            let Some(message) = self.ready.pop() else { break };
            let (id, releases) = (consumer.id, message.releases);
            let envelope = message.envelope.clone();
            let holder = Holder { consumer: id, connection: consumer.connection };
            let tag = self.unsettled.insert(holder, message);
            let delivery = Delivery::new(envelope, releases > 0, consumer.settle.clone(), tag)
                .with_returns(releases);
            match consumer.sender.try_send(delivery) {
                Ok(()) => self.consumers.served(),
                Err(error) => {
                    // The stream was dropped this very moment. The message was never seen, and
                    // the tag is void before the delivery is dropped.
                    self.effects.undelivered.push(error.into_inner());
                    self.effects.gone.extend(self.consumers.remove(id));
                    if let Some((_, message)) = self.unsettled.take(tag) {
                        self.ready.put_back(message);
                    }
                }
            }
        }
    }

    fn set_alarm(&mut self, limits: &Limits) {
        if self.consumers.is_empty() {
            self.unused_since.get_or_insert_with(Instant::now);
        }
        let Some(next) =
            self.ready.next_expiry().into_iter().chain(self.unused_until(limits)).min()
        else {
            return;
        };
        if self.alarm.is_none_or(|alarm| next < alarm) {
            self.alarm = Some(next);
            self.effects.alarm = Some(next);
        }
    }

    pub(super) fn unused_until(&self, limits: &Limits) -> Option<Instant> {
        self.unused_since?.checked_add(limits.expires?)
    }

    pub(super) fn kill(&mut self) {
        self.gone = true;
        self.effects.gone.extend(self.consumers.remove_all());
        self.line.clear();
        self.unsettled = Unsettled::default();
        self.ready.take_all();
        self.spent = Vec::new();
    }
}

impl Effects {
    pub(super) fn are_none(&self) -> bool {
        self.gone.is_empty()
            && self.undelivered.is_empty()
            && self.crashed.is_empty()
            && self.dropped.is_empty()
            && self.alarm.is_none()
    }
}

/// Returns the moment `duration` from now; none if that is further than the clock goes.
fn later(duration: Duration) -> Option<Instant> {
    Instant::now().checked_add(duration)
}
