//! Consumers: loops that consume, and begin anew whatever went wrong.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::StreamExt;
use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Core,
    death::Deaths,
    fault::Fault,
    lane_queues,
    lanes::{Lane, Place},
    properties,
    topology::Topology,
};
use crate::{
    broker::{Deliveries, Delivery, QueueError, TopologyError},
    contract::Name,
    message::Envelope,
};

/// Longest wait before a consumer is registered again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A consumer of one queue.
pub(super) struct ConsumerLoop {
    core: Weak<Core>,
    topology: Arc<Topology>,
    id: u64,
    queue: Name,
    prefetch: u16,
    deliveries: mpsc::Sender<Delivery>,
    cancel: CancellationToken,
}

/// A consumer that is registered.
struct Registered {
    place: Place,
    consumer: lapin::Consumer,
}

/// Why a registered consumer ended.
enum End {
    /// Nobody wants it any more.
    Cancelled,
    /// It was lost: the channel, the connection, the queue.
    Lost(String),
}

impl ConsumerLoop {
    /// Starts a consumer; returns once it is registered.
    pub(super) async fn start(
        core: &Arc<Core>,
        id: u64,
        queue: &str,
        prefetch: u16,
    ) -> Result<Deliveries, QueueError> {
        let prefetch = prefetch.max(1);
        let (deliveries, receiver) = mpsc::channel(prefetch.into());
        let cancel = core.closing.child_token();
        let (ready, registered) = oneshot::channel();
        let this = Self {
            core: Arc::downgrade(core),
            topology: core.topology.clone(),
            id,
            queue: queue.into(),
            prefetch,
            deliveries,
            cancel: cancel.clone(),
        };
        // From here on, a dropped future cancels the consumer.
        let deliveries = Deliveries::new(receiver, cancel);
        tokio::spawn(this.run(ready));
        match registered.await {
            Ok(Ok(())) => Ok(deliveries),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(QueueError::Closed),
        }
    }

    async fn run(mut self, ready: oneshot::Sender<Result<(), QueueError>>) {
        // Not interrupted: a consumer that is registered and not read would sit on its messages.
        let mut registered = match self.register_first().await {
            Ok(registered) => registered,
            Err(error) => {
                drop(ready.send(Err(error)));
                return;
            }
        };
        self.topology.queues.enter(&self.queue);
        if ready.send(Ok(())).is_err() {
            self.cancel.cancel();
        }
        loop {
            let reason = match self.pump(&mut registered).await {
                End::Cancelled => break,
                End::Lost(reason) => reason,
            };
            drop(registered);
            tracing::warn!(queue = %self.queue, reason, "a consumer was lost; registering it again");
            self.report(Some(reason));
            let Some(again) = self.register_again().await else { break };
            registered = again;
            self.report(None);
            tracing::info!(queue = %self.queue, "a consumer consumes again");
        }
        self.topology.queues.leave(&self.queue);
        self.report(None);
    }

    fn report(&self, trouble: Option<String>) {
        if let Some(core) = self.core.upgrade() {
            let trouble =
                trouble.map(|reason| format!("nothing consumes from `{}`: {reason}", self.queue));
            core.health.consumer(self.id, trouble);
        }
    }

    /// Registers the consumer for the first time: what is wrong now is the caller's to know.
    async fn register_first(&self) -> Result<Registered, QueueError> {
        let core = self.core.upgrade().ok_or(QueueError::Closed)?;
        let limit = core.options.operation_timeout;
        // On a channel of its own, since a missing queue closes the channel.
        core.check(&self.queue).await?;
        let session = core.consume.session_within(limit).await;
        let session = session.map_err(|fault| core.queue_error(&self.queue, fault))?;
        self.register(&core, &session).await.map_err(|fault| core.queue_error(&self.queue, fault))
    }

    async fn register(
        &self,
        core: &Core,
        session: &super::link::Session,
    ) -> Result<Registered, Fault> {
        let place = core.lanes.place(session).await?;
        let consumer = place.0.consume(&self.queue, self.prefetch).await?;
        Ok(Registered { place, consumer })
    }

