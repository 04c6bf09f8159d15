//! The embedded bus: queues and topics inside one process, without a server.
//!
//! It is what agents use by default, and the executable specification of every other backend.
//!
//! ```
//! use agentbus::{Envelope, Pattern, Topic, broker::{Broker, Destination, QueueRole, QueueSpec}};
//! use agentbus::broker::memory::Memory;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Memory::default();
//! let role = QueueRole::Work { dead_letters: "data.dlq".into(), max_length: 1000 };
//! bus.declare(&QueueSpec::new("data", role).bind(Pattern::parse("data.*")?)).await?;
//! let mut deliveries = bus.consume("data", 32).await?;
//!
//! let topic = Topic::<()>::new("data.request");
//! bus.publish(Destination::Topic(topic.name()), Envelope::encode(&())).await?;
//! let delivery = deliveries.next().await.expect("the bus is open");
//! assert_eq!(delivery.envelope().topic.as_deref(), Some("data.request"));
//! delivery.ack();
//! # Ok(())
//! # }
//! ```
//!
//! # What it does
//!
//! - A message goes to every queue with a matching binding, once, and its body is shared.
//! - A queue hands out in the order messages came, to consumers in turn, to each as many as its
//!   prefetch allows (0 counts as 1). What is released takes its old place.
//! - A full queue makes a publish wait, first come first served, up to
//!   [`publish_timeout`](MemoryOptions::publish_timeout). Other queues have their copy at once,
//!   so they keep it when the publish is refused in the end. Only what is ready counts as full.
//! - What was released more than 100 times goes to the queue's dead letters, with the failure
//!   kind `crash_loop`; a private queue has none and drops it.
//! - A message that is not due yet is held, at most [`MAX_DELAYED`] of them, and routed when it
//!   is. What is then bound nowhere is found in the queue [`UNDELIVERABLE`], and delivered once a
//!   work queue that it is for is declared (or a replica's, where it is for that queue alone).
//!   In a full queue it waits for room, however long that takes: it is among the held ones still,
//!   counted as ready, and purged with what is ready.
//! - A dead letter that is larger than all a queue may hold is kept if the queue is empty.
//! - Time is tokio's: dead letters, delays and unused queues end when it says so, by one task
//!   in the runtime that is used.
//!
//! Nothing is written to disk: what was published is gone with the last handle of the bus.

mod address;
mod astray;
mod connection;
mod engine;
mod exchange;
mod inbox;
mod line;
mod queue;
mod ready;
mod state;
mod timer;
mod undeliverable;
mod unsettled;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;

use self::{connection::Connection, engine::Engine, inbox::MemoryInbox};
pub use self::{engine::MAX_DELAYED, undeliverable::UNDELIVERABLE};
use super::{
    Broker, Deliveries, Destination, Health, Inbox, PublishError, Publishing, QueueError,
    QueueSpec, QueueStats, ReplySink, TopologyError,
};
use crate::message::Envelope;

/// A connection to an embedded bus.
///
/// A clone is the same connection. [`connect`](Self::connect) makes another one to the same bus,
/// which is closed by itself; dropping the last clone closes a connection, too. The bus is there
/// as long as one connection to it is held, closed or not.
#[derive(Clone)]
pub struct Memory(Arc<Connection>);

/// The limits of a connection to an embedded bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryOptions {
    /// How long a publish waits for room in a full queue; 5 s by default.
    pub publish_timeout: Duration,
    /// How many bytes the body of a message may have; 16 MiB by default.
    ///
    /// What is published to a queue by name is not checked: a dead letter is kept whatever its
    /// size.
    pub max_message_bytes: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self { publish_timeout: Duration::from_secs(5), max_message_bytes: 16 << 20 }
    }
}

impl Memory {
    /// Makes a new bus and connects to it.
    #[must_use]
    pub fn new(options: MemoryOptions) -> Self {
        Self(Arc::new(Connection::new(Engine::new(), options)))
    }

