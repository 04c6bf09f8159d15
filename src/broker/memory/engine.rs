//! What the connections of one bus share: exchange, inboxes and timer.

use std::{
    collections::HashMap,
    sync::{
        Arc, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::Instant;

use super::{
    address::{Address, Reached},
    astray::Astray,
    exchange::Exchange,
    line::Unattended,
    queue::Queue,
    read,
    ready::Message,
    state::Left,
    timer::{Alarmed, Timer},
    write,
};
use crate::{
    broker::{Destination, QueueRole, QueueSpec, ReplySink, TopologyError},
    contract::Name,
    message::{Envelope, Timestamp},
};

/// How many messages are held until they are due; beyond it, publishing one is refused.
///
/// What is due and waits for room in a full queue counts as well. More than this many never wait
/// so: what comes on top of them goes to [`UNDELIVERABLE`](super::UNDELIVERABLE).
pub const MAX_DELAYED: usize = 1_000_000;

/// How many events are handled before the timer looks at the clock again.
const EVENTS_AT_ONCE: usize = 256;

/// The engine of one bus.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) exchange: Exchange,
    inboxes: RwLock<HashMap<Name, Opened>>,
    timer: Timer<Event>,
    /// What waits in full queues and nobody waits for.
    pub(super) unattended: Unattended,
    /// Where what is undeliverable was to go.
    pub(super) astray: Astray,
    next_connection: AtomicU64,
    this: Weak<Engine>,
}

#[derive(Debug)]
enum Event {
    Look(Weak<Queue>),
    Due(Address, Box<Envelope>),
}

struct Opened {
    connection: u64,
    sink: ReplySink,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Engine {
    pub(super) fn new() -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            exchange: Exchange::new(),
            inboxes: RwLock::default(),
            timer: Timer::new(),
            unattended: Unattended::default(),
            astray: Astray::default(),
            next_connection: AtomicU64::new(0),
            this: this.clone(),
        })
    }

    /// Numbers a new connection.
    pub(super) fn connect(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends what a connection has: consumers and inboxes.
    pub(super) fn disconnect(&self, connection: u64) {
        write(&self.inboxes).retain(|_, opened| opened.connection != connection);
        for queue in self.exchange.queues() {
            queue.disconnect(connection);
        }
    }

    pub(super) fn declare(&self, spec: &QueueSpec) -> Result<Arc<Queue>, TopologyError> {
        spec.check_name()?;
        let queue = self.exchange.declare(spec, &self.this)?;
        // Sets the first alarm of a queue that may never have a consumer.
        queue.look_after();
        // A topic belongs to the queues of agents: a replica that happens to be there must not
        // take it before the agent that it is for.
        let works = matches!(spec.role, QueueRole::Work { .. });
        if works || matches!(spec.role, QueueRole::Replica { .. }) {
            self.bring_back(|to| match to {
                Address::Queue(name) => *name == spec.name,
                Address::Topic(topic) => {
                    works && spec.bindings.iter().any(|pattern| pattern.matches(topic))
                }
                Address::Reply(_) => false,
            });
        }
        Ok(queue)
    }

    pub(super) fn delete(&self, name: &str) {
        if let Some(queue) = self.exchange.remove(name) {
            queue.kill();
        }
    }

    pub(super) fn open_inbox(&self, address: Name, connection: u64, sink: ReplySink) {
        write(&self.inboxes).insert(address, Opened { connection, sink });
    }

    pub(super) fn close_inbox(&self, address: &str) {
        write(&self.inboxes).remove(address);
    }

    /// Returns what takes the replies to an address, unless that is a queue or nothing.
    pub(super) fn sink(&self, address: &str) -> Option<ReplySink> {
        read(&self.inboxes).get(address).map(|opened| opened.sink.clone())
    }

    /// Returns the queues that what goes to `to` reaches.
    pub(super) fn reached(&self, to: Destination<'_>) -> Reached {
        match to {
            Destination::Topic(topic) => Reached::Bound(self.exchange.bound_to(topic)),
            Destination::Queue(name) | Destination::Reply(name) => {
                Reached::Named(self.exchange.queue(name))
            }
        }
    }

    /// Holds a message until it is due; gives it back where too many are held.
    pub(super) fn hold(
        &self,
        due: Timestamp,
        to: Destination<'_>,
        envelope: Box<Envelope>,
    ) -> Result<(), Box<Envelope>> {
        let at = Instant::now().checked_add(due.remaining());
        match at.filter(|_| self.timer.len() + self.unattended.len() < MAX_DELAYED) {
            Some(at) => {
                self.timer.set(at, Event::Due(to.into(), envelope), &self.this);
                Ok(())
            }
            None => Err(envelope),
        }
    }

    /// Looks after a queue at `at`.
    pub(super) fn alarm(&self, at: Instant, queue: Weak<Queue>) {
        self.timer.set(at, Event::Look(queue), &self.this);
    }

    /// Hands on what made room in a queue to where it is counted, if there is such a place.
    pub(super) fn set_aside(&self, dropped: Option<&Name>, message: &Message) {
        if let Some(queue) = dropped.and_then(|dropped| self.exchange.queue(dropped)) {
            queue.leave_here(&message.envelope, &self.unattended);
        }
    }

    fn deliver(&self, to: Destination<'_>, envelope: Box<Envelope>) {
        if let Destination::Reply(address) = to
            && let Some(sink) = self.sink(address)
        {
            return sink(*envelope);
        }
        self.hand_out(to, &Arc::from(envelope));
    }

    pub(super) fn hand_out(&self, to: Destination<'_>, envelope: &Arc<Envelope>) {
        let (mut taken, mut crowded) = (false, false);
        let reached = self.reached(to);
        for queue in reached.queues() {
            let left = queue.leave_here(envelope, &self.unattended);
            taken |= left == Left::Here;
            crowded |= left == Left::Crowded;
        }
        if !taken && !crowded {
            self.astray.note(envelope, to.into());
        }
        if crowded || !taken {
            self.keep_undeliverable(envelope);
        }
        // Its queue may have been declared this very moment, and found nothing.
        if reached.queues().is_empty() && !self.reached(to).queues().is_empty() {
            let to = Address::from(to);
            self.bring_back(|other| *other == to);
        }
    }
}