    /// Registers the consumer again, as often as it takes; `None` once it is cancelled.
    async fn register_again(&self) -> Option<Registered> {
        let mut wait = Duration::from_millis(50);
        loop {
            let core = self.core.upgrade()?;
            let link = core.consume.clone();
            // A bus that is dropped meanwhile must not be kept.
            drop(core);
            let session = self.cancel.run_until_cancelled(link.session()).await?.ok()?;
            let core = self.core.upgrade()?;
            // A queue that is not ours to make has gone: so has the consumer's purpose.
            if !self.topology.queues.knows(&self.queue)
                && matches!(core.check(&self.queue).await, Err(QueueError::NotFound { .. }))
            {
                return None;
            }
            match self.restore(&core, &session).await {
                Ok(registered) => return Some(registered),
                Err(reason) => {
                    tracing::warn!(queue = %self.queue, reason, "cannot consume");
                    self.report(Some(reason));
                    core.consume.answers().doubt.raise();
                }
            }
            drop((core, session));
            let jittered = wait.mul_f64(0.5 + fastrand::f64() / 2.0);
            self.cancel.run_until_cancelled(sleep(jittered)).await?;
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }

    /// Declares the queue again, since it may be what is missing, and consumes.
    async fn restore(
        &self,
        core: &Core,
        session: &super::link::Session,
    ) -> Result<Registered, String> {
        let restored = core.topology.restore_queue(session, &self.queue).await;
        match restored {
            // One that may only not be declared may well be there.
            Ok(()) | Err(TopologyError::Denied { .. }) => {}
            // Somebody else's by the same name has neither our bindings nor our bounds.
            Err(error) => return Err(error.to_string()),
        }
        self.register(core, session).await.map_err(|fault| fault.to_string())
    }

    /// Hands on what arrives until the consumer is cancelled or lost.
    async fn pump(&mut self, registered: &mut Registered) -> End {
        let Registered { place, consumer } = registered;
        loop {
            let next = select! {
                // A consumer under load must still notice that it is cancelled.
                biased;
                () = self.cancel.cancelled() => return self.stop(&place.0, consumer).await,
                next = consumer.next() => next,
            };
            match next {
                Some(Ok(delivery)) => {
                    let delivery = self.delivery(&place.0, delivery);
                    select! {
                        biased;
                        // There is room, save after a reconnection: then the old ones go first.
                        sent = self.deliveries.send(delivery) => {
                            if sent.is_err() {
                                return self.stop(&place.0, consumer).await;
                            }
                        }
                        () = self.cancel.cancelled() => return self.stop(&place.0, consumer).await,
                    }
                }
                Some(Err(error)) => return End::Lost(super::fault::text(&error)),
                None => return End::Lost("the broker cancelled the consumer".to_owned()),
            }
        }
    }

    /// Cancels the consumer and hands on what was sent before that.
    async fn stop(&self, lane: &Lane, consumer: &mut lapin::Consumer) -> End {
        if lane.cancel(consumer).await.is_err() {
            return End::Cancelled;
        }
        // Each of them must be read: a tag that is never settled would keep its message from
        // everybody for as long as the channel lives.
        while let Some(Ok(delivery)) = consumer.next().await {
            let delivery = self.delivery(lane, delivery);
            let limit = Duration::from_millis(100);
            // Whoever cancelled may read no more; then the delivery is released.
            drop(timeout(limit, self.deliveries.send(delivery)).await);
        }
        End::Cancelled
    }

    fn delivery(&self, lane: &Lane, received: lapin::message::Delivery) -> Delivery {
        let tag = received.delivery_tag;
        lane.acks.receive(tag);
        let published = (received.exchange.as_str(), received.routing_key.as_str());
        // One that the broker gave up on comes addressed to the dead letters' queue.
        let deaths = Deaths::of(&received.properties);
        let first = deaths.as_ref().and_then(Deaths::published);
        let topic = self.topic(published).or_else(|| first.and_then(|first| self.topic(first)));
        let mut envelope = properties::read(topic, &received.properties, received.data);
        if let Some(deaths) = deaths {
            deaths.note_failure(&mut envelope);
            self.name_agent(&mut envelope);
        }
        let delivery = Delivery::new(envelope, received.redelivered, lane.acks.clone(), tag);
        match properties::returns(&received.properties) {
            Some(returns) if received.redelivered => delivery.with_returns(returns),
            _ => delivery,
        }
    }

    /// Names the agent whose lane gave up on a dead letter, in place of the lane.
    fn name_agent(&self, envelope: &mut Envelope) {
        if let Some(failure) = &mut envelope.metadata.failure
            && let Some(agent) = lane_queues::owner(&failure.agent)
            && self.queue.strip_suffix(".dlq") == Some(agent)
        {
            failure.agent = agent.into();
        }
    }

    /// Finds the topic something was published under; none for what was addressed to the queue,
    /// or comes by way of the delay queues, whose keys are no topics.
    fn topic<'a>(&self, (exchange, routing_key): (&str, &'a str)) -> Option<&'a str> {
        let addressed = exchange.is_empty() || self.topology.delays.owns(exchange);
        (!addressed).then_some(routing_key)
    }
}
