//! One connection to a bus: what is closed by itself.

use std::sync::Arc;

use tokio::{
    sync::watch,
    task::coop::consume_budget,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    MemoryOptions,
    engine::{Engine, MAX_DELAYED},
    queue::{Pushed, Queue, Ticket},
};
use crate::{
    broker::{
        Deliveries, Destination, Health, MAX_DELAY, PublishError, Publishing, QueueError, Stage,
    },
    message::{Envelope, Timestamp},
};

/// A connection; dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    engine: Arc<Engine>,
    id: u64,
    options: MemoryOptions,
    closed: CancellationToken,
    health: watch::Sender<Health>,
}

/// What became of a publish, as far as it did not end at once.
struct Waiting {
    envelope: Arc<Envelope>,
    tickets: Vec<Ticket>,
    taken: bool,
}

impl Connection {
    pub(super) fn new(engine: Arc<Engine>, options: MemoryOptions) -> Self {
        Self {
            id: engine.connect(),
            engine,
            options,
            closed: CancellationToken::new(),
            health: watch::Sender::new(Health::at(Stage::Consuming)),
        }
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    pub(super) fn close(&self) {
        if self.is_closed() {
            return;
        }
        self.closed.cancel();
        self.engine.disconnect(self.id);
        let closed = Health::at(Stage::Closed);
        closed.log("memory");
        self.health.send_replace(closed);
    }

    pub(super) async fn publish(
        &self,
        to: Destination<'_>,
        envelope: Envelope,
    ) -> Result<(), PublishError> {
        // Nothing below waits while there is room, and a publisher must not starve the rest.
        consume_budget().await;
        match self.begin(to, envelope)? {
            Some(waiting) => self.wait(to, waiting).await,
            None => Ok(()),
        }
    }

    /// As [`publish`](Self::publish), without giving others their turn.
    pub(super) fn begin_publish<'a>(
        &'a self,
        to: Destination<'a>,
        envelope: Envelope,
    ) -> Publishing<'a> {
        match self.begin(to, envelope) {
            Ok(None) => Publishing::ended(Ok(())),
            Ok(Some(waiting)) => Publishing::waits(self.wait(to, waiting)),
            Err(error) => Publishing::ended(Err(error)),
        }
    }

    /// Puts a message where there is room, and in line where there is none.
    fn begin(
        &self,
        to: Destination<'_>,
        mut envelope: Envelope,
    ) -> Result<Option<Waiting>, PublishError> {
        if self.is_closed() {
            return Err(closed(to, envelope));
        }
        let (bytes, limit) = (envelope.payload.len(), self.options.max_message_bytes);
        // A dead letter is kept however large a foreign sender made it.
        if bytes > limit && !matches!(to, Destination::Queue(_)) {
            let (to, envelope) = (to.to_string(), envelope.into());
            return Err(PublishError::TooLarge { to, bytes, limit, envelope });
        }
        let remaining = envelope.metadata.due_at.map(Timestamp::remaining);
        if remaining.is_some_and(|remaining| remaining > MAX_DELAY) {
            let reason = "a message cannot be delayed for more than two years".to_owned();
            let (to, envelope) = (to.to_string(), envelope.into());
            return Err(PublishError::Invalid { to, reason, envelope });
        }
        if let Destination::Topic(topic) = to {
            envelope.topic = Some(topic.clone());
        }
        if let Some(due) = envelope.metadata.due_at.filter(|due| !due.has_passed()) {
            return match self.engine.hold(due, to, envelope.into()) {
                Ok(()) => Ok(None),
                Err(envelope) => {
                    let reason = format!("{MAX_DELAYED} messages are held until they are due");
                    Err(refused(to, reason, *envelope))
                }
            };
        }
        if let Destination::Reply(address) = to
            && let Some(sink) = self.engine.sink(address)
        {
            sink(envelope);
            return Ok(None);
        }
        let reached = self.engine.reached(to);
        if reached.queues().is_empty() {
            return Err(PublishError::unroutable(to, envelope));
        }
        let envelope = Arc::new(envelope);
        let (mut taken, mut tickets) = (false, Vec::new());
        for queue in reached.queues() {
            match queue.push(&envelope) {
                Pushed::Taken => taken = true,
                Pushed::Waits(ticket) => tickets.push(ticket),
                Pushed::Gone => {}
            }
        }
        match (tickets.is_empty(), taken) {
            (true, true) => Ok(None),
            (true, false) => Err(PublishError::unroutable(to, owned(envelope))),
            (false, _) => Ok(Some(Waiting { envelope, tickets, taken })),
        }
    }

    async fn wait(&self, to: Destination<'_>, waiting: Waiting) -> Result<(), PublishError> {
        let Waiting { envelope, tickets, mut taken } = waiting;
        let up = sleep_until(Instant::now() + self.options.publish_timeout);
        tokio::pin!(up);
        let (mut full, mut cut_off) = (None, false);
        for mut ticket in tickets {
            let admitted = tokio::select! {
                biased;
                admitted = ticket.admitted() => admitted,
                () = self.closed.cancelled() => {
                    let admitted = ticket.withdraw();
                    cut_off |= !admitted;
                    admitted
                }
                () = &mut up => {
                    let admitted = ticket.withdraw();
                    if !admitted && full.is_none() {
                        full = Some(ticket.queue().full());
                    }
                    admitted
                }
            };
            taken |= admitted;
        }
        let waited = self.options.publish_timeout;
        match full {
            _ if cut_off && taken => Err(PublishError::Unconfirmed {
                to: to.to_string(),
                reason: "the bus was closed when only some queues had taken it".to_owned(),
                source: None,
                envelope: owned(envelope).into(),
            }),
            _ if cut_off => Err(closed(to, owned(envelope))),
            Some(full) => Err(refused(
                to,
                format!("{full}, and had no room within {waited:?}"),
                owned(envelope),
            )),
            None if taken => Ok(()),
            None => Err(PublishError::unroutable(to, owned(envelope))),
        }
    }

    pub(super) fn consume(&self, queue: &str, prefetch: u16) -> Result<Deliveries, QueueError> {
        let found = self.queue(queue)?;
        let deliveries = found.consume(self.id, prefetch).ok_or_else(|| not_found(queue))?;
        if self.is_closed() {
            // Closed meanwhile, perhaps too early to see this consumer.
            found.disconnect(self.id);
            return Err(QueueError::Closed);
        }
        Ok(deliveries)
    }

    pub(super) fn queue(&self, name: &str) -> Result<Arc<Queue>, QueueError> {
        if self.is_closed() {
            return Err(QueueError::Closed);
        }
        self.engine.exchange.queue(name).ok_or_else(|| not_found(name))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

fn owned(envelope: Arc<Envelope>) -> Envelope {
    Arc::unwrap_or_clone(envelope)
}

fn closed(to: Destination<'_>, envelope: Envelope) -> PublishError {
    PublishError::Closed { to: to.to_string(), envelope: envelope.into() }
}

fn refused(to: Destination<'_>, reason: String, envelope: Envelope) -> PublishError {
    PublishError::Refused { to: to.to_string(), reason, envelope: envelope.into() }
}

fn not_found(queue: &str) -> QueueError {
    QueueError::NotFound { queue: queue.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Memory, MemoryOptions,
        tests::{body, work},
    };
    use crate::{
        broker::{Broker as _, Destination, PublishError},
        contract::{Name, Pattern},
    };

    #[tokio::test(start_paused = true)]
    async fn a_publish_cut_off_says_whether_it_may_have_been_taken() {
        let bus = Memory::default();
        let bound = |name, max_length, topics: &[&'static str]| {
            topics.iter().fold(work(name, max_length), |spec, topic| {
                spec.bind(Pattern::parse(*topic).unwrap())
            })
        };
        bus.declare(&bound("full", 1, &["both", "one"])).await.unwrap();
        bus.declare(&bound("free", 10, &["both"])).await.unwrap();
        bus.publish(Destination::Queue("full"), body("there before")).await.unwrap();
        for (topic, may_be_taken) in [("both", true), ("one", false)] {
            let other = bus.connect(MemoryOptions::default());
            let publisher = other.clone();
            let publish = tokio::spawn(async move {
                let to = Name::from_static(topic);
                publisher.publish(Destination::Topic(&to), body("cut off")).await
            });
            tokio::task::yield_now().await;
            other.close().await;
            let error = publish.await.unwrap().unwrap_err();
            let told = matches!(error, PublishError::Unconfirmed { .. });
            assert_eq!(told, may_be_taken, "{error}");
            assert!(told || matches!(error, PublishError::Closed { .. }), "{error}");
        }
        assert_eq!(bus.stats("free").await.unwrap().ready, 1);
        assert_eq!(bus.stats("full").await.unwrap().ready, 1);
    }
}
