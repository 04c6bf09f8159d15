//! One queue, and who uses it: publishers, consumers, and the timer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, Weak},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    engine::Engine,
    line::Unattended,
    lock,
    ready::Ready,
    state::{Effects, Left, State},
};
use crate::{
    broker::{
        Deliveries, QueueRole, QueueSpec, QueueStats, Settle, Verdict, consumers::Consumer,
        limits::Limits,
    },
    contract::Name,
    message::{Envelope, Priorities},
};

/// A queue. Every operation is a short critical section of its own lock; what may run other code
/// (dropping deliveries, dead letters, alarms) is done after it, as [`Effects`].
#[derive(Debug)]
pub(super) struct Queue {
    name: Name,
    role: QueueRole,
    order: Priorities,
    limits: Limits,
    state: Mutex<State>,
    this: Weak<Queue>,
    engine: Weak<Engine>,
}

/// What became of a message that was pushed.
#[derive(Debug)]
pub(super) enum Pushed {
    /// It is in the queue.
    Taken,
    /// The queue is full; the message waits for room.
    Waits(Ticket),
    /// The queue is no more.
    Gone,
}

/// The place of a publish in the line of a full queue; dropping it leaves the line.
#[derive(Debug)]
pub(super) struct Ticket {
    queue: Arc<Queue>,
    number: u64,
    admitted: oneshot::Receiver<()>,
}

