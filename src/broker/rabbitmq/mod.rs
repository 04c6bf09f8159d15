//! RabbitMQ, from 3.10 on, over AMQP 0-9-1.
//!
//! Publishing and consuming have a connection each ([`ConnectionPool`]), which are dialled again
//! by themselves when they are lost; topology is kept as data and declared again. Every publish is
//! confirmed by the broker; acknowledgements are collected. Delays work without a plugin.
//!
//! # What heals by itself
//!
//! | what breaks | what is done | [`Stage`](super::Stage) meanwhile |
//! |---|---|---|
//! | the broker restarts, a connection is closed or cut | dialled again, at once and then with backoff; queues declared, consumers registered again | dialling |
//! | a connection is half-open, or falls silent | given up after two heartbeats, then as above; where an answer is awaited, or the connection is new, it is looked at and given up sooner | consuming, until it is noticed |
//! | dials are refused | tried without end: every 500 ms at most in the first 30 s and then every 2 s where the broker cannot be reached, every 60 s where it says no | dialling |
//! | the broker takes no messages (memory, disk) | publishes wait for their time-out, then are `Unconfirmed`; deliveries and acks go on | blocked |
//! | a channel is closed over an error | another one is opened; what was unconfirmed on it is `Unconfirmed`, what was unsettled comes again | connected |
//! | a queue is deleted, a consumer cancelled | the queue is declared and bound, the consumer registered again | connected |
//! | a delayed message comes due before its queue is there (while the broker starts, say) | kept aside, and brought back within 30 s of the queue being declared | consuming |
//! | the queue's name is taken, or nobody may declare it | tried again every 5 s, until it can be | connected |
//!
//! An answer that is a second late raises a doubt: a channel is opened on the connection, and where
//! nothing at all is heard for 3 s (for a heartbeat, once the connection is 10 s old), its socket is cut.
//! That patience doubles each time, up to the longest time-out, so that a broker that is merely slow is
//! not dialled for ever.
//!
//! A publish waits through all of that for its time-out, and is then `Unconfirmed`. A reply on its
//! way to a lost connection is lost: the request ends at its deadline, or is sent again where it was
//! declared [idempotent](crate::RequestOptions::idempotent).

mod acks;
mod arguments;
mod confirms;
mod consumer;
mod death;
mod delay;
mod dial;
mod errands;
mod fault;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod foreign;
mod greeting;
mod health;
mod inbox;
mod known_queues;
mod lane_consumer;
mod lane_queues;
mod lanes;
mod link;
mod mend;
mod options;
mod pool;
mod properties;
mod publisher;
mod queues;
mod reply_address;
mod reply_nodes;
mod returner;
mod route;
mod topology;
mod transport;
mod wire;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    confirms::Fate,
    consumer::ConsumerLoop,
    errands::Errands,
    fault::{Answers, Doubt, Fault},
    health::HealthBoard,
    inbox::ReplyInbox,
    lanes::Lanes,
    link::{Keeper, Link},
    pool::Role,
    publisher::Publisher,
    queues::to_the_end,
    reply_address::{InboxAddress, REPLY_TO, ReplyAddress},
    reply_nodes::ReplyNodes,
    returner::Returner,
    topology::Topology,
};
pub use self::{
    dial::ConnectError,
    options::{Declare, Host, RabbitOptions},
    pool::ConnectionPool,
};
use super::{
    Broker, Deliveries, Destination, Health, Inbox, Product, PublishError, QueueError, QueueSpec,
    QueueStats, ReplySink, TopologyError,
};
use crate::{contract::Name, message::Envelope};

/// A bus on RabbitMQ.
///
/// Dropping it closes the connections at once; [`close`](Broker::close) waits for what is being
/// published.
///
/// # Logs
///
/// lapin logs an error for each channel that the broker closes, also where that is the answer to a
/// question: AMQP has no other way to say that the queue of a [`stats`](Broker::stats) or
/// [`consume`](Broker::consume) does not exist (404). What matters is returned, or logged by
/// agentbus itself; `lapin=off` in the filter (`RUST_LOG=info,lapin=off`) leaves the rest out.
#[derive(Debug)]
pub struct RabbitMq {
    core: Arc<Core>,
    publisher: Arc<Publisher>,
    _guard: DropGuard,
}

/// What the parts share.
#[derive(Debug)]
struct Core {
    options: RabbitOptions,
    pool: Arc<ConnectionPool>,
    publish: Link,
    consume: Link,
    health: Arc<HealthBoard>,
    topology: Arc<Topology>,
    lanes: Lanes,
    errands: Errands,
    reply_nodes: ReplyNodes,
    consumers: AtomicU64,
    /// Nothing new is taken.
    closing: CancellationToken,
    /// The connections end.
    shutdown: CancellationToken,
}

