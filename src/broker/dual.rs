//! Two buses at once, for a migration without a stop.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join;
use tokio::{select, sync::watch};

use super::{
    Broker, Deliveries, Destination, Health, Inbox, Product, PublishError, QueueError, QueueSpec,
    QueueStats, ReplySink, Stage, TopologyError,
};
use crate::message::Envelope;

/// A bus whose events also go to a second one.
///
/// What is published to a topic goes to both, under the same message id: so agents of the second
/// bus have all that those of the first have, and either can take over. Requests, replies, retries and
/// dead letters stay on the first, and so does everything that is consumed.
///
/// A publish is `Ok` where each bus on which anybody listens has taken it, and `Unroutable` where
/// nobody listens on either. Where one has taken it and the other has not, it is `Unconfirmed`, and
/// says which: published again under the same message id, it is a duplicate on the one that has it.
///
/// Agents that run on both handle each event twice, unless they share a store for
/// [`Deduplicate`](crate::agent::middleware::Deduplicate). Health is that of the bus that does worse.
#[derive(Debug)]
pub struct DualPublish {
    first: Arc<dyn Broker>,
    second: Arc<dyn Broker>,
    health: watch::Receiver<Health>,
}

impl DualPublish {
    /// Joins two buses; for a configuration, [`connect`](super::connect) does.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    #[must_use]
    pub fn new(first: Arc<dyn Broker>, second: Arc<dyn Broker>) -> Self {
        let health = worse(first.health(), second.health());
        Self { first, second, health }
    }
}

