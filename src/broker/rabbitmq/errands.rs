//! Channels for single questions about queues: counting, emptying, deleting, fetching.
//!
//! One of them is kept for the next question: lapin remembers every channel that was ever opened
//! for as long as the connection lives, and to open and close one costs two round trips. While it
//! is asked on, a channel is one asker's alone, since the broker closes it over what goes wrong.
//! What is declared is declared elsewhere: lapin notes that, too, for as long as the channel lives.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lapin::{Channel, types::ShortString};

use super::{
    fault::{Answers, Fault},
    link::Session,
};

/// How many questions a channel is used for: lapin also notes the name of each queue that is
/// counted.
const MOST: u32 = 256;

/// Where questions get their channel.
#[derive(Debug)]
pub(super) struct Errands {
    answers: Answers,
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    channel: Channel,
    /// Number of its connection.
    connection: u64,
    /// How many questions were asked on it.
    asked: u32,
}

/// A channel to ask on. Dropped before it is [`done`](Self::done), it is closed: an answer may be
/// on its way that the next one would take for its own.
#[derive(Debug)]
#[must_use = "dropping this closes the channel"]
pub(super) struct Errand<'a> {
    errands: &'a Errands,
    kept: Kept,
}

impl Errands {
    pub(super) fn new(answers: Answers) -> Self {
        Self { answers, kept: Mutex::default() }
    }

    /// Takes the channel that is kept, or opens one.
    pub(super) async fn begin(&self, session: &Session) -> Result<Errand<'_>, Fault> {
        let connection = session.number;
        let kept = self.kept().take_if(|kept| kept.connection == connection);
        let kept = match kept.filter(Kept::is_alive) {
            Some(kept) => kept,
            None => Kept { channel: session.channel().await?, connection, asked: 0 },
        };
        Ok(Errand { errands: self, kept })
    }

    /// Keeps a channel, and returns the one that there is no use for.
    fn keep(&self, back: Kept) -> Option<Kept> {
        let mut kept = self.kept();
        let has_another =
            kept.as_ref().is_some_and(|it| it.connection >= back.connection && it.is_alive());
        if has_another || back.asked >= MOST { Some(back) } else { kept.replace(back) }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn is_alive(&self) -> bool {
        self.channel.status().connected()
    }
}

impl Errand<'_> {
    pub(super) fn channel(&self) -> &Channel {
        &self.kept.channel
    }

    /// Leaves the channel to the next question; everything asked on it has been answered well.
    pub(super) async fn done(self) {
        let Self { errands, mut kept } = self;
        kept.asked += 1;
        if let Some(spare) = errands.keep(kept)
            && spare.is_alive()
        {
            let closed = spare.channel.close(200, ShortString::from("done"));
            if let Err(error) = errands.answers.within(closed).await {
                tracing::debug!(%error, "a channel did not close cleanly");
            }
        }
    }
}
