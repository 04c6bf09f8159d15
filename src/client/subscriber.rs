//! A typed stream of messages, without an agent.

use std::{marker::PhantomData, time::Duration};

use futures::{Stream, stream};

use super::{Client, Subscription, dead_letter_queue, dead_letter_spec};
use crate::{
    broker::{
        Deliveries, Delivery, Destination, PublishError, QueueError, QueueRole, QueueSpec,
        TopologyError,
    },
    contract::{Name, is_reserved},
    message::{
        Envelope, Failure, FailureKind, FromEnvelope, Id, Metadata, Timestamp, fill_from_body,
    },
};

/// How long an undecodable message waits before its dead letter is tried again.
const BURIAL_RETRY: Duration = Duration::from_secs(1);

/// How long to wait before a queue that cannot be consumed from is tried again.
const CONSUME_RETRY: Duration = Duration::from_secs(1);

/// A stream of messages; made by [`Client::subscribe`].
///
/// A message that does not decode is not yielded: from a named queue it goes to `{queue}.dlq`;
/// from a queue of the subscriber's own it is dropped with a warning. Neither is one that has expired:
/// it is dropped and counted, or kept where the subscription says so. A request that comes after its
/// deadline is dropped and counted, too: nobody waits for the reply any more.
#[derive(Debug)]
pub struct Subscriber<M> {
    client: Client,
    queue: Name,
    /// Where undecodable messages go.
    dead_letters: Option<Name>,
    /// To be declared again when somebody deletes them.
    specs: Vec<QueueSpec>,
    prefetch: u16,
    deliveries: Deliveries,
    metadata_field: Option<u32>,
    /// Whether a pattern asks for topics that agentbus keeps for itself.
    takes_reserved: bool,
    keep_expired: bool,
    expired: u64,
    message: PhantomData<fn() -> M>,
}

/// A message that was received, unsettled; dropped unsettled, it is delivered again.
#[derive(Debug)]
#[must_use = "an unsettled message is delivered again"]
pub struct Received<M> {
    message: M,
    delivery: Delivery,
    client: Client,
    queue: Name,
    dead_letters: Option<Name>,
}