#[async_trait]
impl Broker for DualPublish {
    fn kind(&self) -> &'static str {
        self.first.kind()
    }

    fn product(&self) -> Option<Product> {
        self.first.product()
    }

    async fn publish(&self, to: Destination<'_>, envelope: Envelope) -> Result<(), PublishError> {
        let Destination::Topic(_) = to else { return self.first.publish(to, envelope).await };
        let copy = envelope.clone();
        let (first, second) =
            join(self.first.publish(to, envelope), self.second.publish(to, copy)).await;
        both(to, first, second)
    }

    async fn inbox(&self, sink: ReplySink) -> Result<Arc<dyn Inbox>, QueueError> {
        self.first.inbox(sink).await
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<(), TopologyError> {
        self.first.declare(queue).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Deliveries, QueueError> {
        self.first.consume(queue, prefetch).await
    }

    async fn stats(&self, queue: &str) -> Result<QueueStats, QueueError> {
        self.first.stats(queue).await
    }

    async fn purge(&self, queue: &str) -> Result<u64, QueueError> {
        self.first.purge(queue).await
    }

    async fn delete(&self, queue: &str) -> Result<(), QueueError> {
        self.first.delete(queue).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    async fn close(&self) {
        join(self.first.close(), self.second.close()).await;
    }
}

/// Makes one outcome of two.
fn both(
    to: Destination<'_>,
    first: Result<(), PublishError>,
    second: Result<(), PublishError>,
) -> Result<(), PublishError> {
    use PublishError::Unroutable;
    let (error, place, other) = match (first, second) {
        (Ok(()) | Err(Unroutable { .. }), Ok(())) | (Ok(()), Err(Unroutable { .. })) => {
            return Ok(());
        }
        // Nowhere else, either: the error of the one that somebody listens on.
        (Err(error), Err(Unroutable { .. })) | (Err(Unroutable { .. }), Err(error)) => {
            return Err(error);
        }
        (Err(error), Ok(())) => (error, "first", "taken by the second"),
        (Ok(()), Err(error)) => (error, "second", "taken by the first"),
        // Surely not taken by either.
        (Err(error), Err(other)) if !is_open(&error) && !is_open(&other) => return Err(error),
        (Err(error), Err(_)) => (error, "first", "not surely taken by the second"),
    };
    let reason = format!("{other} bus; on the {place}: {error}");
    Err(PublishError::Unconfirmed {
        to: to.to_string(),
        reason,
        source: None,
        envelope: error.into_envelope().into(),
    })
}

/// Whether it is not known if the envelope was taken.
fn is_open(error: &PublishError) -> bool {
    matches!(error, PublishError::Unconfirmed { .. })
}

/// Watches the health of two, until both are closed.
fn worse(
    mut first: watch::Receiver<Health>,
    mut second: watch::Receiver<Health>,
) -> watch::Receiver<Health> {
    let look = |first: &mut watch::Receiver<Health>, second: &mut watch::Receiver<Health>| {
        let (one, other) = (first.borrow_and_update().clone(), second.borrow_and_update().clone());
        // The second one consumes nothing, so connected is all it can be.
        if one.stage <= other.stage || other.stage >= Stage::Connected {
            return one;
        }
        Health { detail: format!("on the second bus: {}", other.detail), ..other }
    };
    let (health, watched) = watch::channel(look(&mut first, &mut second));
    tokio::spawn(async move {
        loop {
            select! {
                changed = first.changed() => if changed.is_err() { return },
                changed = second.changed() => if changed.is_err() { return },
                () = health.closed() => return,
            }
            let now = look(&mut first, &mut second);
            health.send_if_modified(|health| {
                let is_new = *health != now;
                health.clone_from(&now);
                is_new
            });
        }
    });
    watched
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        broker::{
            QueueRole,
            memory::{Memory, MemoryOptions},
        },
        contract::{Name, Pattern},
        message::Id,
    };

    struct Buses {
        both: DualPublish,
        first: Arc<dyn Broker>,
        second: Arc<dyn Broker>,
    }

    impl Buses {
        fn new() -> Self {
            let options = MemoryOptions {
                publish_timeout: Duration::from_millis(20),
                ..MemoryOptions::default()
            };
            let bus =
                || -> Arc<dyn Broker> { Arc::new(Memory::default().connect(options.clone())) };
            let (first, second) = (bus(), bus());
            Self { both: DualPublish::new(first.clone(), second.clone()), first, second }
        }

        async fn publish(&self) -> Result<(), PublishError> {
            let mut envelope = Envelope::encode(&());
            envelope.metadata.message_id = Some(Id::new());
            self.both.publish(Destination::Topic(&Name::from_static("a.b")), envelope).await
        }
    }

    async fn queue(bus: &Arc<dyn Broker>, max_length: u64) {
        let role = QueueRole::Work { dead_letters: "q.dlq".into(), max_length };
        let spec = QueueSpec::new("q", role).bind(Pattern::parse("a.*").unwrap());
        bus.declare(&spec).await.unwrap();
    }

    async fn ids(bus: &Arc<dyn Broker>) -> Vec<Option<Id>> {
        let mut ids = Vec::new();
        let mut deliveries = bus.consume("q", 9).await.unwrap();
        for _ in 0..bus.stats("q").await.unwrap().unsettled.unwrap_or_default() {
            let delivery = deliveries.next().await.unwrap();
            ids.push(delivery.envelope().metadata.message_id.clone());
            delivery.ack();
        }
        ids
    }

    #[tokio::test]
    async fn each_bus_has_the_same_message() {
        let buses = Buses::new();
        queue(&buses.first, 9).await;
        queue(&buses.second, 9).await;
        for _ in 0..3 {
            buses.publish().await.unwrap();
        }
        let to = Destination::Queue("q");
        buses.both.publish(to, Envelope::encode(&())).await.unwrap();
        let (first, second) = (ids(&buses.first).await, ids(&buses.second).await);
        assert_eq!((first.len(), second.len()), (4, 3), "what is addressed to a queue stays");
        assert_eq!(first[..3], second);
    }

    #[tokio::test]
    async fn nobody_has_to_listen_on_both() {
        let buses = Buses::new();
        assert!(matches!(buses.publish().await, Err(PublishError::Unroutable { .. })));
        queue(&buses.second, 9).await;
        buses.publish().await.unwrap();
        let buses = Buses::new();
        queue(&buses.first, 9).await;
        buses.publish().await.unwrap();
    }

    #[tokio::test]
    async fn what_one_has_not_taken_is_not_confirmed() {
        for full in 1..=2 {
            let buses = Buses::new();
            queue(&buses.first, if full == 1 { 1 } else { 9 }).await;
            queue(&buses.second, if full == 2 { 1 } else { 9 }).await;
            buses.publish().await.unwrap();
            let error = buses.publish().await.unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, PublishError::Unconfirmed { .. }), "{text}");
            let (taken, not) = if full == 1 { ("second", "first") } else { ("first", "second") };
            assert!(text.contains(&format!("taken by the {taken} bus; on the {not}")), "{text}");
            assert!(error.into_envelope().metadata.message_id.is_some());
        }
    }

    #[tokio::test]
    async fn health_is_that_of_the_worse() {
        let buses = Buses::new();
        let mut health = buses.both.health();
        assert!(health.borrow().stage >= Stage::Connected);
        buses.second.close().await;
        let closed = health.wait_for(|health| health.stage == Stage::Closed).await.unwrap();
        assert!(closed.detail.contains("second"), "{closed:?}");
    }
}
