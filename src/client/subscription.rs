//! What a subscriber wants to get.

use std::marker::PhantomData;

use crate::{
    contract::{InvalidPattern, Name, Pattern, Topic},
    message::Envelope,
};

/// Which messages a subscriber gets, and from which queue.
///
/// ```
/// # use agentbus::{Envelope, client::Subscription};
/// let everything = Subscription::<Envelope>::pattern("#")?;
/// let shared = Subscription::<Envelope>::pattern("price.*")?.queue("price-log").prefetch(8);
/// # Ok::<(), agentbus::contract::InvalidPattern>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Subscription<M> {
    pub(super) patterns: Vec<Pattern>,
    pub(super) queue: Option<Name>,
    pub(super) prefetch: Option<u16>,
    pub(super) keep_expired: bool,
    pub(super) metadata_field: Option<u32>,
    message: PhantomData<fn() -> M>,
}

impl<M> Subscription<M> {
    fn to(pattern: Pattern, metadata_field: Option<u32>) -> Self {
        Self {
            patterns: vec![pattern],
            queue: None,
            prefetch: None,
            keep_expired: false,
            metadata_field,
            message: PhantomData,
        }
    }

    /// Subscribes to what matches a pattern.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the pattern.
    pub fn pattern(pattern: impl Into<Name>) -> Result<Self, InvalidPattern> {
        Ok(Self::to(Pattern::parse(pattern)?, None))
    }

    /// Adds a pattern.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the pattern.
    pub fn and(mut self, pattern: impl Into<Name>) -> Result<Self, InvalidPattern> {
        self.patterns.push(Pattern::parse(pattern)?);
        Ok(self)
    }

    /// Consumes from a durable queue of that name: subscribers that share it compete, and what
    /// arrives while none is there waits. Without this, the subscriber gets a queue of its own.
    pub fn queue(mut self, name: impl Into<Name>) -> Self {
        self.queue = Some(name.into());
        self
    }

    /// Moves messages that have expired to the dead letters of the named queue. Without this, or on
    /// a queue of the subscriber's own, they are dropped and counted.
    pub fn keep_expired(mut self) -> Self {
        self.keep_expired = true;
        self
    }

    /// Takes at most `count` messages unsettled at a time, instead of the configuration's
    /// `prefetch`.
    pub fn prefetch(mut self, count: u16) -> Self {
        self.prefetch = Some(count.max(1));
        self
    }
}

impl<M> From<Topic<M>> for Subscription<M> {
    fn from(topic: Topic<M>) -> Self {
        Self::to(Pattern::from(&topic), topic.metadata_field())
    }
}

impl From<Pattern> for Subscription<Envelope> {
    fn from(pattern: Pattern) -> Self {
        Self::to(pattern, None)
    }
}
