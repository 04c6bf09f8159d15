//! Redis, from 6.2 on.
//!
//! A process has two connections: one to ask, by scripts only, and one to be woken. Messages are handed
//! out under leases, which are renewed while they are handled. `docs/redis.md` has what is promised and
//! what lies where; the scripts in `lua/` are short, and the last word.
//!
//! # What heals by itself
//!
//! | what breaks | what is done | [`Stage`](super::Stage) meanwhile |
//! |---|---|---|
//! | a connection is closed, cut or half-open; the server restarts | dialled again, at once and then with backoff; what was to be settled is settled then, and claims whose answer was lost are told again | dialling |
//! | a process dies | its messages come again when their leases end | – |
//! | the server has no memory left, or may not write | publishes wait for their time-out, then are `Refused`; where memory is short, consumers go on | blocked |
//! | the server has lost its data, a queue is deleted | whoever declared a queue declares it again | connected |
//! | a wake-up is lost | every queue is looked at every 5 s | consuming |
//! | a key holds what somebody else put there | tried again every 5 s, until it does not | connected |

mod aside;
mod bindings;
mod bus;
mod call;
mod condition;
mod dial;
mod fault;
mod find;
mod health;
mod inbox;
mod link;
mod options;
mod publisher;
mod queues;
mod reader;
mod record;
mod rhythm;
mod scripts;
mod sender;
mod session;
#[cfg(test)]
mod support;
mod ticker;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod turn;
mod wake_up;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{bus::Bus, health::HealthBoard, inbox::RedisInbox, link::Link, reader::Reader};
pub use self::{
    condition::Condition,
    dial::ConnectError,
    options::{Deployment, Host, RedisOptions},
    publisher::MAX_DELAYED,
};
use super::{
    Broker, DeadLetterLimits, Deliveries, Destination, Health, Inbox, Overflow, Product,
    PublishError, QueueError, QueueRole, QueueSpec, QueueStats, ReplySink, TopologyError,
};
use crate::message::Envelope;

/// A bus on Redis.
///
/// Dropping it gives back what is unsettled and closes the connections, in the background;
/// [`close`](Broker::close) waits for that, and for what is being published.
#[derive(Debug)]
pub struct Redis {
    bus: Arc<Bus>,
    /// Everything has ended.
    ended: CancellationToken,
}

impl Redis {
    /// Connects, to the first of the hosts that answers.
    ///
    /// Each host is tried once. Later on, lost connections are dialled again without end.
    ///
    /// # Errors
    ///
    /// Returns what keeps the bus from working, where that is known after one round.
    pub async fn connect(options: RedisOptions) -> Result<Self, ConnectError> {
        let health = Arc::new(HealthBoard::new());
        let link = Link::open(options.clone(), health.clone()).await?;
        let bus = Arc::new(Bus::new(options, link, health));
        let limits = DeadLetterLimits { overflow: Overflow::DropOldest, ..Default::default() };
        let aside = QueueSpec::new(bus.undeliverable(), QueueRole::DeadLetters(limits));
        if !bus.options.passive {
            bus.declare(&aside).await.map_err(|error| ConnectError::Refused {
                host: bus.options.addresses(),
                reason: error.to_string(),
            })?;
        }
        let ended = CancellationToken::new();
        tokio::spawn(ticker::run(bus.clone()));
        tokio::spawn(declare_again(bus.clone()));
        tokio::spawn(end(bus.clone(), ended.clone()));
        Ok(Self { bus, ended })
    }
}

/// Declares everything again whenever there is a new connection: the server may have lost it.
async fn declare_again(bus: Arc<Bus>) {
    let mut number = bus.link.number();
    while let Ok(renewed) = bus.link.renewed(number).await {
        number = Some(renewed);
        let declared: Vec<QueueSpec> = bus.declared().values().cloned().collect();
        for spec in declared {
            if let Err(error) = bus.declare_again(&spec).await {
                tracing::warn!(queue = %spec.name, %error, "a queue cannot be declared again");
            }
        }
    }
}

/// Waits until the bus is closed, and ends everything in order.
async fn end(bus: Arc<Bus>, ended: CancellationToken) {
    bus.closing.cancelled().await;
    let patience = bus.options.connect_timeout;
    let flushed = async {
        let all = u32::try_from(bus.options.confirm_window).unwrap_or(u32::MAX);
        drop(bus.window.acquire_many(all).await);
        while !bus.readers().is_empty() {
            sleep(Duration::from_millis(2)).await;
        }
        let inboxes: Vec<_> = bus.inboxes().drain().map(|(address, _)| address).collect();
        for address in inboxes {
            bus.forget(&address).await;
        }
    };
    drop(timeout(patience, flushed).await);
    bus.window.close();
    bus.link.close().await;
    bus.health.closed();
    ended.cancel();
}

#[async_trait]
impl Broker for Redis {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn product(&self) -> Option<Product> {
        self.bus.link.product()
    }

    async fn publish(&self, to: Destination<'_>, envelope: Envelope) -> Result<(), PublishError> {
        self.bus.publish(to, envelope).await
    }

    async fn inbox(&self, sink: ReplySink) -> Result<Arc<dyn Inbox>, QueueError> {
        if self.bus.is_closed() {
            return Err(QueueError::Closed);
        }
        Ok(Arc::new(RedisInbox::open(&self.bus, sink).await?))
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<(), TopologyError> {
        self.bus.declare(queue).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Deliveries, QueueError> {
        Reader::consume(&self.bus, queue, prefetch).await
    }

    async fn stats(&self, queue: &str) -> Result<QueueStats, QueueError> {
        self.bus.stats(queue).await
    }

    async fn purge(&self, queue: &str) -> Result<u64, QueueError> {
        self.bus.purge(queue).await
    }

    async fn delete(&self, queue: &str) -> Result<(), QueueError> {
        self.bus.delete(queue).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.bus.health.watch()
    }

    async fn close(&self) {
        self.bus.closing.cancel();
        // The runtime that would end it may be gone.
        let longest = 4 * self.bus.options.connect_timeout;
        drop(timeout(longest, self.ended.cancelled()).await);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.bus.closing.cancel();
    }
}
