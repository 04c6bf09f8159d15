//! Deduplication: which messages were handled, and how that ended.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use super::StoreError;
use crate::{contract::Name, message::Id};

/// What tells a message from all others, for the one who handles it.
///
/// The message id alone would not do: every agent that a message reaches handles it, and a peer in
/// another language may use ids that are unique among its own messages only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// Agent that handles the message.
    pub agent: Name,
    /// Replica that handles it, where each replica gets a copy.
    pub replica: Option<Name>,
    /// Who sent it.
    pub sender: Option<Name>,
    /// Topic it was published under.
    pub topic: Name,
    /// Message id.
    pub id: Id,
}

/// What a handled message ended with: the reply, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Protobuf full name of the reply. An `agentbus.v1.ErrorReply` is an answer as any other.
    pub message_type: Name,
    /// The encoded reply.
    pub payload: Bytes,
}

/// What is known of a message that is about to be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing: it is claimed now, and whoever claimed it is to handle it.
    New,
    /// Somebody has claimed it and is handling it.
    InProgress,
    /// It was handled.
    Done(Outcome),
}

/// Remembers which messages were handled: each is claimed before, and marked or let go after.
///
/// What is remembered is bounded, by number and by age: what was not seen for longest goes first.
/// Claims are not: there are only as many as messages are being handled. A store that outlives its
/// clients must let go of claims of its own accord, some time after no handler can still be
/// running; a process that died never will.
#[async_trait]
pub trait Deduplication: fmt::Debug + Send + Sync + 'static {
    /// Claims a message under the name `claim`, unless it is claimed or was handled. Of several
    /// that ask at the same time, one gets [`Begun::New`]; one that asks again under the same name
    /// gets it again, since it may not have got the answer.
    ///
    /// # Errors
    ///
    /// Returns an error where the store cannot be reached: it is not known whether the message was
    /// handled, so it must wait.
    async fn begin(&self, key: &MessageKey, claim: &Id) -> Result<Begun, StoreError>;

    /// Marks a message as handled. Doing so twice changes nothing.
    ///
    /// # Errors
    ///
    /// Returns an error where the store cannot be reached.
    async fn done(&self, key: &MessageKey, claim: &Id, outcome: Outcome) -> Result<(), StoreError>;

    /// Lets go of a claim, so that the message can be claimed again. Does nothing where the claim
    /// is another's, or the message was marked as handled.
    ///
    /// # Errors
    ///
    /// Returns an error where the store cannot be reached.
    async fn forget(&self, key: &MessageKey, claim: &Id) -> Result<(), StoreError>;

    /// Waits while the message is claimed. May return early: whoever waits asks again.
    ///
    /// # Cancel safety
    ///
    /// A dropped future changes nothing.
    async fn changed(&self, key: &MessageKey);
}

#[cfg(test)]
fn _dyn_safe(_: &dyn Deduplication) {}
