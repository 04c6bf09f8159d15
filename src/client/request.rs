//! How a request can end other than with its reply.

use std::time::Duration;

use prost::{Message, Name as MessageName};

use crate::{
    broker::{PublishError, QueueError},
    contract::Name,
    message::{DecodeError, Envelope, ErrorReply},
    store::StoreError,
};

/// A request ended without its reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nobody has a route for the request.
    #[error("nobody answers `{topic}`: no queue is bound to it; start an agent that routes it")]
    NobodyListens {
        /// Topic of the request.
        topic: Name,
    },
    /// The bus did not confirm that it took the request, and no reply came before the deadline.
    ///
    /// It may have been sent, and handled, where `source` is [`PublishError::Refused`] (one queue
    /// of several) or [`PublishError::Unconfirmed`]; it was not with the others.
    #[error("the request on `{topic}` was not confirmed")]
    Publish {
        /// Topic of the request.
        topic: Name,
        /// What the bus said; it carries the request back.
        source: PublishError,
    },
    /// No reply came before the deadline.
    #[error("no reply on `{topic}` within {timeout:?}")]
    TimedOut {
        /// Topic of the request.
        topic: Name,
        /// How long there was.
        timeout: Duration,
    },
    /// The other side answered with an error.
    #[error("`{topic}` was answered with an error: {error}")]
    Replied {
        /// Topic of the request.
        topic: Name,
        /// What the other side said.
        #[source]
        error: ErrorReply,
    },
    /// The reply is not the message that the request promises.
    #[error("the reply on `{topic}` cannot be read")]
    BadReply {
        /// Topic of the request.
        topic: Name,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// As many requests wait for replies as may.
    #[error(
        "{limit} requests are waiting for replies, which is the limit; wait for some to end, or raise `max_pending_replies`"
    )]
    TooManyPending {
        /// How many may wait.
        limit: usize,
    },
    /// The inbox for replies could not be opened.
    #[error("the inbox for replies could not be opened")]
    Inbox(#[source] QueueError),
    /// The state of a follow-up could not be stored, so the request was not sent.
    #[error("the state to go on with after `{topic}` could not be stored")]
    Store {
        /// Topic of the request.
        topic: Name,
        /// What the store said.
        source: StoreError,
    },
    /// The message that ends the wait for the answer at its deadline was not surely taken by the
    /// bus, so the request was not sent.
    #[error("the deadline of a request on `{topic}` could not be set, so it was not sent")]
    Deadline {
        /// Topic of the request.
        topic: Name,
        /// What the bus said of the message for the deadline, which it carries back.
        source: PublishError,
    },
    /// The state of a follow-up could not be turned into JSON, so the request was not sent.
    #[error("the state to go on with after `{topic}` could not be written as JSON")]
    State {
        /// Topic of the request.
        topic: Name,
        /// What the serializer said.
        source: serde_json::Error,
    },
    /// The agent that asks has no route for the answer, so the request was not sent.
    #[error("agent `{agent}` has no `on_reply` route for the follow-up `{follow_up}`; add one")]
    NoFollowUp {
        /// Name of the agent.
        agent: Name,
        /// Name of the follow-up.
        follow_up: Name,
    },
}

impl RequestError {
    /// Sorts out how a publish failed.
    pub(crate) fn unsent(topic: &Name, source: PublishError) -> Self {
        match source {
            PublishError::Unroutable { .. } => Self::NobodyListens { topic: topic.clone() },
            source => Self::Publish { topic: topic.clone(), source },
        }
    }

    /// Reads a reply: the promised message, or the error that came in its place.
    pub(crate) fn read<Res>(topic: &Name, reply: &Envelope) -> Result<Res, Self>
    where
        Res: Message + MessageName + Default,
    {
        if let Some(error) = ErrorReply::from_envelope(reply) {
            return Err(Self::Replied { topic: topic.clone(), error });
        }
        reply.decode().map_err(|source| Self::BadReply { topic: topic.clone(), source })
    }

    /// Returns the error that the other side answered with, if it did.
    #[must_use]
    pub fn reply(&self) -> Option<&ErrorReply> {
        match self {
            Self::Replied { error, .. } => Some(error),
            _ => None,
        }
    }
}
