//! Dead letters: what could not be handled, to be looked at, replayed, or removed.

mod error;
mod filter;
mod letter;
mod list;
mod purge;
mod queue;
mod record;
mod replay;
mod walk;

pub(crate) use self::queue::{dead_letter_queue, dead_letter_spec};
use self::walk::Walk;
pub use self::{
    error::DeadLetterError,
    filter::DeadLetterFilter,
    letter::DeadLetter,
    list::DeadLetterList,
    purge::Purge,
    record::LetterJsonError,
    replay::{Replay, ReplayOptions, ReplayOutcome, Replayed},
};
use super::Client;
use crate::{broker::Destination, contract::Name, message::Id};

/// The dead letters of one agent, or of any queue that has some.
///
/// They are looked at where they lie: a reader takes them from the queue, keeps hold of them until
/// it has been through, and gives them back as they were and in their order. So nothing is lost
/// whatever ends a reader, be it a dropped future, a lost connection or a killed process.
///
/// # Two at once
///
/// What one reader holds, another does not see. A reader that notices another one gives everything
/// back, waits a little and goes through once more, a few times; the letters it has met already are
/// not shown again. If the other one is still there (a slow replay, say), the reader ends and
/// [`DeadLetterList::is_partial`] tells so. No letter is lost by it, nor replayed twice.
///
/// # Bounds
///
/// A reader keeps about 100 bytes for each letter of the queue, which holds 100 000 by default, and
/// the bodies of at most 500 letters. One that goes on for more than five minutes gives back what
/// it holds from time to time. Where letters arrive faster than they are read, it ends all the same.
///
/// ```
/// use agentbus::{Client, client::DeadLetterFilter, message::FailureKind};
///
/// # async fn look(client: Client) -> Result<(), agentbus::client::DeadLetterError> {
/// let rejected = DeadLetterFilter::default().kind(FailureKind::Rejected);
/// let mut letters = client.dead_letters("data").list(rejected);
/// while let Some(letter) = letters.next().await? {
///     println!("{:?} {:?}", letter.id(), letter.failure());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DeadLetters {
    client: Client,
    /// Where the letters are.
    queue: Name,
    /// Where replays go; none where that is not known.
    work: Option<Name>,
}

impl Client {
    /// Gives access to the dead letters of an agent.
    ///
    /// The configuration's `queue_prefix` goes before the name.
    #[must_use]
    pub fn dead_letters(&self, agent: &str) -> DeadLetters {
        self.dead_letters_of_queue(format!("{}{agent}", self.config().queue_prefix))
    }

    /// Gives access to the dead letters of a queue, such as one that subscribers share.
    #[must_use]
    pub fn dead_letters_of_queue(&self, queue: impl Into<Name>) -> DeadLetters {
        let work = queue.into();
        DeadLetters { client: self.clone(), queue: dead_letter_queue(&work), work: Some(work) }
    }

    /// Gives access to the delayed messages that nobody was bound to when they were due.
    ///
    /// They have no failure, and where they belong is not known:
    /// [`ReplayOptions::to`] has to say it.
    #[must_use]
    pub fn undeliverable(&self) -> DeadLetters {
        let queue = match self.broker().kind() {
            "memory" => Name::from_static(crate::broker::memory::UNDELIVERABLE),
            _ => format!("{}.delay.v1.undeliverable", self.config().exchange).into(),
        };
        DeadLetters { client: self.clone(), queue, work: None }
    }
}

impl DeadLetters {
    /// Returns the name of the queue the letters are in.
    #[must_use]
    pub fn queue(&self) -> &Name {
        &self.queue
    }

    /// Counts the letters that nobody holds at the moment.
    ///
    /// # Errors
    ///
    /// Returns an error where the queue does not exist or the bus cannot be reached.
    pub async fn count(&self) -> Result<u64, DeadLetterError> {
        let stats = self.client.broker().stats(&self.queue).await;
        Ok(stats.map_err(|error| self.failed(error))?.ready)
    }

    /// Lists the letters that a filter takes, the oldest first.
    ///
    /// Nothing is read before the first [`next`](DeadLetterList::next). Letters that are the same in
    /// every respect, message id included, are one letter that was written twice, and shown once.
    pub fn list(&self, filter: DeadLetterFilter) -> DeadLetterList {
        DeadLetterList::new(self.walk(), filter)
    }

    /// Finds a letter by its message id; the oldest, where there are several, as for replicas that
    /// failed on their copies of one message.
    ///
    /// # Errors
    ///
    /// Returns an error where the queue does not exist or the bus cannot be reached.
    pub async fn get(&self, id: impl Into<Id>) -> Result<Option<DeadLetter>, DeadLetterError> {
        self.list(DeadLetterFilter::default().id(id).limit(1)).next().await
    }

    /// Publishes the letters that a filter takes to the agent's queue once more, and removes each
    /// one when its copy is confirmed.
    ///
    /// See [`Replay`], which does nothing until it is asked for the first one.
    pub fn replay(&self, filter: DeadLetterFilter, options: ReplayOptions) -> Replay {
        Replay::new(self.clone(), filter, options)
    }

    /// Removes the letters that a filter takes, for good.
    ///
    /// See [`Purge`], which does nothing until it is asked for the first one.
    pub fn purge(&self, filter: DeadLetterFilter) -> Purge {
        Purge::new(self.walk(), filter)
    }

    /// Puts a letter into the queue, such as one that was read from an export.
    ///
    /// It is kept as long as any other, counted from now.
    ///
    /// # Errors
    ///
    /// Returns why it was not taken.
    pub async fn put(&self, letter: DeadLetter) -> Result<(), DeadLetterError> {
        let to = Destination::Queue(&self.queue);
        let put = self.client.broker().publish(to, letter.into_envelope()).await;
        put.map_err(|source| DeadLetterError::Publish {
            to: self.queue.clone(),
            source: Box::new(source),
        })
    }

    fn walk(&self) -> Walk {
        Walk::new(self.client.clone(), self.queue.clone())
    }

    fn failed(&self, error: crate::broker::QueueError) -> DeadLetterError {
        DeadLetterError::of(&self.queue, error)
    }
}
