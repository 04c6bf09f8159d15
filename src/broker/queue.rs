//! What can go wrong with a queue that is used.

use crate::BoxError;

/// A queue cannot be consumed from, counted or purged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// There is no such queue.
    #[error("there is no queue `{queue}`; start the agent that owns it, or declare it")]
    NotFound {
        /// Name of the queue.
        queue: String,
    },
    /// The engine did not allow it.
    #[error("the broker denied access to `{queue}`: {reason}")]
    Denied {
        /// Name of the queue.
        queue: String,
        /// What the engine said.
        reason: String,
    },
    /// The engine cannot be reached, or did not answer in time.
    #[error("the broker is not available: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
        /// What the client library said, if it did.
        source: Option<BoxError>,
    },
    /// The bus was closed by this process.
    #[error("the bus is closed")]
    Closed,
}
