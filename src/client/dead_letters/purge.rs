//! Removes dead letters.

use super::{DeadLetter, DeadLetterError, DeadLetterFilter, walk::Walk};

/// The removal of the dead letters that a filter takes, one by one.
///
/// One that is dropped stops there. The bus learns of a removal soon after it is reported: where
/// the connection is lost in that very moment, or the process killed, the letter is still there.
/// [`Client::close`](crate::Client::close) waits for it.
#[derive(Debug)]
#[must_use = "a purge removes nothing until it is asked for the first letter"]
pub struct Purge {
    walk: Walk,
    filter: DeadLetterFilter,
    purged: u64,
}

impl Purge {
    pub(super) fn new(walk: Walk, filter: DeadLetterFilter) -> Self {
        Self { walk, filter, purged: 0 }
    }

    /// Removes the next letter and returns it; `None` after the last one.
    ///
    /// # Errors
    ///
    /// Returns an error where the queue does not exist or the bus cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// A dropped future removes nothing that was not reported; the next call goes on.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, DeadLetterError> {
        while self.purged < self.filter.most() {
            let Some(taken) = self.walk.next().await? else { return Ok(None) };
            if self.filter.takes(taken.letter()) {
                self.purged += 1;
                return Ok(Some(self.walk.remove(taken)));
            }
            self.walk.keep(taken);
        }
        self.walk.finish().await;
        Ok(None)
    }

    /// Removes all of them, and returns how many.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn run(&mut self) -> Result<u64, DeadLetterError> {
        while self.next().await?.is_some() {}
        Ok(self.purged)
    }

    /// Tells whether letters may be left, because somebody else was holding some to the end.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.walk.is_partial()
    }
}
