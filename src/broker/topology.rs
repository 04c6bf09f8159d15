//! Queues as data: what is declared, and declared again after a reconnection.

use std::time::Duration;

use crate::{
    BoxError,
    contract::{MAX_NAME_BYTES, Name, Pattern},
    message::Priorities,
};

/// A queue to be declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// Name of the queue.
    pub name: Name,
    /// What the queue is for, which decides how the engine keeps it.
    pub role: QueueRole,
    /// How the queue orders messages by their priority. Only work queues
    /// ([`QueueRole::Work`]) do; for all others this has no effect.
    pub priorities: Priorities,
    /// What the queue is bound with.
    pub bindings: Vec<Pattern>,
    /// What the queue was once bound with and is no more.
    pub retired: Vec<Pattern>,
}

/// What a queue is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueRole {
    /// Shared by all replicas of an agent: durable, replicated where the engine can.
    Work {
        /// Queue that what the engine gives up on goes to.
        dead_letters: Name,
        /// How many messages it holds; a publish to a full queue waits, then is refused.
        max_length: u64,
    },
    /// Of one replica: vanishes some time after its owner.
    Replica {
        /// Queue that what the engine gives up on goes to.
        dead_letters: Name,
        /// How many messages it holds.
        max_length: u64,
        /// How long it outlives its last consumer.
        expires: Duration,
    },
    /// Of one subscriber without an agent: as a replica's, without dead letters.
    Private {
        /// How many messages it holds.
        max_length: u64,
        /// How long it outlives its last consumer.
        expires: Duration,
    },
    /// Of one who only looks on: as a private one, but the oldest message makes room for the next,
    /// so that no publisher is ever refused because of it.
    Watch {
        /// How many messages it holds.
        max_length: u64,
        /// How many bytes of bodies it holds.
        max_bytes: u64,
        /// How long it outlives its last consumer.
        expires: Duration,
        /// Queue that what made room goes to, so that it can be counted; such a queue is itself
        /// one to watch, without bindings.
        dropped: Option<Name>,
    },
    /// Dead letters of an agent.
    DeadLetters(DeadLetterLimits),
}

/// How many dead letters are kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetterLimits {
    /// How long one is kept.
    pub ttl: Duration,
    /// How many are kept.
    pub max_length: u64,
    /// How many bytes of bodies are kept.
    pub max_bytes: u64,
    /// What happens when there is no room.
    pub overflow: Overflow,
}

/// What happens to a dead letter for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It is refused, so that the agent pauses and nothing is lost.
    #[default]
    Refuse,
    /// The oldest dead letter is dropped.
    DropOldest,
}

impl Default for DeadLetterLimits {
    /// 24 hours, 100 000 messages, 1 GiB, refuse.
    fn default() -> Self {
        Self {
            ttl: Duration::from_hours(24),
            max_length: 100_000,
            max_bytes: 1 << 30,
            overflow: Overflow::Refuse,
        }
    }
}

impl QueueSpec {
    /// Describes a queue without bindings.
    #[must_use]
    pub fn new(name: impl Into<Name>, role: QueueRole) -> Self {
        Self {
            name: name.into(),
            role,
            priorities: Priorities::Off,
            bindings: Vec::new(),
            retired: Vec::new(),
        }
    }

    /// Sets how the queue orders messages by their priority; by default not at all.
    #[must_use]
    pub fn priorities(mut self, priorities: Priorities) -> Self {
        self.priorities = priorities;
        self
    }

    /// Returns how the queue really orders messages: only a work queue has a choice.
    #[must_use]
    pub fn order(&self) -> Priorities {
        match self.role {
            QueueRole::Work { .. } => self.priorities,
            _ => Priorities::Off,
        }
    }

    /// Binds the queue with a pattern.
    #[must_use]
    pub fn bind(mut self, pattern: Pattern) -> Self {
        self.bindings.push(pattern);
        self
    }

    /// Checks the name: 1 to [`MAX_NAME_BYTES`] bytes without white space or control characters,
    /// and none that the broker keeps for itself.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it.
    pub fn check_name(&self) -> Result<(), TopologyError> {
        let name = &self.name;
        let reason = if name.is_empty() || name.len() > MAX_NAME_BYTES {
            "it must have 1 to 197 bytes"
        } else if name.starts_with("amq.") {
            "names that start with `amq.` belong to the broker"
        } else if name.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            "it has white space or a control character"
        } else {
            return Ok(());
        };
        Err(TopologyError::InvalidName { queue: name.clone(), reason })
    }
}

/// A queue cannot be declared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// The name cannot be used.
    #[error("`{queue}` cannot be the name of a queue: {reason}")]
    InvalidName {
        /// The name.
        queue: Name,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The queue exists with other arguments.
    #[error(
        "queue `{queue}` exists with other arguments: `{argument}` is {theirs}, ours is {ours}; \
         delete the queue, or set `declare = \"passive\"` to use it as it is"
    )]
    Mismatch {
        /// Name of the queue.
        queue: Name,
        /// The argument that differs.
        argument: String,
        /// The value we declare.
        ours: String,
        /// The value the queue has.
        theirs: String,
    },
    /// Declaring is off (`declare = "passive"`) and the queue or exchange does not exist.
    #[error(
        "`{name}` does not exist and `declare = \"passive\"` forbids creating it; create it, or set `declare = \"active\"`"
    )]
    Missing {
        /// Name of the queue or exchange.
        name: Name,
    },
    /// The engine did not allow it.
    #[error("the broker denied declaring `{queue}`: {reason}")]
    Denied {
        /// Name of the queue.
        queue: Name,
        /// What the engine said.
        reason: String,
    },
    /// The engine cannot be reached, or did not answer in time.
    #[error("queue `{queue}` could not be declared, the broker is not available: {reason}")]
    Unavailable {
        /// Name of the queue.
        queue: Name,
        /// What happened.
        reason: String,
        /// What the client library said, if it did.
        source: Option<BoxError>,
    },
    /// The bus was closed by this process.
    #[error("the bus is closed, so `{queue}` cannot be declared")]
    Closed {
        /// Name of the queue.
        queue: Name,
    },
}