impl RabbitMq {
    /// Connects, to the first of the hosts that answers, and declares the exchanges.
    ///
    /// Each host is tried once. Later on, lost connections are dialled again without end.
    ///
    /// # Errors
    ///
    /// Returns what keeps the bus from working, where that is known after one round.
    pub async fn connect(options: RabbitOptions) -> Result<Self, ConnectError> {
        let pool = Arc::new(ConnectionPool::new(&options)?);
        let health = Arc::new(HealthBoard::new());
        let answers = || Answers::new(options.operation_timeout, Doubt::default());
        let (publishes, consumes) = (answers(), answers());
        let topology = Arc::new(Topology::new(&options, consumes.clone()));
        let shutdown = CancellationToken::new();
        let guard = shutdown.clone().drop_guard();
        let patience = options.connect_timeout;
        let (publish, _) = pool.get(Role::Publish, patience).await?;
        let (consume, host) = pool.get(Role::Consume, patience).await?;
        tracing::debug!(%host, vhost = options.vhost, "connected to RabbitMQ");
        let keeper = |role, topology, answers| Keeper {
            role,
            answers,
            options: options.clone(),
            pool: pool.clone(),
            health: health.clone(),
            topology,
            shutdown: shutdown.clone(),
        };
        let publish = keeper(Role::Publish, None, publishes).keep(publish);
        let consume = keeper(Role::Consume, Some(topology.clone()), consumes).keep(consume);
        let session = consume.session_within(options.operation_timeout).await;
        let session = session.map_err(|fault| ConnectError::Refused {
            host: options.addresses(),
            reason: fault.to_string(),
        })?;
        topology.declare_exchanges(&session).await?;
        let publisher = Publisher::start(publish.clone(), &options, None, shutdown.clone());
        let publisher = Arc::new(publisher);
        let core = Core {
            lanes: Lanes::new(consume.answers().clone()),
            errands: Errands::new(consume.answers().clone()),
            options,
            pool,
            publish,
            consume,
            health,
            topology,
            reply_nodes: ReplyNodes::default(),
            consumers: AtomicU64::new(0),
            closing: shutdown.child_token(),
            shutdown,
        };
        let core = Arc::new(core);
        Returner::start(&core, &publisher);
        Ok(Self { core, publisher, _guard: guard })
    }

    /// Returns the pool that the connections come from.
    #[must_use]
    pub fn pool(&self) -> &ConnectionPool {
        &self.core.pool
    }
}

impl Core {
    fn is_closed(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Publishes through a publisher: the bus's or an inbox's.
    async fn publish(
        &self,
        publisher: &Publisher,
        to: Destination<'_>,
        mut envelope: Envelope,
    ) -> Result<(), PublishError> {
        if self.is_closed() {
            return Err(PublishError::Closed { to: to.to_string(), envelope: envelope.into() });
        }
        let (bytes, limit) = (envelope.payload.len(), self.options.max_message_bytes);
        // What was taken once must find its way to the dead letters, however large it is.
        if bytes > limit && !matches!(to, Destination::Queue(_)) {
            let to = to.to_string();
            return Err(PublishError::TooLarge { to, bytes, limit, envelope: envelope.into() });
        }
        let outgoing = match route::outgoing(self, to, &mut envelope) {
            Ok(outgoing) => outgoing,
            Err(reason) => {
                let to = to.to_string();
                return Err(PublishError::Invalid { to, reason, envelope: envelope.into() });
            }
        };
        if let Destination::Reply(address) = to
            && let Ok(ReplyAddress::Inbox(inbox)) = ReplyAddress::parse(address)
        {
            match self.vouch(&inbox).await {
                Ok(true) => {}
                Ok(false) => return Err(PublishError::unroutable(to, envelope)),
                Err(fault) => return Err(unconfirmed(to, fault, envelope)),
            }
        }
        if self.topology.delays.owns(outgoing.exchange.as_str())
            && let Err(fault) = self.ensure_delays().await
        {
            return Err(unconfirmed(to, fault, envelope));
        }
        match publisher.publish(outgoing).await {
            Ok(Fate::Taken) => Ok(()),
            Ok(Fate::Returned) => Err(PublishError::unroutable(to, envelope)),
            Ok(Fate::Refused) => Err(PublishError::Refused {
                to: to.to_string(),
                reason: "a queue is full, or the broker could not store the message".to_owned(),
                envelope: envelope.into(),
            }),
            Err(fault) => Err(unconfirmed(to, fault, envelope)),
        }
    }

    async fn vouch(&self, inbox: &InboxAddress) -> Result<bool, Fault> {
        let limit = self.options.publish_timeout;
        let connection = self.publish.session_within(limit).await?.number;
        match timeout(limit, self.reply_nodes.vouch(inbox, connection, &self.pool)).await {
            Ok(vouched) => vouched,
            Err(_) => Err(Fault::Timeout(limit)),
        }
    }

    async fn ensure_delays(&self) -> Result<(), Fault> {
        let limit = self.options.publish_timeout;
        let session = self.consume.session_within(limit).await?;
        match timeout(limit, self.topology.delays.ensure_levels(&session)).await {
            Ok(ensured) => ensured,
            Err(_) => Err(Fault::Timeout(limit)),
        }
    }
}

/// Makes the error for a publish whose fate is not known.
///
/// One that was never written is among them: telling it apart would promise more than the wire
/// can show, and sending it again is right in both cases.
fn unconfirmed(to: Destination<'_>, fault: Fault, envelope: Envelope) -> PublishError {
    let (to, envelope) = (to.to_string(), Box::new(envelope));
    match fault {
        Fault::Closed => PublishError::Closed { to, envelope },
        fault => {
            let reason = fault.to_string();
            PublishError::Unconfirmed { to, reason, source: fault.source(), envelope }
        }
    }
}

#[async_trait]
impl Broker for RabbitMq {
    fn kind(&self) -> &'static str {
        "rabbitmq"
    }

