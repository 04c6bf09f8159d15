//! Lists dead letters.

use super::{DeadLetter, DeadLetterError, DeadLetterFilter, walk::Walk};

/// The dead letters that a filter takes, one by one.
///
/// Holds the letters back from other readers until it ends or is dropped; see
/// [`DeadLetters`](super::DeadLetters).
#[derive(Debug)]
#[must_use = "a list reads nothing until it is asked for the first letter"]
pub struct DeadLetterList {
    walk: Walk,
    filter: DeadLetterFilter,
    listed: u64,
}

impl DeadLetterList {
    pub(super) fn new(walk: Walk, filter: DeadLetterFilter) -> Self {
        Self { walk, filter, listed: 0 }
    }

    /// Returns the next letter; `None` after the last one, when all have been given back.
    ///
    /// # Errors
    ///
    /// Returns an error where the queue does not exist or the bus cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// A dropped future loses no letter; the next call goes on.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, DeadLetterError> {
        while self.listed < self.filter.most() {
            let Some(taken) = self.walk.next().await? else { return Ok(None) };
            let letter = self.walk.keep(taken);
            if self.filter.takes(&letter) {
                self.listed += 1;
                return Ok(Some(letter));
            }
        }
        self.walk.finish().await;
        Ok(None)
    }

    /// Tells whether letters may be missing, because somebody else was holding some to the end.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.walk.is_partial()
    }
}
