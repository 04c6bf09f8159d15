//! How a publish can end other than well.

use std::time::Duration;

use super::Destination;
use crate::{BoxError, message::Envelope};

/// An envelope was not, or not surely, taken by the engine. It comes back with the error.
///
/// Publishing it again is safe in every case: it keeps its message id, by which receivers can
/// tell a duplicate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// No queue is bound to the topic, or the queue does not exist: the envelope is nowhere.
    #[error("nobody listens to {to}: no queue is bound to it; start an agent that routes it")]
    Unroutable {
        /// Where the envelope was to go.
        to: String,
        /// The envelope.
        envelope: Box<Envelope>,
    },
    /// A queue is full. Other queues bound to the topic may have the envelope.
    #[error("{to} refused the message: {reason}")]
    Refused {
        /// Where the envelope was to go.
        to: String,
        /// What the engine said.
        reason: String,
        /// The envelope.
        envelope: Box<Envelope>,
    },
    /// The connection was lost or the time was up before the engine answered: it is not known
    /// whether the envelope was taken.
    #[error(
        "not known whether {to} took the message: {reason}; send it again with the same message id"
    )]
    Unconfirmed {
        /// Where the envelope was to go.
        to: String,
        /// What happened.
        reason: String,
        /// What the client library said, if it did.
        source: Option<BoxError>,
        /// The envelope.
        envelope: Box<Envelope>,
    },
    /// The body is larger than allowed. It was not sent.
    #[error(
        "a message of {bytes} bytes for {to} is over the limit of {limit} bytes; send a reference to large data instead, or raise `max_message_bytes`"
    )]
    TooLarge {
        /// Where the envelope was to go.
        to: String,
        /// Size of the body.
        bytes: usize,
        /// Size allowed.
        limit: usize,
        /// The envelope.
        envelope: Box<Envelope>,
    },
    /// Something in the envelope cannot be put on the wire. It was not sent.
    #[error("a message for {to} cannot be sent: {reason}")]
    Invalid {
        /// Where the envelope was to go.
        to: String,
        /// What cannot be sent, and why.
        reason: String,
        /// The envelope.
        envelope: Box<Envelope>,
    },
    /// The bus was closed by this process. The envelope was not sent.
    #[error("the bus is closed, so nothing more can be published to {to}")]
    Closed {
        /// Where the envelope was to go.
        to: String,
        /// The envelope.
        envelope: Box<Envelope>,
    },
}

impl PublishError {
    /// Makes the error for a destination without a queue.
    #[must_use]
    pub fn unroutable(to: Destination<'_>, envelope: Envelope) -> Self {
        Self::Unroutable { to: to.to_string(), envelope: envelope.into() }
    }

    /// Makes the error for an answer that did not come within `timeout`.
    #[must_use]
    pub fn timed_out(to: Destination<'_>, timeout: Duration, envelope: Envelope) -> Self {
        Self::Unconfirmed {
            to: to.to_string(),
            reason: format!("no confirmation within {timeout:?}"),
            source: None,
            envelope: envelope.into(),
        }
    }

    /// Returns the envelope, to be sent again or kept.
    #[must_use]
    pub fn into_envelope(self) -> Envelope {
        match self {
            Self::Unroutable { envelope, .. }
            | Self::Refused { envelope, .. }
            | Self::Unconfirmed { envelope, .. }
            | Self::TooLarge { envelope, .. }
            | Self::Invalid { envelope, .. }
            | Self::Closed { envelope, .. } => *envelope,
        }
    }

    /// Tells whether sending the same envelope again may go better.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Unconfirmed { .. } | Self::Unroutable { .. })
    }
}
