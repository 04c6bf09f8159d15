//! What keeps dead letters from being read or replayed.

use crate::{
    broker::{PublishError, QueueError},
    contract::Name,
};

/// Dead letters could not be read, replayed or removed; those not reported yet are where they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// There is no such queue, so there are no dead letters.
    #[error(
        "there is no queue `{queue}`: its agent has never been started on this bus, or is called otherwise"
    )]
    NotFound {
        /// Name of the queue.
        queue: Name,
    },
    /// The queue could not be read.
    #[error("the dead letters in `{queue}` could not be read")]
    Queue {
        /// Name of the queue.
        queue: Name,
        /// What the broker said.
        source: QueueError,
    },
    /// The queue has letters, and they do not come.
    #[error("`{queue}` has {ready} letters that the broker does not hand out; try again later")]
    Stalled {
        /// Name of the queue.
        queue: Name,
        /// How many letters there are.
        ready: u64,
    },
    /// A letter's copy was not confirmed; the letter is still there.
    ///
    /// Where the cause is [`PublishError::Unconfirmed`], the copy may have been taken: replaying
    /// the letter again may then publish it twice, under the same message id.
    #[error("a letter could not be published to `{to}`; it is still among the dead letters")]
    Publish {
        /// Queue the letter was to go to.
        to: Name,
        /// Why it was not taken.
        source: Box<PublishError>,
    },
    /// A replay with another payload is for one letter, which the filter must name by its id.
    #[error("another payload can be given to one letter only: name it by its message id")]
    EditsMany,
    /// The bus was closed by this process.
    #[error("the bus is closed")]
    Closed,
}

impl DeadLetterError {
    pub(super) fn of(queue: &Name, error: QueueError) -> Self {
        match error {
            QueueError::NotFound { .. } => Self::NotFound { queue: queue.clone() },
            QueueError::Closed => Self::Closed,
            source => Self::Queue { queue: queue.clone(), source },
        }
    }
}