impl Queue {
    pub(super) fn new(spec: &QueueSpec, engine: Weak<Engine>) -> Arc<Self> {
        let limits = Limits::of(&spec.role);
        let ready = Ready::new(spec.order());
        let state = State { ready, unused_since: Some(Instant::now()), ..State::default() };
        Arc::new_cyclic(|this| Self {
            name: spec.name.clone(),
            role: spec.role.clone(),
            order: spec.order(),
            limits,
            state: Mutex::new(state),
            this: this.clone(),
            engine,
        })
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    pub(super) fn role(&self) -> &QueueRole {
        &self.role
    }

    pub(super) fn order(&self) -> Priorities {
        self.order
    }

    /// Appends a message, or gets in line where there is no room.
    pub(super) fn push(&self, envelope: &Arc<Envelope>) -> Pushed {
        let (pushed, spent) = self.locked(|state, limits| {
            if state.gone {
                return (Pushed::Gone, [None, None]);
            }
            if state.take(limits, envelope) {
                return (Pushed::Taken, state.take_spent());
            }
            let (number, admitted) = state.line.enter(envelope.clone());
            let queue = self.this.upgrade().expect("a queue that is used is held");
            (Pushed::Waits(Ticket { queue, number, admitted }), [None, None])
        });
        drop(spent);
        pushed
    }

    /// Appends a message that nobody waits for, however long it takes.
    pub(super) fn leave_here(&self, envelope: &Arc<Envelope>, unattended: &Unattended) -> Left {
        self.locked(|state, limits| state.leave_here(limits, envelope, unattended))
    }

    /// Adds a consumer; `None` if the queue is no more.
    pub(super) fn consume(&self, connection: u64, prefetch: u16) -> Option<Deliveries> {
        let prefetch = prefetch.max(1);
        let (sender, receiver) = mpsc::channel(prefetch.into());
        let cancel = CancellationToken::new();
        let id = self.locked(|state, _| {
            if state.gone {
                return None;
            }
            let id = state.next_consumer;
            state.next_consumer += 1;
            state.unused_since = None;
            state.consumers.add(Consumer {
                id,
                connection,
                sender,
                cancel: cancel.clone(),
                settle: Arc::new(Settler { queue: self.this.clone() }),
                prefetch,
                unsettled: 0,
            });
            Some(id)
        })?;
        // Ends the stream of a consumer that is cancelled while nothing arrives, and goes with
        // the runtime of the consumer.
        let leave = Leave { queue: self.this.clone(), consumer: id };
        let cancelled = cancel.clone();
        tokio::spawn(async move {
            let _leave = leave;
            cancelled.cancelled().await;
        });
        Some(Deliveries::new(receiver, cancel))
    }

    pub(super) fn stats(&self) -> QueueStats {
        self.locked(|state, limits| {
            state.expire(limits);
            QueueStats {
                ready: state.count(),
                unsettled: Some(state.unsettled.len()),
                consumers: u32::try_from(state.consumers.len()).unwrap_or(u32::MAX),
            }
        })
    }

    /// Removes what is ready, and what waits for room without a publisher.
    pub(super) fn purge(&self) -> u64 {
        let (purged, waited) = self.locked(|state, limits| {
            state.expire(limits);
            (state.ready.take_all(), state.line.purge())
        });
        purged.iter().map(VecDeque::len).sum::<usize>() as u64 + waited
    }

    /// Removes what is ready and wanted, in its order.
    pub(super) fn take_out(
        &self,
        wanted: impl FnMut(&Arc<Envelope>) -> bool,
    ) -> Vec<Arc<Envelope>> {
        self.locked(|state, _| state.ready.take_out(wanted))
    }

    /// Starts the time anew that it may be without a consumer; `false` if the queue is no more.
    ///
    /// Runs nothing else, so that it may be called under the lock of the exchange.
    pub(super) fn renew(&self) -> bool {
        let mut state = lock(&self.state);
        if state.unused_since.is_some() {
            state.unused_since = Some(Instant::now());
        }
        !state.gone
    }

    /// Looks after what depends on time; `false` once the queue has expired.
    pub(super) fn look_after(&self) -> bool {
        self.locked(|state, limits| {
            let now = Instant::now();
            state.alarm = None;
            if state.unused_until(limits).is_some_and(|until| until <= now) {
                state.kill();
            }
            !state.gone
        })
    }

    /// Ends the queue: its consumers end, and who waits for room is sent away.
    pub(super) fn kill(&self) {
        self.locked(|state, _| state.kill());
    }

    /// Removes the consumers of a closed connection, and takes back what they hold.
    pub(super) fn disconnect(&self, connection: u64) {
        self.locked(|state, limits| {
            state.effects.gone.extend(state.consumers.remove_connection(connection));
            for message in state.unsettled.take_back(connection) {
                state.give_back(limits, message);
            }
        });
    }

    /// Says that and why there is no room.
    pub(super) fn full(&self) -> String {
        let Limits { max_length, max_bytes, .. } = self.limits;
        if max_bytes == u64::MAX {
            format!("queue `{}` is full: it holds at most {max_length} messages", self.name)
        } else {
            format!(
                "queue `{}` is full: it holds at most {max_length} messages and {max_bytes} bytes",
                self.name
            )
        }
    }

    fn settle(&self, tag: u64, verdict: Verdict) {
        let acked = self.locked(|state, limits| {
            let (holder, message) = state.unsettled.take(tag)?;
            state.consumers.settled(holder.consumer);
            match verdict {
                Verdict::Ack => state.spend(message),
                Verdict::Release => {
                    state.give_back(limits, message);
                    None
                }
            }
        });
        drop(acked);
    }

    fn leave(&self, consumer: u64) {
        self.locked(|state, _| {
            state.effects.gone.extend(state.consumers.remove(consumer));
        });
    }

    fn withdraw(&self, number: u64) -> bool {
        self.locked(|state, _| state.line.withdraw(number))
    }

    /// Runs `operation`, then hands out and lets in what it made possible.
    fn locked<T>(&self, operation: impl FnOnce(&mut State, &Limits) -> T) -> T {
        let mut state = lock(&self.state);
        let result = operation(&mut state, &self.limits);
        state.move_on(&self.limits);
        if state.effects.are_none() {
            return result;
        }
        let effects = std::mem::take(&mut state.effects);
        drop(state);
        self.perform(effects);
        result
    }

    fn perform(&self, effects: Effects) {
        let Effects { gone, undelivered, crashed, dropped, alarm } = effects;
        // A stream that ended may hold deliveries, which settle as they are dropped.
        drop((gone, undelivered));
        let Some(engine) = self.engine.upgrade() else { return };
        if let Some(at) = alarm {
            engine.alarm(at, self.this.clone());
        }
        for message in crashed {
            engine.give_up(&self.name, self.limits.dead_letters.as_ref(), &message);
        }
        for message in dropped {
            engine.set_aside(self.limits.dropped.as_ref(), &message);
        }
    }
}

impl Ticket {
    /// Waits for room; `false` if the queue is no more.
    pub(super) async fn admitted(&mut self) -> bool {
        (&mut self.admitted).await.is_ok()
    }

    /// Stops waiting; `true` if the message was taken meanwhile.
    pub(super) fn withdraw(&mut self) -> bool {
        !self.queue.withdraw(self.number) && self.admitted.try_recv().is_ok()
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.admitted.is_terminated() {
            self.queue.withdraw(self.number);
        }
    }
}

/// Settles the deliveries of one consumer.
#[derive(Debug)]
struct Settler {
    queue: Weak<Queue>,
}

impl Settle for Settler {
    fn settle(&self, tag: u64, verdict: Verdict) {
        if let Some(queue) = self.queue.upgrade() {
            queue.settle(tag, verdict);
        }
    }
}

/// Removes a consumer when it is dropped.
struct Leave {
    queue: Weak<Queue>,
    consumer: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.leave(self.consumer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, timeout};

