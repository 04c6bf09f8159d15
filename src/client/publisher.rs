//! A publisher of one topic.

use futures::Stream;
use prost::{Message, Name as MessageName};

use super::{Client, PublishOptions};
use crate::{broker::PublishError, contract::Topic, message::Id};

/// Publishes messages under one topic; made by [`Client::publisher`].
#[derive(Debug)]
pub struct Publisher<M> {
    client: Client,
    topic: Topic<M>,
}

impl<M> Publisher<M> {
    pub(super) fn new(client: Client, topic: Topic<M>) -> Self {
        Self { client, topic }
    }

    /// Returns the topic.
    #[must_use]
    pub fn topic(&self) -> &Topic<M> {
        &self.topic
    }
}

impl<M: Message + MessageName> Publisher<M> {
    /// Publishes a message and waits until the bus has taken it; see [`Client::publish`].
    ///
    /// # Errors
    ///
    /// Returns the message with the reason it was not taken.
    pub async fn publish(&self, message: &M) -> Result<Id, PublishError> {
        self.client.publish(self.topic.clone(), message).await
    }

    /// Publishes a message with options; see [`Client::publish_with`].
    ///
    /// # Errors
    ///
    /// Returns the message with the reason it was not taken.
    pub async fn publish_with(
        &self,
        message: &M,
        options: PublishOptions,
    ) -> Result<Id, PublishError> {
        self.client.publish_with(self.topic.clone(), message, options).await
    }

    /// Publishes a stream of messages, many at a time; see [`Client::publish_many`].
    pub fn publish_many<S>(
        &self,
        messages: S,
    ) -> impl Stream<Item = Result<Id, PublishError>> + use<M, S>
    where
        S: Stream<Item = M>,
    {
        self.client.publish_many(self.topic.clone(), messages)
    }
}

impl<M> Clone for Publisher<M> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), topic: self.topic.clone() }
    }
}
