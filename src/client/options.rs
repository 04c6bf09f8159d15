//! What a publish or a request can be given beside its message.

use std::time::Duration;

use crate::{
    contract::Name,
    message::{HeaderError, HeaderValue, Headers, Id, MAX_ATTEMPTS, Metadata, Priority, Timestamp},
};

/// Options of a publish.
///
/// ```
/// # use agentbus::{PublishOptions, message::Priority};
/// let options = PublishOptions::default().priority(Priority::HIGH).header("tenant", "acme")?;
/// # Ok::<(), agentbus::message::HeaderError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct PublishOptions {
    headers: Headers,
    priority: Option<Priority>,
    message_id: Option<Id>,
    conversation_id: Option<Id>,
    due_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    max_attempts: Option<u32>,
}

impl PublishOptions {
    /// Sets a free header.
    ///
    /// # Errors
    ///
    /// Returns an error where the name is taken, the text too long, or 64 are set already.
    pub fn header(
        mut self,
        name: impl Into<Name>,
        value: impl Into<HeaderValue>,
    ) -> Result<Self, HeaderError> {
        self.headers.set(name, value)?;
        Ok(self)
    }

    /// Sets the priority, in place of the one that the topic's contract may state.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets the message id, by which receivers can tell a message that is sent again.
    pub fn message_id(mut self, id: impl Into<Id>) -> Self {
        self.message_id = Some(id.into());
        self
    }

    /// Makes the message part of a conversation.
    pub fn conversation_id(mut self, id: impl Into<Id>) -> Self {
        self.conversation_id = Some(id.into());
        self
    }

    /// Delivers the message after `delay` and not before.
    ///
    /// The delay counts from this call. RabbitMQ keeps it in units of
    /// [`DELAY_UNIT`](crate::retry::DELAY_UNIT), rounded up; more than
    /// [`MAX_DELAY`](crate::broker::MAX_DELAY), two years, is
    /// [`PublishError::Invalid`](crate::PublishError::Invalid). What nobody is bound to when it is
    /// due is kept aside by the bus, since there is nobody left to tell.
    pub fn deliver_after(mut self, delay: Duration) -> Self {
        self.due_at = Some(Timestamp::now().after(delay));
        self
    }

    /// Delivers the message at a point in time and not before; see
    /// [`deliver_after`](Self::deliver_after).
    pub fn deliver_at(mut self, at: Timestamp) -> Self {
        self.due_at = Some(at);
        self
    }

    /// Makes the message worth nothing `after` from now: whoever gets it later does not handle it.
    ///
    /// An agent drops it and counts it, or keeps it as a dead letter where the route says
    /// [`keep_expired`](crate::Routes::keep_expired); a retry that would start after it is not
    /// scheduled. The time counts from this call, whatever delay there is before the delivery. It
    /// bounds no handler, and what follows from the message does not inherit it. Times over ten
    /// years off are ignored by the receiver.
    pub fn expires_after(self, after: Duration) -> Self {
        self.expires_at(Timestamp::now().after(after))
    }

    /// Makes the message worth nothing at a point in time; see
    /// [`expires_after`](Self::expires_after).
    pub fn expires_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Allows the message `count` attempts in all, more or fewer than the receiver's
    /// [`RetryPolicy`](crate::retry::RetryPolicy) does; the delays between them stay the policy's.
    ///
    /// 0 counts as 1, and more than [`MAX_ATTEMPTS`] as that.
    pub fn attempts(mut self, count: u32) -> Self {
        self.max_attempts = Some(count.clamp(1, MAX_ATTEMPTS));
        self
    }

    pub(crate) fn apply(self, metadata: &mut Metadata) {
        metadata.headers = self.headers;
        metadata.priority = self.priority;
        metadata.due_at = self.due_at;
        metadata.expires_at = self.expires_at;
        metadata.max_attempts = self.max_attempts;
        metadata.conversation_id = self.conversation_id;
        if let Some(id) = self.message_id {
            metadata.message_id = Some(id);
        }
    }
}

/// Options of a request.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RequestOptions {
    pub(crate) publish: PublishOptions,
    pub(crate) timeout: Option<Duration>,
    pub(crate) at_most: Option<usize>,
    pub(crate) idempotent: bool,
}

impl RequestOptions {
    /// Ends the request after `timeout` instead of what the contract states or, where it states
    /// nothing, the configuration's `request_timeout`.
    ///
    /// Within a handler, what is left of the handled message's own deadline still bounds it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Declares that being asked twice does no harm: the request is sent again, under the same
    /// ids, after a connection was lost on which it or its reply was perhaps under way.
    ///
    /// Without it, a request whose reply is lost ends at its deadline; so do requests for many
    /// replies in any case. The reply that comes first counts, others are ignored. A handler sees
    /// the same message id twice.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Ends a request for many replies after `count` of them.
    pub fn at_most(mut self, count: usize) -> Self {
        self.at_most = Some(count);
        self
    }

    /// Sets what any publish can be given: headers, priority, ids.
    pub fn publish(mut self, options: PublishOptions) -> Self {
        self.publish = options;
        self
    }
}

/// What a message follows from: the message that was being handled when it was published.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin<'a>(Option<&'a Metadata>);

impl<'a> Origin<'a> {
    pub(crate) fn of(handled: &'a Metadata) -> Self {
        Self(Some(handled))
    }

    pub(super) fn deadline(self) -> Option<Timestamp> {
        self.0.and_then(|handled| handled.deadline)
    }

    /// Fills in conversation, cause and trace, where they are not given.
    pub(super) fn apply(self, metadata: &mut Metadata) {
        let Some(handled) = self.0 else {
            // A message that follows from nothing begins a conversation.
            if metadata.conversation_id.is_none() {
                metadata.conversation_id.clone_from(&metadata.message_id);
            }
            return;
        };
        if metadata.conversation_id.is_none() {
            let conversation = handled.conversation_id.as_ref().or(handled.message_id.as_ref());
            metadata.conversation_id = conversation.cloned();
        }
        if metadata.causation_id.is_none() {
            metadata.causation_id.clone_from(&handled.message_id);
        }
        if metadata.traceparent.is_none() {
            metadata.traceparent.clone_from(&handled.traceparent);
            metadata.tracestate.clone_from(&handled.tracestate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_follows_from_another_shares_its_conversation_and_trace() {
        let handled = Metadata {
            message_id: Some("cause".into()),
            conversation_id: Some("talk".into()),
            traceparent: Some("00-1-2-01".into()),
            ..Metadata::default()
        };
        let mut metadata = Metadata { message_id: Some("new".into()), ..Metadata::default() };
        Origin::of(&handled).apply(&mut metadata);
        assert_eq!(metadata.conversation_id, Some("talk".into()));
        assert_eq!(metadata.causation_id, Some("cause".into()));
        assert_eq!(metadata.traceparent.as_deref(), Some("00-1-2-01"));
    }

    #[test]
    fn a_message_that_follows_from_nothing_begins_a_conversation() {
        let mut metadata = Metadata { message_id: Some("new".into()), ..Metadata::default() };
        Origin::default().apply(&mut metadata);
        assert_eq!(metadata.conversation_id, Some("new".into()));
        assert_eq!(metadata.causation_id, None);
    }
}
