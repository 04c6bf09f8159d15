//! The broker port: what agentbus needs of an engine that moves messages.
//!
//! An engine keeps queues bound to topic patterns and hands out what arrives, at least once. Each
//! backend is one implementation of [`Broker`]; they behave alike, which one conformance suite
//! holds them to. [`memory`] is the executable specification.

mod connect;
mod consumers;
mod delivery;
mod destination;
mod dual;
mod health;
mod limits;
#[cfg(any(feature = "rabbitmq", feature = "redis"))]
mod outage;
#[cfg(any(feature = "rabbitmq", feature = "redis"))]
mod patience;
mod product;
mod publish;
mod publishing;
mod queue;
mod stats;
mod topology;

pub mod memory;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "redis")]
pub mod redis;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::sync::watch;

pub(crate) use self::delivery::Held;
pub use self::{
    connect::{ConnectError, connect},
    delivery::{Deliveries, Delivery, Settle, Verdict},
    destination::Destination,
    dual::DualPublish,
    health::{Health, Stage},
    product::Product,
    publish::PublishError,
    publishing::Publishing,
    queue::QueueError,
    stats::QueueStats,
    topology::{DeadLetterLimits, Overflow, QueueRole, QueueSpec, TopologyError},
};
use crate::message::Envelope;
pub use crate::retry::MAX_DELAY;

/// An engine that moves envelopes from publishers to queues and from queues to consumers.
///
/// The trait is dyn-safe, so a deployment picks its engine from configuration. All methods may be
/// called from many tasks at once. Every wait inside is bounded by a time-out of the backend's
/// configuration.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Returns the backend's name, such as `memory` or `rabbitmq`.
    fn kind(&self) -> &'static str;

    /// Returns what the engine calls itself; `None` where it does not tell.
    fn product(&self) -> Option<Product> {
        None
    }

    /// Publishes an envelope and waits until the engine has taken responsibility for it.
    ///
    /// `Ok` means that it is in a queue. Where the metadata's `due_at` lies in the future, it is
    /// delivered then and not before; more than [`MAX_DELAY`] ahead it is refused as
    /// [`PublishError::Invalid`].
    ///
    /// # Cancel safety
    ///
    /// A dropped future may or may not have published; nothing else is left behind.
    ///
    /// # Errors
    ///
    /// The error says whether the envelope is certainly nowhere, and carries it back.
    async fn publish(&self, to: Destination<'_>, envelope: Envelope) -> Result<(), PublishError>;

    /// Begins to publish an envelope, as [`publish`](Self::publish) does.
    ///
    /// A backend that need not wait, most of the time, saves its callers a future on the heap. What
    /// has ended when this returns never gave other tasks their turn, which is left to the caller.
    fn begin_publish<'a>(&'a self, to: Destination<'a>, envelope: Envelope) -> Publishing<'a> {
        Publishing::waits(self.publish(to, envelope))
    }

    /// Opens an inbox: an address of this process that replies come back to.
    ///
    /// `sink` is called with each reply, on the engine's own task; it must not block.
    ///
    /// # Errors
    ///
    /// Returns an error where the engine cannot be reached.
    async fn inbox(&self, sink: ReplySink) -> Result<Arc<dyn Inbox>, QueueError>;

    /// Declares a queue and its bindings; one that is there already stays as it is.
    ///
    /// The engine remembers the declaration and repeats it after a reconnection. Declaring the
    /// same queue with more patterns adds them.
    ///
    /// # Errors
    ///
    /// Returns what keeps the queue from being declared, above all one that exists with other
    /// arguments.
    async fn declare(&self, queue: &QueueSpec) -> Result<(), TopologyError>;

    /// Consumes from a declared queue; at most `prefetch` deliveries are unsettled at a time.
    ///
    /// Consumers of one queue compete. When this returns, the consumer is registered. After a
    /// lost connection it is registered again by itself; the stream goes on.
    ///
    /// # Errors
    ///
    /// Returns an error where the queue does not exist or the engine cannot be reached.
    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Deliveries, QueueError>;

    /// Counts what is in a queue.
    ///
    /// # Errors
    ///
    /// Returns an error where the queue does not exist or the engine cannot be reached.
    async fn stats(&self, queue: &str) -> Result<QueueStats, QueueError>;

    /// Removes all messages that are ready, and returns how many. Unsettled ones stay.
    ///
    /// # Errors
    ///
    /// Returns an error where the queue does not exist or the engine cannot be reached.
    async fn purge(&self, queue: &str) -> Result<u64, QueueError>;

    /// Deletes a queue with all its messages; one that does not exist is fine.
    ///
    /// # Errors
    ///
    /// Returns an error where the engine cannot be reached.
    async fn delete(&self, queue: &str) -> Result<(), QueueError>;

    /// Watches the engine's health.
    fn health(&self) -> watch::Receiver<Health>;

    /// Flushes what is being published and closes. What comes after it is an error; a second call
    /// does nothing.
    async fn close(&self);
}

/// Takes the replies that arrive at an inbox.
pub type ReplySink = Arc<dyn Fn(Envelope) + Send + Sync>;

/// An address of this process that replies come back to; dropping it closes it.
#[async_trait]
pub trait Inbox: fmt::Debug + Send + Sync + 'static {
    /// Publishes a request whose replies come back to this inbox: the engine fills in `reply_to`.
    ///
    /// # Errors
    ///
    /// As [`Broker::publish`].
    async fn publish(&self, to: Destination<'_>, envelope: Envelope) -> Result<(), PublishError>;

    /// Begins to publish such a request; see [`Broker::begin_publish`].
    fn begin_publish<'a>(&'a self, to: Destination<'a>, envelope: Envelope) -> Publishing<'a> {
        Publishing::waits(self.publish(to, envelope))
    }

    /// Counts how often the address was lost, as with a connection, and with it the replies that
    /// were on their way. What is published from then on has another one.
    ///
    /// An engine that loses none need not do anything.
    fn losses(&self) -> watch::Receiver<u64> {
        watch::Sender::new(0).subscribe()
    }
}

#[cfg(test)]
fn _dyn_safe(_: &dyn Broker, _: &dyn Inbox) {}
