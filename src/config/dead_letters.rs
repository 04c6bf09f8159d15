//! What is kept of messages that could not be handled.

use std::time::Duration;

/// An agent's dead-letter queue. Its bounds are arguments of the queue: changing them for a queue that exists is an error
/// of declaring.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetters {
    /// How long a dead letter is kept. Default 24 h, 1 s–45 days.
    pub ttl: Duration,
    /// How many are kept. Default 100 000, 1–10⁹.
    pub max_length: u64,
    /// How many bytes of bodies are kept. Default 1 GiB, 1 KiB–1 TiB.
    pub max_bytes: u64,
    /// What happens when they are full. Default [`Overflow::Pause`].
    pub overflow: Overflow,
    /// Whether agents publish an [event](crate::agent::DEAD_LETTERED) for each dead letter. Default `false`.
    pub announce: bool,
}

/// What happens when the dead letters are full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The agent pauses and its health is red; nothing is lost.
    #[default]
    Pause,
    /// The oldest dead letters are dropped.
    DropOldest,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self {
            ttl: Duration::from_hours(24),
            max_length: 100_000,
            max_bytes: 1 << 30,
            overflow: Overflow::Pause,
            announce: false,
        }
    }
}
