//! What a queue holds.

/// Counts of one queue, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Messages ready to be handed out.
    pub ready: u64,
    /// Messages handed out and not settled; `None` where the engine does not tell.
    pub unsettled: Option<u64>,
    /// Consumers of the queue.
    pub consumers: u32,
}
