//! What travels beside a message's body.

use super::{Failure, Headers, Id, Priority, Timestamp};
use crate::contract::Name;

/// The most attempts that a message may allow itself.
pub const MAX_ATTEMPTS: u32 = 1000;

/// What describes a message: filled by agentbus when it is published, read when it arrives.
///
/// Everything is optional, since a peer in another language may leave anything out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Content type of the body; none means protobuf.
    pub content_type: Option<Name>,
    /// How the body is compressed; none means that it is not. agentbus reads no other, and sends
    /// none itself.
    pub content_encoding: Option<Box<str>>,
    /// Protobuf full name of the body. Where a foreign sender leaves it out, the topic decides.
    pub message_type: Option<Name>,
    /// Identifies the message; kept by retries and replays.
    pub message_id: Option<Id>,
    /// Pairs a reply with its request.
    pub correlation_id: Option<Id>,
    /// Where a reply goes.
    pub reply_to: Option<Name>,
    /// Name of the agent that sent the message.
    pub sender: Option<Name>,
    /// When the message was published.
    pub timestamp: Option<Timestamp>,
    /// How urgent the message is.
    pub priority: Option<Priority>,
    /// Hash of the contract that the sender was built with, where it is
    /// [sent](crate::Config::send_contract).
    pub contract: Option<Box<Name>>,
    /// Shared by all messages that follow from one first message.
    pub conversation_id: Option<Id>,
    /// Id of the message that was being handled when this one was published.
    pub causation_id: Option<Id>,
    /// When nobody waits any more; the message is not handled after it.
    pub deadline: Option<Timestamp>,
    /// When the message is worth nothing any more: it is not handled after it. Unlike a deadline,
    /// it bounds no handler, and nothing that follows from the message inherits it.
    pub expires_at: Option<Timestamp>,
    /// When a delayed message is to be delivered.
    pub due_at: Option<Timestamp>,
    /// Number of the attempt at handling the message, from 1; none means 1.
    pub attempt: Option<u32>,
    /// Replica whose own copy of a message this is, where it is replayed through the queue that all
    /// replicas share.
    pub replica: Option<Name>,
    /// How many attempts the message allows, from 1 to [`MAX_ATTEMPTS`]; none leaves it to the
    /// receiver's retry policy, as does any other number.
    pub max_attempts: Option<u32>,
    /// W3C trace context.
    pub traceparent: Option<Name>,
    /// W3C trace state.
    pub tracestate: Option<Name>,
    /// Why the message is a dead letter, if it is one.
    pub failure: Option<Box<Failure>>,
    /// The user's own headers.
    pub headers: Headers,
}

impl Metadata {
    /// Returns the number of the attempt at handling the message, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt.unwrap_or(1).max(1)
    }
}
