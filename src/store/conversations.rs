//! Conversations: requests whose answer comes to a route, with the state they wait with.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::{
    BoxError,
    contract::Name,
    message::{Id, Timestamp},
};

/// A request that waits for its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// Correlation id of the request.
    pub id: Id,
    /// Agent that asked.
    pub agent: Name,
    /// Name of the follow-up that the answer goes to.
    pub follow_up: Name,
    /// Topic of the request.
    pub topic: Name,
    /// What the agent stored with the request, as JSON.
    pub state: String,
    /// When the request was published.
    pub asked_at: Timestamp,
    /// When the answer is too late.
    pub deadline: Timestamp,
    /// Id of the conversation in the wider sense, which all messages that follow share.
    pub conversation_id: Option<Id>,
    /// Id of the message during whose handling the request was made.
    pub causation_id: Option<Id>,
    /// Trace context of the request.
    pub traceparent: Option<Name>,
    /// Number of the attempt at the follow-up, from 1.
    pub attempt: u32,
}

/// Who sees what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This process only: replies must come to the replica that asked.
    Process,
    /// All replicas of an agent: replies may come to any of them.
    Shared,
}

/// What a look at a conversation's deadline found.
#[derive(Clone, Debug, PartialEq)]
pub enum Expiry {
    /// The deadline has passed; the conversation was taken out.
    Expired(Box<Conversation>),
    /// The deadline is still to come; the conversation stays.
    NotYet(Timestamp),
    /// There is no such conversation, or no more.
    Gone,
}

/// Keeps conversations: each is saved before its request is published, and taken once.
///
/// Who tells that a deadline has passed depends on the scope. Within one process it is
/// [`next_expired`](Self::next_expired). Where the replicas share the store, it is a delayed
/// message to their shared queue, so that any of them can go on after the others are gone:
/// whoever gets it calls [`take_expired`](Self::take_expired).
///
/// What was taken out by a process that then dies at once is gone with it; its answer, given out
/// again, becomes a dead letter.
#[async_trait]
pub trait Conversations: fmt::Debug + Send + Sync + 'static {
    /// Tells who sees what is stored, which decides where replies are sent.
    fn scope(&self) -> Scope;

    /// Stores a conversation.
    ///
    /// # Errors
    ///
    /// Returns an error where the store is full or cannot be reached; then nothing is stored.
    async fn save(&self, conversation: Conversation) -> Result<(), StoreError>;

    /// Stores a conversation again that was taken out and not brought to its end.
    ///
    /// # Errors
    ///
    /// Returns an error where the store cannot be reached; it is refused for nothing else.
    async fn put_back(&self, conversation: Conversation) -> Result<(), StoreError>;

    /// Takes a conversation out. Of several that ask for the same one, one gets it.
    ///
    /// # Errors
    ///
    /// Returns an error where the store cannot be reached: it is not known whether the
    /// conversation exists, so the message must wait.
    async fn take(&self, agent: &str, id: &Id) -> Result<Option<Conversation>, StoreError>;

    /// Takes a conversation out if its deadline has passed, in one step: in between, nobody else
    /// may find it missing. Used where the scope is [`Shared`](Scope::Shared).
    ///
    /// # Errors
    ///
    /// Returns an error where the store cannot be reached.
    async fn take_expired(&self, agent: &str, id: &Id) -> Result<Expiry, StoreError>;

    /// Waits for a conversation of `agent` to pass its deadline, and takes it out. Used where the
    /// scope is [`Process`](Scope::Process).
    ///
    /// # Cancel safety
    ///
    /// A dropped future takes nothing out.
    ///
    /// # Errors
    ///
    /// Returns an error where the store cannot be reached.
    async fn next_expired(&self, agent: &str) -> Result<Conversation, StoreError>;

    /// Returns how many conversations are stored.
    ///
    /// # Errors
    ///
    /// Returns an error where the store cannot be reached.
    async fn count(&self) -> Result<usize, StoreError>;
}

/// A store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There are as many conversations as there may be.
    #[error(
        "{limit} conversations are waiting for answers, which is the limit; wait for some to end, or raise `max_conversations`"
    )]
    Full {
        /// How many there may be.
        limit: usize,
    },
    /// The conversation would wait longer than the store keeps it.
    #[error(
        "a conversation cannot wait {asked:?}: the store keeps it for {kept:?}; set an earlier deadline, or raise `conversation_ttl`"
    )]
    TooLong {
        /// How long it would wait.
        asked: Duration,
        /// How long it is kept.
        kept: Duration,
    },
    /// The store cannot be reached.
    #[error("the store is not available")]
    Unavailable(#[source] BoxError),
}

#[cfg(test)]
fn _dyn_safe(_: &dyn Conversations) {}
