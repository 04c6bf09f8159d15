//! Publishing and asking with envelopes, for programs that know a contract at run time only.

use std::time::Duration;

use super::{Client, Origin, PublishOptions, Replies, RequestError, RequestOptions, Terms};
use crate::{
    broker::PublishError,
    contract::{Name, Topic},
    message::{Envelope, ErrorReply, Id, Timestamp},
};

impl Client {
    /// Publishes an envelope under its topic, with headers, a priority, a delay or an id; what the
    /// options leave out replaces what the envelope has, but for its message id.
    ///
    /// # Errors
    ///
    /// As [`publish_envelope`](Self::publish_envelope).
    pub async fn publish_envelope_with(
        &self,
        mut envelope: Envelope,
        options: PublishOptions,
    ) -> Result<Id, PublishError> {
        options.apply(&mut envelope.metadata);
        self.publish_envelope(envelope).await
    }

    /// Publishes an envelope as a request, under its topic, and waits for its reply, undecoded.
    ///
    /// For programs without the generated types, which read and write bodies by a
    /// [`Schema`](crate::Schema); [`request`](Self::request) is for all others. Headers, priority,
    /// delay and conversation are those of the options; correlation id, deadline and where the
    /// reply goes are filled in anew.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request), but for [`RequestError::BadReply`]; and
    /// [`PublishError::Invalid`] within [`RequestError::Publish`] where the envelope has no topic, or
    /// one that breaks the rules of [`Topic::new`].
    ///
    /// # Cancel safety
    ///
    /// A dropped future forgets the request; a reply that comes later is ignored.
    pub async fn request_envelope(
        &self,
        envelope: Envelope,
        options: RequestOptions,
    ) -> Result<Envelope, RequestError> {
        let idempotent = options.idempotent;
        let (topic, envelope, timeout) = self.request_of(envelope, options)?;
        let reply = self.shared.requester.ask(&topic, envelope, None, timeout, idempotent).await?;
        read(&topic, reply)
    }

    /// Publishes an envelope as a request and yields every reply that comes until the deadline,
    /// undecoded; see [`request_many`](Self::request_many) and
    /// [`request_envelope`](Self::request_envelope).
    ///
    /// # Errors
    ///
    /// Returns an error where the request could not be published. Where only one of several queues
    /// refused it, or none confirmed it, that is an error only if no reply comes before the deadline.
    pub async fn request_many_envelopes(
        &self,
        envelope: Envelope,
        options: RequestOptions,
    ) -> Result<Replies<Envelope>, RequestError> {
        let at_most = options.at_most;
        let (topic, envelope, timeout) = self.request_of(envelope, options)?;
        let slot = self.shared.requester.ask_many(&topic, envelope, None, timeout).await?;
        Ok(Replies::new(topic, slot, at_most))
    }

    fn request_of(
        &self,
        mut envelope: Envelope,
        options: RequestOptions,
    ) -> Result<(Name, Envelope, Duration), RequestError> {
        let topic = envelope.topic.clone().unwrap_or(Name::from_static(""));
        if let Err(error) = Topic::<()>::named(topic.clone()) {
            let (to, reason) = (format!("topic `{topic}`"), error.to_string());
            let source = PublishError::Invalid { to, reason, envelope: envelope.into() };
            return Err(RequestError::Publish { topic, source });
        }
        let timeout = options.timeout.unwrap_or(self.config().request_timeout);
        let metadata = &mut envelope.metadata;
        options.publish.apply(metadata);
        metadata.deadline = Some(Timestamp::now().after(timeout));
        metadata.correlation_id = Some(Id::new());
        metadata.reply_to = None;
        let envelope = self.fill(Origin::default(), envelope, &topic, Terms::default());
        Ok((topic, envelope, timeout))
    }
}

impl Replies<Envelope> {
    /// Waits for the next reply; `None` at the deadline or after as many as were asked for.
    ///
    /// # Cancel safety
    ///
    /// A dropped future takes no reply with it.
    pub async fn next(&mut self) -> Option<Result<Envelope, RequestError>> {
        let (topic, reply) = self.take().await?;
        Some(read(&topic, reply))
    }
}

/// Tells a reply from the error that came in its place.
fn read(topic: &Name, reply: Envelope) -> Result<Envelope, RequestError> {
    match ErrorReply::from_envelope(&reply) {
        Some(error) => Err(RequestError::Replied { topic: topic.clone(), error }),
        None => Ok(reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::memory::Memory;

    #[tokio::test(start_paused = true)]
    async fn what_has_no_topic_is_not_sent() {
        let client = Client::new(Memory::default());
        let sent = client.request_envelope(Envelope::encode(&()), RequestOptions::default()).await;
        let Err(RequestError::Publish { source: PublishError::Invalid { .. }, .. }) = sent else {
            panic!("{sent:?}")
        };
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_listening_is_told_at_once() {
        let client = Client::new(Memory::default());
        let mut envelope = Envelope::encode(&());
        envelope.topic = Some("nobody.there".into());
        let sent = client.request_envelope(envelope, RequestOptions::default()).await;
        assert!(matches!(sent, Err(RequestError::NobodyListens { .. })), "{sent:?}");
    }
}
