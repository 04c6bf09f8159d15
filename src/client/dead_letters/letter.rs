//! One dead letter.

use std::time::Duration;

use crate::{
    contract::Name,
    message::{Envelope, Failure, Id, Timestamp},
};

/// A message that could not be handled, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    envelope: Envelope,
}

impl DeadLetter {
    /// Takes an envelope as it came out of a dead-letter queue.
    #[must_use]
    pub fn new(envelope: Envelope) -> Self {
        Self { envelope }
    }

    /// Returns the message's id; a foreign sender may have given none.
    #[must_use]
    pub fn id(&self) -> Option<&Id> {
        self.envelope.metadata.message_id.as_ref()
    }

    /// Returns the protobuf full name of the message, if its sender gave it.
    #[must_use]
    pub fn message_type(&self) -> Option<&Name> {
        self.envelope.metadata.message_type.as_ref()
    }

    /// Returns the topic the message was published under, where it is known.
    #[must_use]
    pub fn topic(&self) -> Option<&Name> {
        let noted = || self.failure().and_then(|failure| failure.topic.as_ref());
        self.envelope.topic.as_ref().or_else(noted)
    }

    /// Returns how the message failed. None for what did not fail in an agent: delayed messages that
    /// could not be delivered, and what somebody else put into the queue.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.envelope.metadata.failure.as_deref()
    }

    /// Returns when the message failed or, where that is not known, when it was published.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        let failed = self.failure().map(|failure| failure.at);
        failed.filter(|at| at.as_millis() > 0).or(self.envelope.metadata.timestamp)
    }

    /// Returns how long ago that was.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let since = self.since()?.as_millis();
        Some(Duration::from_millis(Timestamp::now().as_millis().saturating_sub(since)))
    }

    /// Returns the message as it failed, with all that travelled beside it.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Returns the message as it failed, with all that travelled beside it.
    #[must_use]
    pub fn into_envelope(self) -> Envelope {
        self.envelope
    }
}