    /// Connects to the bus of that name in this process, with default options.
    ///
    /// The first connection makes the bus; it goes with the last one.
    #[must_use]
    pub fn named(name: &str) -> Self {
        static NAMED: Mutex<Option<HashMap<String, Weak<Engine>>>> = Mutex::new(None);
        let mut named = lock(&NAMED);
        let named = named.get_or_insert_default();
        named.retain(|_, engine| engine.strong_count() > 0);
        let engine = named.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let engine = Engine::new();
            named.insert(name.to_owned(), Arc::downgrade(&engine));
            engine
        });
        Self(Arc::new(Connection::new(engine, MemoryOptions::default())))
    }

    /// Makes another connection to the same bus.
    #[must_use]
    pub fn connect(&self, options: MemoryOptions) -> Self {
        Self(Arc::new(Connection::new(self.0.engine().clone(), options)))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(MemoryOptions::default())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("is_closed", &self.0.is_closed()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for Memory {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn publish(&self, to: Destination<'_>, envelope: Envelope) -> Result<(), PublishError> {
        self.0.publish(to, envelope).await
    }

    fn begin_publish<'a>(&'a self, to: Destination<'a>, envelope: Envelope) -> Publishing<'a> {
        self.0.begin_publish(to, envelope)
    }

    async fn inbox(&self, sink: ReplySink) -> Result<Arc<dyn Inbox>, QueueError> {
        if self.0.is_closed() {
            return Err(QueueError::Closed);
        }
        Ok(Arc::new(MemoryInbox::open(self.0.clone(), sink)))
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<(), TopologyError> {
        if self.0.is_closed() {
            return Err(TopologyError::Closed { queue: queue.name.clone() });
        }
        self.0.engine().declare(queue).map(drop)
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Deliveries, QueueError> {
        self.0.consume(queue, prefetch)
    }

    async fn stats(&self, queue: &str) -> Result<QueueStats, QueueError> {
        Ok(self.0.queue(queue)?.stats())
    }

    async fn purge(&self, queue: &str) -> Result<u64, QueueError> {
        Ok(self.0.queue(queue)?.purge())
    }

    async fn delete(&self, queue: &str) -> Result<(), QueueError> {
        if self.0.is_closed() {
            return Err(QueueError::Closed);
        }
        self.0.engine().delete(queue);
        Ok(())
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.0.health()
    }

    async fn close(&self) {
        self.0.close();
    }
}

// A panic while a lock is held can only come from a bug in here; the rest of the process goes on.

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::runtime;

    use super::*;
    use crate::{
        broker::{DeadLetterLimits, QueueRole},
        contract::{Name, Pattern},
        message::{Metadata, Timestamp},
    };

    pub(super) const HOUR: Duration = Duration::from_hours(1);

    pub(super) fn work(name: &'static str, max_length: u64) -> QueueSpec {
        let dead_letters = Name::from(format!("{name}.dlq"));
        QueueSpec::new(Name::from_static(name), QueueRole::Work { dead_letters, max_length })
    }

    pub(super) fn private(name: &'static str, expires: Duration) -> QueueSpec {
        let role = QueueRole::Private { max_length: 10, expires };
        QueueSpec::new(Name::from_static(name), role).bind(Pattern::parse("#").unwrap())
    }

    pub(super) fn dead_letters(name: &'static str, limits: DeadLetterLimits) -> QueueSpec {
        QueueSpec::new(Name::from_static(name), QueueRole::DeadLetters(limits))
    }

    pub(super) fn body(text: &'static str) -> Envelope {
        Envelope { payload: text.into(), ..Envelope::default() }
    }

    pub(super) fn due(text: &'static str, after: Duration) -> Envelope {
        let due_at = Some(Timestamp::now().after(after));
        Envelope { metadata: Metadata { due_at, ..Metadata::default() }, ..body(text) }
    }

    pub(super) async fn next(deliveries: &mut Deliveries) -> crate::broker::Delivery {
        deliveries.next().await.expect("the bus is open")
    }

    #[tokio::test]
    async fn a_name_is_a_bus_as_long_as_somebody_is_connected() {
        let (first, second) = (Memory::named("one"), Memory::named("one"));
        first.declare(&work("q", 10)).await.unwrap();
        assert!(second.stats("q").await.is_ok());
        assert!(Memory::named("two").stats("q").await.is_err());
        first.close().await;
        assert!(second.stats("q").await.is_ok());
        drop((first, second));
        assert!(Memory::named("one").stats("q").await.is_err());
    }

    #[test]
    fn a_bus_works_in_one_runtime_after_the_other() {
        let bus = Memory::default();
        for _ in 0..3 {
            let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                bus.declare(&work("q", 10)).await.unwrap();
                let soon = due("soon", Duration::from_millis(5));
                bus.publish(Destination::Queue("q"), soon).await.unwrap();
                let mut deliveries = bus.consume("q", 1).await.unwrap();
                next(&mut deliveries).await.ack();
                // Left to the next runtime.
                bus.publish(Destination::Queue("q"), due("late", HOUR)).await.unwrap();
            });
        }
    }

    #[tokio::test]
    async fn a_consumer_ends_with_the_runtime_it_was_made_in() {
        let bus = Memory::default();
        let other = bus.clone();
        let deliveries = std::thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                other.declare(&work("q", 10)).await.unwrap();
                other.consume("q", 1).await.unwrap()
            })
        });
        let mut deliveries = deliveries.join().unwrap();
        assert!(deliveries.next().await.is_none());
        assert_eq!(bus.stats("q").await.unwrap().consumers, 0);
    }

    #[tokio::test]
    async fn dropping_the_last_handle_ends_the_streams() {
        let bus = Memory::default();
        bus.declare(&work("q", 10)).await.unwrap();
        let mut deliveries = bus.consume("q", 1).await.unwrap();
        drop(bus);
        assert!(deliveries.next().await.is_none());
    }
}