    use super::super::{
        Memory, MemoryOptions,
        tests::{HOUR, body, dead_letters, next, work},
    };
    use crate::broker::{Broker as _, DeadLetterLimits, Destination, Overflow, PublishError};

    #[tokio::test(start_paused = true)]
    async fn a_dead_letter_that_expires_makes_room_for_who_waits() {
        let bus = Memory::new(MemoryOptions { publish_timeout: 2 * HOUR, ..Default::default() });
        let limits = DeadLetterLimits { ttl: HOUR, max_length: 1, ..Default::default() };
        bus.declare(&dead_letters("dlq", limits)).await.unwrap();
        bus.publish(Destination::Queue("dlq"), body("first")).await.unwrap();
        let started = Instant::now();
        bus.publish(Destination::Queue("dlq"), body("second")).await.unwrap();
        assert!(started.elapsed() >= HOUR && started.elapsed() < HOUR + Duration::from_secs(1));
        let mut kept = bus.consume("dlq", 1).await.unwrap();
        assert_eq!(next(&mut kept).await.envelope().payload, "second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_letter_larger_than_the_queue_is_kept_alone() {
        let bus = Memory::default();
        for (name, overflow) in [("dlq", Overflow::Refuse), ("drops.dlq", Overflow::DropOldest)] {
            let limits = DeadLetterLimits { max_bytes: 4, overflow, ..Default::default() };
            bus.declare(&dead_letters(name, limits)).await.unwrap();
            bus.publish(Destination::Queue(name), body("too large")).await.unwrap();
        }
        let refused = bus.publish(Destination::Queue("dlq"), body("x")).await.unwrap_err();
        assert!(matches!(refused, PublishError::Refused { .. }), "{refused}");
        for text in ["x", "y", "larger still"] {
            bus.publish(Destination::Queue("drops.dlq"), body(text)).await.unwrap();
        }
        for (name, expected) in [("dlq", "too large"), ("drops.dlq", "larger still")] {
            assert_eq!(bus.stats(name).await.unwrap().ready, 1);
            let mut kept = bus.consume(name, 1).await.unwrap();
            assert_eq!(next(&mut kept).await.envelope().payload, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_is_not_overtaken() {
        let bus = Memory::default();
        bus.declare(&work("q", 1)).await.unwrap();
        bus.publish(Destination::Queue("q"), body("0")).await.unwrap();
        let mut waiting = Vec::new();
        for text in ["1", "2", "3"] {
            let bus = bus.clone();
            waiting.push(tokio::spawn(async move {
                bus.publish(Destination::Queue("q"), body(text)).await
            }));
            tokio::task::yield_now().await;
        }
        let mut deliveries = bus.consume("q", 1).await.unwrap();
        let overtaking = tokio::spawn(async move {
            bus.publish(Destination::Queue("q"), body("4")).await.unwrap();
            bus
        });
        for expected in ["0", "1", "2", "3", "4"] {
            let delivery = next(&mut deliveries).await;
            assert_eq!(delivery.envelope().payload, expected);
            delivery.ack();
        }
        overtaking.await.unwrap();
        for publish in waiting {
            publish.await.unwrap().unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_publish_leaves_the_line() {
        let bus = Memory::default();
        bus.declare(&work("q", 1)).await.unwrap();
        bus.publish(Destination::Queue("q"), body("taken")).await.unwrap();
        let dropped = bus.publish(Destination::Queue("q"), body("dropped"));
        assert!(timeout(Duration::from_secs(1), dropped).await.is_err());
        assert_eq!(bus.purge("q").await.unwrap(), 1);
        assert_eq!(bus.stats("q").await.unwrap().ready, 0);
    }

    #[tokio::test]
    async fn a_prefetch_of_zero_counts_as_one() {
        let bus = Memory::default();
        bus.declare(&work("q", 10)).await.unwrap();
        let mut deliveries = bus.consume("q", 0).await.unwrap();
        for text in ["1", "2"] {
            bus.publish(Destination::Queue("q"), body(text)).await.unwrap();
        }
        assert_eq!(bus.stats("q").await.unwrap().ready, 1);
        next(&mut deliveries).await.ack();
        assert_eq!(next(&mut deliveries).await.envelope().payload, "2");
    }
}
