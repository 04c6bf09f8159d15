//! Publishes dead letters to their agent once more.

use std::{collections::HashSet, num::NonZeroU32, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::{DeadLetter, DeadLetterError, DeadLetterFilter, DeadLetters, walk::Walk};
use crate::{
    broker::{Destination, PublishError},
    contract::Name,
    message::{Envelope, FailureKind, Id},
};

/// How dead letters are replayed.
///
/// ```
/// # use agentbus::client::ReplayOptions;
/// let careful = ReplayOptions::default().at_most(10);
/// let not_yet = ReplayOptions::default().dry_run();
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ReplayOptions {
    dry_run: bool,
    rate: Option<NonZeroU32>,
    payload: Option<Bytes>,
    to: Option<Name>,
}

impl ReplayOptions {
    /// Only tells what would be replayed, and to where.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Replays at most that many letters a second (0 counts as 1).
    ///
    /// Other readers see none of the letters meanwhile.
    pub fn at_most(mut self, per_second: u32) -> Self {
        self.rate = NonZeroU32::new(per_second.max(1));
        self
    }

    /// Replays one letter, which the filter must name by its id, with another body.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// Publishes to that queue instead of the agent's own.
    pub fn to(mut self, queue: impl Into<Name>) -> Self {
        self.to = Some(queue.into());
        self
    }
}

/// A letter that was come to, and what became of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Replayed {
    /// The letter.
    pub letter: DeadLetter,
    /// Queue the copy went to.
    pub to: Name,
    /// What became of it.
    pub outcome: ReplayOutcome,
}

/// What became of a letter in a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayOutcome {
    /// Its copy is confirmed, and the letter removed.
    Sent,
    /// It is as it was: this is a dry run.
    WouldBeSent,
    /// It is as it was, for a reason that will not go away by itself.
    Kept(String),
}

/// A replay of the dead letters that a filter takes, one by one.
///
/// A letter's copy has the same message id, the original topic, and the body and free headers of
/// the original; its attempts begin anew. Nobody waits for its outcome: the requester, if there was
/// one, has had its error, so that deadline, expiry and reply address are left out, and what the
/// handler returns goes nowhere.
///
/// The letter is removed once its copy is confirmed. A replay that is dropped, or whose process
/// dies, stops there: nothing is lost. What was removed in the last moments before that, or
/// before the connection was lost, may still be there although its copy was taken, since the bus
/// is told of removals a few at a time; to replay it again publishes a duplicate under the same
/// message id.
///
/// # What a replica failed on
///
/// Where a replica got the message by itself ([`on_each`](crate::Routes::on_each)), the copy goes
/// to that replica's own queue. If that is gone, it goes to the queue that the replicas share, and
/// whichever gets it handles it by its `on_each` route.
///
/// # What fails again
///
/// It becomes a dead letter again, and is left alone by the replay that is under way.
#[derive(Debug)]
#[must_use = "a replay does nothing until it is asked for the first letter"]
pub struct Replay {
    letters: DeadLetters,
    walk: Walk,
    filter: DeadLetterFilter,
    options: ReplayOptions,
    met: u64,
    /// What was sent, by message id and replica.
    sent: HashSet<(Id, Option<Name>)>,
    /// When the rate allows the next one.
    next_at: Instant,
}

impl Replay {
    pub(super) fn new(
        letters: DeadLetters,
        filter: DeadLetterFilter,
        options: ReplayOptions,
    ) -> Self {
        let walk = letters.walk();
        let next_at = Instant::now();
        Self { letters, walk, filter, options, met: 0, sent: HashSet::new(), next_at }
    }

    /// Replays the next letter; `None` after the last one.
    ///
    /// # Errors
    ///
    /// Returns an error where the letters cannot be read, or a copy is not confirmed: its letter is
    /// still there then, as are those that were not come to. The next call goes on with the others.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves the letter it was at where it is; its copy may have been published.
    /// The next call goes on with the others.
    pub async fn next(&mut self) -> Result<Option<Replayed>, DeadLetterError> {
        if self.options.payload.is_some() && !self.filter.names_one() {
            return Err(DeadLetterError::EditsMany);
        }
        while self.met < self.filter.most() {
            let Some(taken) = self.walk.next().await? else { return Ok(None) };
            let letter = taken.letter();
            let key = letter.id().map(|id| (id.clone(), instance(letter, &self.letters.queue)));
            let again = key.as_ref().is_some_and(|key| self.sent.contains(key));
            if again || !self.filter.takes(letter) {
                self.walk.keep(taken);
                continue;
            }
            self.met += 1;
            let Some(to) = self.destination() else {
                let letter = self.walk.keep(taken);
                let reason = "nothing says which queue it belongs to: name one".to_owned();
                let outcome = ReplayOutcome::Kept(reason);
                return Ok(Some(Replayed { letter, to: Name::from_static(""), outcome }));
            };
            if self.options.dry_run {
                let letter = self.walk.keep(taken);
                return Ok(Some(Replayed { letter, to, outcome: ReplayOutcome::WouldBeSent }));
            }
            self.wait_for_turn().await;
            return Ok(Some(match self.publish(letter, to.clone()).await {
                Ok(to) => {
                    self.sent.extend(key);
                    let letter = self.walk.remove(taken);
                    Replayed { letter, to, outcome: ReplayOutcome::Sent }
                }
                Err(PublishError::Invalid { reason, .. }) => {
                    let letter = self.walk.keep(taken);
                    Replayed { letter, to, outcome: ReplayOutcome::Kept(reason) }
                }
                Err(source) => {
                    self.walk.keep(taken);
                    return Err(DeadLetterError::Publish { to, source: Box::new(source) });
                }
            }));
        }
        self.walk.finish().await;
        Ok(None)
    }