/// A subscription could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The queue's name ends in the word that dead-letter queues end in.
    #[error(
        "`{queue}` cannot be subscribed to: names whose last word is `dlq` are for dead letters"
    )]
    Reserved {
        /// Name of the queue.
        queue: Name,
    },
    /// The queue could not be declared.
    #[error(transparent)]
    Declare(#[from] TopologyError),
    /// The queue could not be consumed from.
    #[error(transparent)]
    Consume(#[from] QueueError),
}

impl<M: FromEnvelope> Subscriber<M> {
    pub(super) async fn open(
        client: Client,
        subscription: Subscription<M>,
    ) -> Result<Self, SubscribeError> {
        let config = client.config();
        let max_length = config.max_queue_length;
        let (queue, role, dead_letters) = if let Some(queue) = subscription.queue {
            let queue = Name::from(format!("{}{queue}", config.queue_prefix));
            if queue.rsplit('.').next() == Some("dlq") {
                return Err(SubscribeError::Reserved { queue });
            }
            let dead_letters = dead_letter_queue(&queue);
            let role = QueueRole::Work { dead_letters: dead_letters.clone(), max_length };
            (queue, role, Some(dead_letters))
        } else {
            let queue = Name::from(format!("{}subscriber.{}", config.queue_prefix, Id::new()));
            let expires = config.replica_queue_expiry;
            (queue, QueueRole::Private { max_length, expires }, None)
        };
        let mut specs = Vec::new();
        if dead_letters.is_some() {
            specs.push(dead_letter_spec(&queue, config));
        }
        let mut spec = QueueSpec::new(queue.clone(), role);
        let takes_reserved = subscription.patterns.iter().any(|it| is_reserved(it.as_str()));
        spec.bindings = subscription.patterns;
        specs.push(spec);
        let prefetch = subscription.prefetch.unwrap_or(config.prefetch);
        let opening = (client.clone(), specs.clone(), queue.clone());
        // Where nobody waits for it any more, it is opened all the same and closed at once, so that
        // nothing is left half open.
        let opened = tokio::spawn(async move {
            let (client, specs, queue) = opening;
            consume(&client, &specs, &queue, prefetch).await
        });
        let deliveries = match opened.await {
            Ok(opened) => opened?,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return Err(QueueError::Closed.into()),
            },
        };
        Ok(Self {
            client,
            queue,
            dead_letters,
            specs,
            prefetch,
            deliveries,
            metadata_field: subscription.metadata_field,
            takes_reserved,
            keep_expired: subscription.keep_expired,
            expired: 0,
            message: PhantomData,
        })
    }

    /// Waits for the next message; `None` once the bus was closed.
    ///
    /// A queue that somebody deletes is declared again, and consumed from.
    ///
    /// # Cancel safety
    ///
    /// A dropped future loses nothing: what it had taken is delivered again.
    pub async fn next(&mut self) -> Option<Received<M>> {
        loop {
            let Some(mut delivery) = self.deliveries.next().await else {
                self.deliveries = self.consume_again().await?;
                continue;
            };
            let envelope = delivery.envelope_mut();
            if !self.takes_reserved && envelope.topic.as_deref().is_some_and(is_reserved) {
                delivery.ack();
                continue;
            }
            if envelope.metadata.expires_at.is_some_and(Timestamp::has_passed) {
                self.let_go(delivery).await;
                continue;
            }
            if envelope.metadata.deadline.is_some_and(Timestamp::has_passed) {
                self.expired += 1;
                tracing::debug!(queue = %self.queue, "dropped a message after its deadline");
                delivery.ack();
                continue;
            }
            if let Some(number) = self.metadata_field {
                fill_from_body(&mut envelope.metadata, &envelope.payload, number);
            }
            match M::from_envelope(envelope) {
                Ok(message) => return Some(self.received(message, delivery)),
                Err(error) => {
                    self.bury(delivery, FailureKind::from(&error), &error.to_string()).await;
                }
            }
        }
    }

    /// Turns the subscriber into a stream of its messages.
    pub fn into_stream(self) -> impl Stream<Item = Received<M>> + Send {
        stream::unfold(self, |mut subscriber| async move {
            subscriber.next().await.map(|received| (received, subscriber))
        })
    }

    /// Returns the name of the queue, such as the one that was made for this subscriber.
    #[must_use]
    pub fn queue(&self) -> &Name {
        &self.queue
    }

    /// Returns how many messages were dropped because they had expired, or came after their
    /// deadline.
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.expired
    }

    async fn let_go(&mut self, delivery: Delivery) {
        if self.keep_expired && self.dead_letters.is_some() {
            return self
                .bury(delivery, FailureKind::Expired, "expired before it was handled")
                .await;
        }
        self.expired += 1;
        tracing::debug!(queue = %self.queue, "dropped a message that has expired");
        delivery.ack();
    }

    /// Declares the queues and consumes once more, as often as it takes; `None` once the bus was
    /// closed.
    async fn consume_again(&self) -> Option<Deliveries> {
        loop {
            match consume(&self.client, &self.specs, &self.queue, self.prefetch).await {
                Ok(deliveries) => {
                    tracing::warn!(queue = %self.queue, "the queue was gone; declared it again");
                    return Some(deliveries);
                }
                Err(
                    SubscribeError::Declare(TopologyError::Closed { .. })
                    | SubscribeError::Consume(QueueError::Closed),
                ) => return None,
                Err(error) => {
                    tracing::error!(queue = %self.queue, %error, "the queue is gone, and cannot be consumed from again");
                    tokio::time::sleep(CONSUME_RETRY).await;
                }
            }
        }
    }

    fn received(&self, message: M, delivery: Delivery) -> Received<M> {
        Received {
            message,
            delivery,
            client: self.client.clone(),
            queue: self.queue.clone(),
            dead_letters: self.dead_letters.clone(),
        }
    }

    async fn bury(&self, delivery: Delivery, kind: FailureKind, reason: &str) {
        let (client, queue) = (&self.client, &self.queue);
        let Some(dead_letters) = &self.dead_letters else {
            tracing::warn!(%queue, error = reason, "dropped a message that does not decode");
            return delivery.ack();
        };
        let mut letter = dead_letter(queue, &delivery, kind, reason);
        loop {
            let to = Destination::Queue(dead_letters);
            let Err(error) = client.broker().publish(to, letter).await else { break };
            if matches!(error, PublishError::Closed { .. }) {
                // Given back as the stream ends.
                return;
            }
            tracing::warn!(%queue, %error, "cannot write a dead letter; trying again");
            letter = mended(client, queue, error).await;
            tokio::time::sleep(BURIAL_RETRY).await;
        }
        delivery.ack();
    }
}

