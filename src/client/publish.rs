//! Publishing: one message, many, or an envelope as it is.

use std::{pin::Pin, task::Poll};

use futures::{
    Stream, StreamExt,
    stream::{self, FuturesOrdered},
};
use prost::{Message, Name as MessageName};
use tokio::task::coop::{consume_budget, unconstrained};

use super::{Client, Origin, PublishOptions, Terms};
use crate::{
    broker::{Destination, PublishError},
    contract::Topic,
    message::{Envelope, Id},
};

impl Client {
    /// Publishes a message and waits until the bus has taken it; returns its id.
    ///
    /// The topic fixes the message's type:
    ///
    /// ```compile_fail,E0308
    /// # use agentbus::{Client, Topic};
    /// # async fn wrong(client: Client) {
    /// const STATUS: Topic<String> = Topic::new("agent.status");
    /// client.publish(STATUS, &17_u32).await;
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the message with the reason it was not taken; see [`PublishError`].
    ///
    /// # Cancel safety
    ///
    /// A dropped future may or may not have published.
    pub async fn publish<M>(&self, topic: Topic<M>, message: &M) -> Result<Id, PublishError>
    where
        M: Message + MessageName,
    {
        self.publish_with(topic, message, PublishOptions::default()).await
    }

    /// Publishes a message with headers, a priority, a delay or an id of its own.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    pub async fn publish_with<M>(
        &self,
        topic: Topic<M>,
        message: &M,
        options: PublishOptions,
    ) -> Result<Id, PublishError>
    where
        M: Message + MessageName,
    {
        self.publish_from(Origin::default(), topic, message, options).await
    }

    /// Publishes a message that follows from the one `origin` tells of.
    pub(crate) async fn publish_from<M>(
        &self,
        origin: Origin<'_>,
        topic: Topic<M>,
        message: &M,
        options: PublishOptions,
    ) -> Result<Id, PublishError>
    where
        M: Message + MessageName,
    {
        let mut envelope = Envelope::encode(message);
        options.apply(&mut envelope.metadata);
        let envelope = self.fill(origin, envelope, topic.name(), Terms::from(&topic));
        let id = envelope.metadata.message_id.clone().unwrap_or_else(Id::new);
        self.send(Destination::Topic(topic.name()), envelope).await?;
        Ok(id)
    }

    /// Publishes a stream of messages, a window of them at a time, and yields how each ended, in
    /// order.
    ///
    /// The window is the configuration's `confirm_window`: so many messages may be on their way
    /// unconfirmed. The stream does nothing unless it is polled.
    pub fn publish_many<M, S>(
        &self,
        topic: Topic<M>,
        messages: S,
    ) -> impl Stream<Item = Result<Id, PublishError>> + use<M, S>
    where
        M: Message + MessageName,
        S: Stream<Item = M>,
    {
        let client = self.clone();
        let window = usize::from(client.config().confirm_window);
        let mut messages = Box::pin(messages.fuse());
        let mut under_way = FuturesOrdered::new();
        let mut spare = None;
        let results = stream::poll_fn(move |cx| {
            while under_way.len() < window {
                let Poll::Ready(Some(message)) = messages.as_mut().poll_next(cx) else { break };
                let (client, topic) = (client.clone(), topic.clone());
                // Outside tokio's budget, which would make one publish give way to the next and
                // so change their order.
                let publish = unconstrained(async move { client.publish(topic, &message).await });
                // What ends at once leaves its place on the heap to the next.
                let mut publish = match spare.take() {
                    None => Box::pin(publish),
                    Some(mut place) => {
                        Pin::set(&mut place, publish);
                        place
                    }
                };
                if under_way.is_empty()
                    && let Poll::Ready(result) = publish.as_mut().poll(cx)
                {
                    spare = Some(publish);
                    return Poll::Ready(Some(result));
                }
                under_way.push_back(publish);
            }
            match under_way.poll_next_unpin(cx) {
                Poll::Ready(None) if !messages.is_done() => Poll::Pending,
                polled => polled,
            }
        });
        results.then(|result| async {
            // Gives others their turn, which the publishes themselves do not.
            consume_budget().await;
            result
        })
    }

    /// Publishes an envelope as it is, under its topic, once more or for the first time.
    ///
    /// Missing ids are filled in; a message id that is there is kept, so that receivers can tell
    /// a duplicate.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish); [`PublishError::Invalid`] where the envelope has no topic, or
    /// one that breaks the rules of [`Topic::new`].
    pub async fn publish_envelope(&self, envelope: Envelope) -> Result<Id, PublishError> {
        self.envelope_from(Origin::default(), envelope).await
    }

    /// Publishes an envelope, and gives other tasks their turn, which the broker may not.
    pub(crate) fn send<'a>(
        &'a self,
        to: Destination<'a>,
        envelope: Envelope,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + 'a {
        // Begun here, so that the future need not hold the envelope.
        let publishing = self.shared.broker.begin_publish(to, envelope);
        async {
            let sent = publishing.await;
            consume_budget().await;
            sent
        }
    }

    pub(crate) async fn envelope_from(
        &self,
        origin: Origin<'_>,
        envelope: Envelope,
    ) -> Result<Id, PublishError> {
        let Some(topic) = envelope.topic.clone() else {
            return Err(PublishError::Invalid {
                to: "no topic".to_owned(),
                reason: "the envelope has no topic; set `envelope.topic`".to_owned(),
                envelope: envelope.into(),
            });
        };
        if let Err(error) = Topic::<()>::named(topic.clone()) {
            return Err(PublishError::Invalid {
                to: format!("topic `{topic}`"),
                reason: error.to_string(),
                envelope: envelope.into(),
            });
        }
        let envelope = self.fill(origin, envelope, &topic, Terms::default());
        let id = envelope.metadata.message_id.clone().unwrap_or_else(Id::new);
        self.send(Destination::Topic(&topic), envelope).await?;
        Ok(id)
    }
}