    fn product(&self) -> Option<Product> {
        self.core.pool.product()
    }

    async fn publish(&self, to: Destination<'_>, envelope: Envelope) -> Result<(), PublishError> {
        if envelope.metadata.reply_to.as_deref() == Some(REPLY_TO) {
            // On a channel without a reply consumer, the broker closes the channel over it.
            let reason = format!("`reply_to` is `{REPLY_TO}`, which only an inbox can use");
            let to = to.to_string();
            return Err(PublishError::Invalid { to, reason, envelope: envelope.into() });
        }
        self.core.publish(&self.publisher, to, envelope).await
    }

    async fn inbox(&self, sink: ReplySink) -> Result<Arc<dyn Inbox>, QueueError> {
        if self.core.is_closed() {
            return Err(QueueError::Closed);
        }
        let link = &self.core.publish;
        let session = link.session_within(self.core.options.operation_timeout).await;
        session.map_err(|fault| self.core.queue_error(REPLY_TO, fault))?;
        Ok(Arc::new(ReplyInbox::open(self.core.clone(), sink)))
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<(), TopologyError> {
        if self.core.is_closed() {
            return Err(TopologyError::Closed { queue: queue.name.clone() });
        }
        queue.check_name()?;
        let (core, queue) = (self.core.clone(), queue.clone());
        to_the_end(async move {
            let session = core.consume.session_within(core.options.operation_timeout).await;
            let session = session.map_err(|fault| topology::unavailable(&queue.name, fault))?;
            core.topology.declare(&session, &queue).await
        })
        .await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Deliveries, QueueError> {
        if self.core.is_closed() {
            return Err(QueueError::Closed);
        }
        if self.core.topology.queues.has_lanes(queue) {
            return lane_consumer::start(&self.core, queue, prefetch).await;
        }
        let id = self.core.consumers.fetch_add(1, Ordering::Relaxed);
        ConsumerLoop::start(&self.core, id, queue, prefetch).await
    }

    async fn stats(&self, queue: &str) -> Result<QueueStats, QueueError> {
        let (core, queue) = (self.core.clone(), Name::from(queue));
        to_the_end(async move { core.stats(&queue).await }).await
    }

    async fn purge(&self, queue: &str) -> Result<u64, QueueError> {
        let (core, queue) = (self.core.clone(), Name::from(queue));
        to_the_end(async move { core.purge(&queue).await }).await
    }

    async fn delete(&self, queue: &str) -> Result<(), QueueError> {
        let (core, queue) = (self.core.clone(), Name::from(queue));
        to_the_end(async move { core.delete(&queue).await }).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.core.health.watch()
    }

    async fn close(&self) {
        self.core.closing.cancel();
        self.publisher.close().await;
        self.core.lanes.flush().await;
        self.core.shutdown.cancel();
        let ended = async { tokio::join!(self.core.publish.ended(), self.core.consume.ended()) };
        drop(timeout(self.core.options.connect_timeout, ended).await);
        self.core.pool.close();
        self.core.health.closed();
    }
}