/// Declares queues and consumes from one of them.
async fn consume(
    client: &Client,
    specs: &[QueueSpec],
    queue: &Name,
    prefetch: u16,
) -> Result<Deliveries, SubscribeError> {
    for spec in specs {
        client.broker().declare(spec).await?;
    }
    Ok(client.broker().consume(queue, prefetch).await?)
}

/// Removes what kept a dead letter from being taken, as far as that can be done: declares a queue
/// that was deleted, and leaves out metadata that cannot be sent.
async fn mended(client: &Client, queue: &Name, error: PublishError) -> Envelope {
    if matches!(error, PublishError::Unroutable { .. })
        && let Err(error) = client.broker().declare(&dead_letter_spec(queue, client.config())).await
    {
        tracing::error!(%queue, %error, "cannot declare the dead-letter queue again");
    }
    let cannot_be_sent = matches!(error, PublishError::Invalid { .. });
    let mut letter = error.into_envelope();
    if cannot_be_sent {
        letter.metadata = Metadata {
            failure: letter.metadata.failure.take(),
            message_id: Some(Id::new()),
            ..Metadata::default()
        };
    }
    letter
}

/// Makes the dead letter of a delivery.
fn dead_letter(queue: &Name, delivery: &Delivery, kind: FailureKind, reason: &str) -> Envelope {
    let mut envelope = delivery.envelope().clone();
    envelope.metadata.failure = Some(Box::new(Failure {
        kind,
        error: reason.into(),
        agent: queue.clone(),
        instance: None,
        topic: envelope.topic.clone(),
        attempts: envelope.metadata.attempt(),
        at: Timestamp::now(),
    }));
    // It has been delivered; a dead letter would wait for it once more.
    envelope.metadata.due_at = None;
    envelope
}

impl<M> Received<M> {
    /// Returns the message.
    #[must_use]
    pub fn message(&self) -> &M {
        &self.message
    }

    /// Returns the envelope the message came in: topic, ids, headers.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        self.delivery.envelope()
    }

    /// Tells whether the message may have been delivered before. `false` is certain.
    #[must_use]
    pub fn is_redelivered(&self) -> bool {
        self.delivery.is_redelivered()
    }

    /// Settles the message, so that it does not come again, and returns it.
    pub fn ack(self) -> M {
        self.delivery.ack();
        self.message
    }

    /// Gives the message back, to be delivered again at once.
    pub fn release(self) {
        self.delivery.release();
    }

    /// Moves the message to the dead letters of the named queue, with a reason.
    ///
    /// From a queue of the subscriber's own, which has no dead letters, it is dropped.
    ///
    /// # Errors
    ///
    /// Returns why the dead letter was not taken; then the message is delivered again.
    pub async fn reject(self, reason: &str) -> Result<(), PublishError> {
        if let Some(dead_letters) = &self.dead_letters {
            let letter = dead_letter(&self.queue, &self.delivery, FailureKind::Rejected, reason);
            let (broker, to) = (self.client.broker(), Destination::Queue(dead_letters));
            match broker.publish(to, letter).await {
                Err(error @ (PublishError::Unroutable { .. } | PublishError::Invalid { .. })) => {
                    let letter = mended(&self.client, &self.queue, error).await;
                    broker.publish(to, letter).await?;
                }
                result => result?,
            }
        }
        self.delivery.ack();
        Ok(())
    }
}
