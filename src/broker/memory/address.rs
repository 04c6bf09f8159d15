//! Where messages go, now or later.

use std::sync::Arc;

use super::{exchange::BoundQueues, queue::Queue};
use crate::{broker::Destination, contract::Name};

/// The queues that a message goes to.
#[derive(Debug)]
pub(super) enum Reached {
    Bound(BoundQueues),
    Named(Option<Arc<Queue>>),
}

/// A destination that is kept until a message is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Topic(Name),
    Queue(Name),
    Reply(Name),
}

impl Reached {
    pub(super) fn queues(&self) -> &[Arc<Queue>] {
        match self {
            Self::Bound(queues) => queues,
            Self::Named(queue) => queue.as_slice(),
        }
    }
}

impl Address {
    pub(super) fn as_destination(&self) -> Destination<'_> {
        match self {
            Self::Topic(topic) => Destination::Topic(topic),
            Self::Queue(name) => Destination::Queue(name),
            Self::Reply(address) => Destination::Reply(address),
        }
    }
}

impl From<Destination<'_>> for Address {
    fn from(to: Destination<'_>) -> Self {
        match to {
            Destination::Topic(topic) => Self::Topic(topic.clone()),
            Destination::Queue(name) => Self::Queue(name.into()),
            Destination::Reply(address) => Self::Reply(address.into()),
        }
    }
}
