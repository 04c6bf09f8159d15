//! Where an envelope is published to.

use std::fmt;

use crate::contract::Name;

/// Where an envelope goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// To every queue with a binding that matches the topic.
    Topic(&'a Name),
    /// To one queue, by name: dead letters, retries, replays.
    Queue(&'a str),
    /// To where the requester waits: an inbox (at most once) or a queue.
    Reply(&'a str),
}

impl Destination<'_> {
    /// Returns the topic, queue or address by itself.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Topic(topic) => topic,
            Self::Queue(name) | Self::Reply(name) => name,
        }
    }
}

impl fmt::Display for Destination<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "topic `{topic}`"),
            Self::Queue(queue) => write!(f, "queue `{queue}`"),
            Self::Reply(address) => write!(f, "reply address `{address}`"),
        }
    }
}
