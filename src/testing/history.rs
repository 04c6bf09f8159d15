//! What happened on a bus, in order, to be read by people.

use std::{collections::HashMap, fmt, time::Duration};

use super::body::Shown;
use crate::{
    contract::Name,
    message::{Envelope, ErrorReply, Id},
};

/// One thing that happened.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// When, since the bus was made.
    pub(super) at: Duration,
    pub(super) event: Event,
    /// The agent concerned: whose handler it was, or who sent it.
    pub(super) agent: Option<Name>,
    /// The topic; for a reply, that of the request.
    pub(super) topic: Option<Name>,
    /// Queue or address it concerns.
    pub(super) place: Option<Name>,
    pub(super) redelivered: bool,
    pub(super) envelope: Envelope,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Sent to a topic.
    Published,
    /// Sent to a queue, and neither a retry nor a dead letter.
    Put,
    /// Sent to where a requester waits.
    Replied,
    Retried {
        delay: Duration,
        attempt: u32,
    },
    Snoozed {
        delay: Duration,
    },
    DeadLettered,
    Delivered,
    Handled,
    /// Settled after its deadline or expiry, unhandled.
    Expired,
    /// Settled by somebody who is no agent.
    Received,
    Released,
    /// Taken from whoever held it.
    TakenBack,
    /// Something that the test did.
    Test(String),
}

/// How sending something ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The bus has it, or there was nothing to send.
    Taken,
    /// The bus has it, and the sender was told otherwise.
    TakenUnknown,
    Pending,
    Failed(String),
}

impl Entry {
    /// Tells whether it counts: what was sent and not taken did not happen.
    pub(super) fn counts(&self) -> bool {
        matches!(self.outcome, Outcome::Taken | Outcome::TakenUnknown)
    }
}

/// All that happened on a [`TestBus`](super::TestBus) until now, one line each.
///
/// A line has the time since the bus was made, who, what, the topic or queue, the body and the
/// message: `#3` is the third message that was seen. Bodies are shown by field number, because
/// they say no more.
#[derive(Clone, Debug)]
pub struct History {
    pub(super) entries: Vec<Entry>,
}

impl History {
    /// Tells whether nothing has happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn lines(&self) -> Vec<Line> {
        let mut numbers = Numbers::default();
        self.entries.iter().map(|entry| Line::of(entry, &mut numbers)).collect()
    }
}

/// Short numbers for messages, in the order they were seen.
#[derive(Default)]
struct Numbers(HashMap<Id, usize>);

impl Numbers {
    fn of(&mut self, envelope: &Envelope) -> String {
        let Some(id) = &envelope.metadata.message_id else { return "(no id)".to_owned() };
        let next = self.0.len() + 1;
        format!("#{}", self.0.entry(id.clone()).or_insert(next))
    }
}

struct Line {
    at: String,
    who: String,
    what: &'static str,
    subject: String,
    rest: String,
}

impl Line {
    fn of(entry: &Entry, numbers: &mut Numbers) -> Self {
        let at = format!("{:.3} s", entry.at.as_secs_f64());
        let who = entry.agent.as_deref().unwrap_or("-").to_owned();
        let place = || entry.place.as_deref().unwrap_or("?").to_owned();
        let subject = entry.topic.as_deref().map_or_else(place, ToOwned::to_owned);
        if let Event::Test(text) = &entry.event {
            let (who, subject) = ("the test".to_owned(), String::new());
            return Self { at, who, what: "", subject, rest: text.clone() };
        }
        let envelope = &entry.envelope;
        let number = numbers.of(envelope);
        let attempt = envelope.metadata.attempt();
        let nth =
            |attempt: u32| if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
        let again = if entry.redelivered { ", redelivered" } else { "" };
        let shown = Shown(envelope);
        let (what, mut rest) = match &entry.event {
            Event::Published => (
                "published",
                match envelope.metadata.due_at {
                    Some(_) => format!("{number} {shown}, delayed"),
                    None => format!("{number} {shown}"),
                },
            ),
            Event::Put => ("put", format!("{number} {shown} into queue `{}`", place())),
            Event::Replied => (
                "replied",
                match ErrorReply::from_envelope(envelope) {
                    Some(error) => format!("{number} with an error: {error}"),
                    None => format!("{number} {shown}"),
                },
            ),
            Event::Retried { delay, attempt } => {
                ("failed", format!("{number}, again in {delay:?} as attempt {attempt}"))
            }
            Event::Snoozed { delay } => ("snoozed", format!("{number}, again in {delay:?}")),
            Event::DeadLettered => {
                let failure = envelope.metadata.failure.as_deref();
                let reason = failure.map(|failure| format!("{}: {}", failure.kind, failure.error));
                ("gave up", format!("{number}, dead letter ({})", reason.unwrap_or_default()))
            }
            Event::Delivered => ("got", format!("{number}{}{again}", nth(attempt))),
            Event::Handled => ("handled", format!("{number}{}", nth(attempt))),
            Event::Expired => ("dropped", format!("{number}, its time had passed")),
            Event::Received => ("received", format!("{number} from queue `{}`", place())),
            Event::Released => ("released", number),
            Event::TakenBack => ("lost", format!("{number}, which goes back to the queue")),
            Event::Test(_) => ("", String::new()),
        };
        match &entry.outcome {
            Outcome::Taken => {}
            Outcome::TakenUnknown => rest += " (taken; the sender was told it is not known)",
            Outcome::Pending => rest += " (not confirmed yet)",
            Outcome::Failed(why) => rest = format!("{rest} (NOT TAKEN: {why})"),
        }
        Self { at, who, what, subject, rest }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        let width = |of: fn(&Line) -> &str| lines.iter().map(|line| of(line).len()).max();
        let at = width(|line| &line.at).unwrap_or(0);
        let who = width(|line| &line.who).unwrap_or(0);
        let subject = width(|line| &line.subject).unwrap_or(0).min(40);
        if lines.is_empty() {
            return f.write_str("  nothing has happened on this bus\n");
        }
        for line in &lines {
            let Line { at: when, who: name, what, subject: about, rest } = line;
            writeln!(f, "  {when:>at$}  {name:<who$}  {what:<9}  {about:<subject$}  {rest}")?;
        }
        Ok(())
    }
}