    /// Replays all of them, and returns how many were sent; stops at the first error.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn run(&mut self) -> Result<u64, DeadLetterError> {
        let mut sent = 0;
        while let Some(replayed) = self.next().await? {
            sent += u64::from(replayed.outcome == ReplayOutcome::Sent);
        }
        Ok(sent)
    }

    /// Tells whether letters may be left, because somebody else was holding some to the end.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.walk.is_partial()
    }

    fn destination(&self) -> Option<Name> {
        self.options.to.clone().or_else(|| self.letters.work.clone())
    }

    async fn wait_for_turn(&mut self) {
        let Some(rate) = self.options.rate else { return };
        sleep_until(self.next_at).await;
        self.next_at = Instant::now() + Duration::from_secs(1) / rate.get();
    }

    /// Publishes the copy of a letter, and returns the queue that it is in.
    async fn publish(&self, letter: &DeadLetter, to: Name) -> Result<Name, PublishError> {
        let broker = self.letters.client.broker();
        let mut copy = copy(letter, self.options.payload.as_ref());
        if self.options.to.is_none()
            && let Some(instance) = instance(letter, &self.letters.queue)
        {
            let own = Name::from(format!("{to}.{instance}"));
            match broker.publish(Destination::Queue(&own), copy).await {
                Ok(()) => return Ok(own),
                Err(PublishError::Unroutable { envelope, .. }) => copy = *envelope,
                Err(error) => return Err(error),
            }
            copy.metadata.replica = Some(instance);
        }
        broker.publish(Destination::Queue(&to), copy).await?;
        Ok(to)
    }
}

/// Makes what is published anew.
fn copy(letter: &DeadLetter, payload: Option<&Bytes>) -> Envelope {
    let mut copy = letter.envelope().clone();
    copy.topic = letter.topic().cloned();
    let metadata = &mut copy.metadata;
    metadata.failure = None;
    metadata.attempt = None;
    metadata.due_at = None;
    metadata.deadline = None;
    metadata.expires_at = None;
    metadata.reply_to = None;
    metadata.replica = None;
    if let Some(payload) = payload {
        copy.payload = payload.clone();
    }
    copy
}

/// Returns the replica that failed on its own copy of a message.
///
/// Where the bus itself gave up on it, the failure names the queue.
fn instance(letter: &DeadLetter, dead_letters: &str) -> Option<Name> {
    let failure = letter.failure()?;
    if failure.instance.is_some() || failure.kind != FailureKind::CrashLoop {
        return failure.instance.clone();
    }
    let work = dead_letters.strip_suffix(".dlq")?;
    let instance = failure.agent.strip_prefix(work)?.strip_prefix('.')?;
    Some(instance.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Failure, Metadata, Timestamp};

    fn failure(kind: FailureKind, agent: &'static str) -> DeadLetter {
        let failure = Failure {
            kind,
            error: "why".into(),
            agent: agent.into(),
            instance: None,
            topic: Some("a.b".into()),
            attempts: 4,
            at: Timestamp::now(),
        };
        let metadata = Metadata {
            message_id: Some("one".into()),
            correlation_id: Some("question".into()),
            reply_to: Some("asker".into()),
            deadline: Some(Timestamp::now()),
            expires_at: Some(Timestamp::now()),
            due_at: Some(Timestamp::now()),
            attempt: Some(4),
            failure: Some(Box::new(failure)),
            ..Metadata::default()
        };
        DeadLetter::new(Envelope { topic: None, metadata, payload: "body".into() })
    }

    #[test]
    fn a_copy_is_the_message_as_if_it_were_new() {
        let letter = failure(FailureKind::Handler, "data");
        let metadata = Metadata {
            message_id: Some("one".into()),
            correlation_id: Some("question".into()),
            ..Metadata::default()
        };
        let expected = Envelope { topic: Some("a.b".into()), metadata, payload: "body".into() };
        assert_eq!(copy(&letter, None), expected);
        assert_eq!(copy(&letter, Some(&"edited".into())).payload, "edited");
    }

    #[test]
    fn a_crash_loop_says_which_replica_by_the_name_of_its_queue() {
        let found = |kind, agent| instance(&failure(kind, agent), "data.dlq");
        assert_eq!(found(FailureKind::CrashLoop, "data.0a"), Some("0a".into()));
        assert_eq!(found(FailureKind::CrashLoop, "data"), None);
        assert_eq!(found(FailureKind::Handler, "data.0a"), None);
    }
}
