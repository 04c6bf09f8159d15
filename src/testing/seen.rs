//! One thing that was seen on a bus.

use std::{fmt, time::Duration};

use super::history::{Entry, Event};
use crate::{
    contract::Name,
    message::{DecodeError, Envelope, ErrorReply, Failure, FromEnvelope},
};

/// A message that was seen on a [`TestBus`](super::TestBus), with what became of it.
pub struct Seen<M> {
    entry: Entry,
    message: Result<M, DecodeError>,
}

impl<M: FromEnvelope> Seen<M> {
    pub(super) fn of(entry: Entry) -> Self {
        Self { message: M::from_envelope(&entry.envelope), entry }
    }
}

impl<M> Seen<M> {
    /// Returns the message.
    ///
    /// # Panics
    ///
    /// Panics if the body is no `M`: an [error](Self::error) in place of a reply, or the dead
    /// letter of a message of another type.
    #[must_use]
    #[track_caller]
    pub fn message(&self) -> &M {
        match (&self.message, self.error()) {
            (Ok(message), _) => message,
            (Err(_), Some(error)) => {
                panic!("there is no reply, but an error in its place: {error}")
            }
            (Err(error), None) => panic!("the message cannot be read: {error}"),
        }
    }

    /// Takes the message out.
    ///
    /// # Panics
    ///
    /// Panics as [`message`](Self::message) does.
    #[must_use]
    #[track_caller]
    pub fn into_message(self) -> M {
        let error = self.error();
        match (self.message, error) {
            (Ok(message), _) => message,
            (Err(_), Some(error)) => {
                panic!("there is no reply, but an error in its place: {error}")
            }
            (Err(error), None) => panic!("the message cannot be read: {error}"),
        }
    }

    /// Returns the message, or why the body is none.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the body.
    pub fn decoded(&self) -> Result<&M, &DecodeError> {
        self.message.as_ref()
    }

    /// Returns the envelope: headers, ids, deadline. A retry's is the copy that was sent.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.entry.envelope
    }

    /// Returns the agent whose handler it was, or that sent it: what it calls itself.
    #[must_use]
    pub fn agent(&self) -> Option<&Name> {
        self.entry.agent.as_ref()
    }

    /// Returns the topic it is about; of a reply, that of the request.
    #[must_use]
    pub fn topic(&self) -> Option<&Name> {
        self.entry.topic.as_ref()
    }

    /// Returns when it was, since the bus was made.
    #[must_use]
    pub fn at(&self) -> Duration {
        self.entry.at
    }

    /// Returns the number of the attempt; of a retry, that of the attempt to come.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.entry.envelope.metadata.attempt()
    }

    /// Returns after how long it is tried again, or called again where it was snoozed.
    ///
    /// Times at which messages are due are whole milliseconds, so it may be off by one.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        match self.entry.event {
            Event::Retried { delay, .. } | Event::Snoozed { delay } => Some(delay),
            _ => None,
        }
    }

    /// Tells whether a delivery was marked as redelivered.
    #[must_use]
    pub fn is_redelivered(&self) -> bool {
        self.entry.redelivered
    }

    /// Returns why it is a dead letter.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.entry.envelope.metadata.failure.as_deref()
    }

    /// Returns the error that was sent in place of a reply.
    #[must_use]
    pub fn error(&self) -> Option<ErrorReply> {
        ErrorReply::from_envelope(&self.entry.envelope)
    }
}

impl<M: fmt::Debug> fmt::Display for Seen<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.at().as_secs_f64())?;
        if let Some(agent) = self.agent() {
            write!(f, ", {agent}")?;
        }
        let attempt = self.attempt();
        match (self.delay(), self.failure()) {
            (Some(delay), _) => write!(f, ", attempt {attempt} in {delay:?}")?,
            (None, Some(failure)) => write!(f, ", {}: {}", failure.kind, failure.error)?,
            _ if attempt > 1 => write!(f, ", attempt {attempt}")?,
            _ => {}
        }
        if self.is_redelivered() {
            f.write_str(", redelivered")?;
        }
        match (&self.message, self.error()) {
            (_, Some(error)) => write!(f, ": an error: {error}"),
            (Ok(message), None) => write!(f, ": {message:?}"),
            (Err(error), None) => write!(f, ": {error}"),
        }
    }
}

impl<M: fmt::Debug> fmt::Debug for Seen<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seen({self})")
    }
}