impl Alarmed for Engine {
    fn ring(&self) -> Option<Instant> {
        // However many are due, other tasks of the runtime get their turn in between.
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = self.timer.pop_due() else { break };
            match event {
                Event::Look(queue) => {
                    if let Some(queue) = queue.upgrade()
                        && !queue.look_after()
                    {
                        self.exchange.remove_expired(&queue);
                    }
                }
                Event::Due(to, envelope) => match envelope.metadata.due_at {
                    // The system's clock was set back meanwhile: never early.
                    Some(due) if !due.has_passed() => {
                        let at = Instant::now() + due.remaining();
                        self.timer.set(at, Event::Due(to, envelope), &self.this);
                    }
                    _ => self.deliver(to.as_destination(), envelope),
                },
            }
        }
        self.timer.next()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{advance, sleep, timeout};

    use super::{
        super::{
            Memory, UNDELIVERABLE,
            tests::{HOUR, body, due, next, private, work},
        },
        *,
    };
    use crate::broker::{Broker as _, PublishError};

    #[tokio::test(start_paused = true)]
    async fn an_unused_queue_expires_by_itself() {
        let bus = Memory::default();
        bus.declare(&private("q", HOUR)).await.unwrap();
        sleep(HOUR / 2).await;
        bus.declare(&private("q", HOUR)).await.unwrap();
        sleep(HOUR * 3 / 4).await;
        assert!(bus.stats("q").await.is_ok(), "declaring it again renewed it");
        sleep(HOUR / 2).await;
        assert!(bus.0.engine().exchange.queue("q").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_with_a_consumer_does_not_expire() {
        let bus = Memory::default();
        bus.declare(&private("q", HOUR)).await.unwrap();
        let deliveries = bus.consume("q", 1).await.unwrap();
        sleep(3 * HOUR).await;
        assert!(bus.stats("q").await.is_ok());
        drop(deliveries);
        sleep(HOUR + Duration::from_secs(1)).await;
        assert!(bus.0.engine().exchange.queue("q").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_message_comes_when_the_clock_says_so() {
        let bus = Memory::default();
        bus.declare(&work("q", 10)).await.unwrap();
        let mut deliveries = bus.consume("q", 1).await.unwrap();
        bus.publish(Destination::Queue("q"), due("later", 24 * HOUR)).await.unwrap();
        advance(23 * HOUR).await;
        assert!(timeout(HOUR / 2, deliveries.next()).await.is_err());
        assert_eq!(next(&mut deliveries).await.envelope().payload, "later");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_in_a_full_queue_waits_for_room() {
        let bus = Memory::default();
        bus.declare(&work("q", 1)).await.unwrap();
        bus.publish(Destination::Queue("q"), due("second", HOUR)).await.unwrap();
        bus.publish(Destination::Queue("q"), body("first")).await.unwrap();
        sleep(2 * HOUR).await;
        let mut deliveries = bus.consume("q", 1).await.unwrap();
        for expected in ["first", "second"] {
            let delivery = next(&mut deliveries).await;
            assert_eq!(delivery.envelope().payload, expected);
            delivery.ack();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_room_is_counted_and_purged() {
        let bus = Memory::default();
        bus.declare(&work("q", 10)).await.unwrap();
        for _ in 0..100 {
            bus.publish(Destination::Queue("q"), due("late", HOUR)).await.unwrap();
        }
        sleep(2 * HOUR).await;
        assert_eq!(bus.stats("q").await.unwrap().ready, 100);
        assert_eq!(bus.0.engine().unattended.len(), 90);
        assert_eq!(bus.purge("q").await.unwrap(), 100);
        assert_eq!(bus.stats("q").await.unwrap().ready, 0);
        assert_eq!(bus.0.engine().unattended.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_room_counts_among_what_is_held() {
        let bus = Memory::default();
        bus.declare(&work("q", 1)).await.unwrap();
        for text in ["first", "second"] {
            bus.publish(Destination::Queue("q"), due(text, HOUR)).await.unwrap();
        }
        let unattended = bus.0.engine().unattended.clone();
        let places: Vec<_> = (0..MAX_DELAYED).map_while(|_| unattended.place()).collect();
        let error = bus.publish(Destination::Queue("q"), due("third", HOUR)).await.unwrap_err();
        assert!(matches!(error, PublishError::Refused { .. }), "{error}");
        sleep(2 * HOUR).await;
        assert_eq!(bus.stats("q").await.unwrap().ready, 1);
        assert_eq!(bus.stats(UNDELIVERABLE).await.unwrap().ready, 1);
        drop(places);
        bus.publish(Destination::Queue("q"), due("fourth", HOUR)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_reply_comes_to_the_inbox() {
        let bus = Memory::default();
        let (sender, mut replies) = tokio::sync::mpsc::unbounded_channel();
        let sink: ReplySink = Arc::new(move |reply| drop(sender.send(reply)));
        bus.declare(&work("q", 1)).await.unwrap();
        let mut requests = bus.consume("q", 1).await.unwrap();
        let inbox = bus.inbox(sink).await.unwrap();
        inbox.publish(Destination::Queue("q"), body("request")).await.unwrap();
        let request = next(&mut requests).await;
        let to = request.envelope().metadata.reply_to.clone().unwrap();
        bus.publish(Destination::Reply(&to), due("reply", HOUR)).await.unwrap();
        assert!(replies.try_recv().is_err());
        assert_eq!(replies.recv().await.unwrap().payload, "reply");
    }
}
