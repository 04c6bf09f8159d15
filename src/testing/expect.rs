//! Checks: what a test expects to have been seen.

use std::{
    fmt::{self, Write as _},
    panic::Location,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    bus::TestBus,
    history::{Entry, Event},
    seen::Seen,
};
use crate::{
    contract::{Name, Pattern},
    message::{Code, FailureKind, FromEnvelope},
};

/// How much the delay of a retry may be off: times are whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

/// How many of those that were found are listed.
const LISTED: usize = 20;

/// What a test expects to have been seen on a [`TestBus`].
///
/// Filters narrow it down: [`with`](Self::with), [`by`](Self::by), [`attempt`](Self::attempt) and so
/// on. Then a check: [`once`](Self::once), [`times`](Self::times), [`none`](Self::none),
/// [`at_least`](Self::at_least) look at what has happened until now, usually after
/// [`TestBus::settled`]; [`wait_for`](Self::wait_for) waits. A check that fails panics with what
/// was found and the history of the bus, and one that holds returns what it found.
#[must_use = "nothing is checked before `once`, `times`, `none`, `at_least` or `wait_for`"]
pub struct Expect<M> {
    bus: TestBus,
    kind: Kind,
    text: String,
    conditions: Vec<Condition<M>>,
}

/// A filter, and how it reads.
struct Condition<M> {
    text: String,
    holds: Holds<M>,
}

type Holds<M> = Box<dyn Fn(&Seen<M>) -> bool + Send + Sync>;

/// What kind of thing is looked for.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Published,
    Delivered,
    Handled,
    Replied,
    Retried,
    Snoozed,
    DeadLettered,
    Expired,
}

impl Kind {
    fn is(self, entry: &Entry) -> bool {
        let fits = match self {
            Self::Published => entry.event == Event::Published,
            Self::Delivered => entry.event == Event::Delivered && entry.agent.is_some(),
            Self::Handled => entry.event == Event::Handled,
            Self::Replied => entry.event == Event::Replied,
            Self::Retried => matches!(entry.event, Event::Retried { .. }),
            Self::Snoozed => matches!(entry.event, Event::Snoozed { .. }),
            Self::DeadLettered => entry.event == Event::DeadLettered,
            Self::Expired => entry.event == Event::Expired,
        };
        fits && entry.counts()
    }

    fn participle(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Delivered => "delivered",
            Self::Handled => "handled",
            Self::Replied => "replied",
            Self::Retried => "retried",
            Self::Snoozed => "snoozed",
            Self::DeadLettered => "dead-lettered",
            Self::Expired => "expired",
        }
    }

    pub(super) fn on_topic(self) -> String {
        format!("messages {} on topic", self.participle())
    }

    pub(super) fn on_topics(self) -> String {
        format!("messages {} on", self.participle())
    }

    pub(super) fn by_agent(self) -> String {
        let preposition = if self == Self::Delivered { "to" } else { "by" };
        format!("messages {} {preposition} agent", self.participle())
    }
}

impl<M: FromEnvelope + fmt::Debug> Expect<M> {
    pub(super) fn new(
        bus: TestBus,
        kind: Kind,
        topic: Option<Name>,
        agent: Option<Name>,
        text: impl Into<String>,
    ) -> Self {
        let name = topic.as_ref().or(agent.as_ref()).map_or("", |name| name);
        let text = format!("{} `{name}`", text.into());
        let mut this = Self::all(bus, kind, text);
        if let Some(topic) = topic {
            this = this.quietly(move |seen| seen.topic() == Some(&topic));
        }
        if let Some(agent) = agent {
            this = this.quietly(move |seen| seen.agent() == Some(&agent));
        }
        this
    }

    pub(super) fn all(bus: TestBus, kind: Kind, text: String) -> Self {
        Self { bus, kind, text, conditions: Vec::new() }
    }

    pub(super) fn matching_topic(self, pattern: Pattern) -> Self {
        self.quietly(move |seen| seen.topic().is_some_and(|topic| pattern.matches(topic)))
    }

    fn quietly(self, holds: impl Fn(&Seen<M>) -> bool + Send + Sync + 'static) -> Self {
        self.and(String::new(), holds)
    }

    fn and(
        mut self,
        text: String,
        holds: impl Fn(&Seen<M>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.conditions.push(Condition { text, holds: Box::new(holds) });
        self
    }

    /// Looks only for messages for which `condition` is true. What cannot be read is left out.
    #[track_caller]
    pub fn with(self, condition: impl Fn(&M) -> bool + Send + Sync + 'static) -> Self {
        let text = format!("with what line {} asks for", Location::caller().line());
        self.and(text, move |seen| seen.decoded().is_ok_and(&condition))
    }

    /// Looks only for messages whose circumstances fulfil `condition`: headers, ids, times.
    #[track_caller]
    pub fn when(self, condition: impl Fn(&Seen<M>) -> bool + Send + Sync + 'static) -> Self {
        let text = format!("when what line {} asks for holds", Location::caller().line());
        self.and(text, condition)
    }

    /// Looks only for what concerns this agent: its handler, or what it has sent.
    pub fn by(self, agent: impl Into<Name>) -> Self {
        let agent = agent.into();
        self.and(format!("by `{agent}`"), move |seen| seen.agent() == Some(&agent))
    }

    /// Looks only for attempts of this number; with retries, the attempt to come.
    pub fn attempt(self, number: u32) -> Self {
        self.and(format!("as attempt {number}"), move |seen| seen.attempt() == number)
    }

    /// Looks only for what is tried again after this delay, give or take 2 ms of rounding.
    pub fn after(self, delay: Duration) -> Self {
        self.and(format!("after {delay:?}"), move |seen| {
            seen.delay().is_some_and(|seen| seen.abs_diff(delay) <= ROUNDING)
        })
    }

    /// Looks only for deliveries that are marked as redelivered.
    pub fn redelivered(self) -> Self {
        self.and("redelivered".to_owned(), Seen::is_redelivered)
    }

    /// Looks only for dead letters of this kind of failure.
    pub fn kind(self, kind: FailureKind) -> Self {
        self.and(format!("of the kind `{kind}`"), move |seen| {
            seen.failure().is_some_and(|failure| failure.kind == kind)
        })
    }

    /// Looks only for errors of this code in place of a reply.
    pub fn code(self, code: Code) -> Self {
        self.and(format!("with error {code}"), move |seen| {
            seen.error().is_some_and(|error| error.code == code)
        })
    }

    /// Returns what was seen until now, in order.
    #[must_use]
    pub fn all_seen(&self) -> Vec<Seen<M>> {
        let holds = |seen: &Seen<M>| self.conditions.iter().all(|it| (it.holds)(seen));
        self.of_kind().filter(holds).collect()
    }

    /// Returns the messages that were seen until now, in order.
    ///
    /// # Panics
    ///
    /// Panics if one of them cannot be read, as [`Seen::message`] does.
    #[must_use]
    #[track_caller]
    pub fn messages(&self) -> Vec<M> {
        let mut messages = Vec::new();
        for seen in self.all_seen() {
            messages.push(seen.into_message());
        }
        messages
    }

    /// Returns how many were seen until now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all_seen().len()
    }

    /// Checks that there was exactly one, and returns it.
    ///
    /// # Panics
    ///
    /// Panics if there was none, or more than one.
    #[track_caller]
    #[allow(clippy::must_use_candidate)] // it has checked
    pub fn once(&self) -> Seen<M> {
        let mut found = self.all_seen();
        match found.pop() {
            Some(only) if found.is_empty() => only,
            _ => self.fail("exactly one"),
        }
    }

    /// Checks that there were exactly `count`, and returns them in order.
    ///
    /// # Panics
    ///
    /// Panics if there were fewer or more.
    #[track_caller]
    #[allow(clippy::must_use_candidate)] // it has checked
    pub fn times(&self, count: usize) -> Vec<Seen<M>> {
        let found = self.all_seen();
        if found.len() != count {
            self.fail(&format!("exactly {count}"));
        }
        found
    }

    /// Checks that there were `count` or more, and returns them in order.
    ///
    /// # Panics
    ///
    /// Panics if there were fewer.
    #[track_caller]
    #[allow(clippy::must_use_candidate)] // it has checked
    pub fn at_least(&self, count: usize) -> Vec<Seen<M>> {
        let found = self.all_seen();
        if found.len() < count {
            self.fail(&format!("at least {count}"));
        }
        found
    }

    /// Checks that there was none until now.
    ///
    /// # Panics
    ///
    /// Panics if there was one.
    #[track_caller]
    pub fn none(&self) {
        if self.count() > 0 {
            self.fail("no");
        }
    }

    /// Waits until there are `count` or more, and returns them in order.
    ///
    /// # Panics
    ///
    /// Panics if that is not so after the bus's [patience](TestBus::with_patience).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when it is dropped.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> impl Future<Output = Vec<Seen<M>>> + use<'_, M> {
        let caller = Location::caller();
        async move {
            let deadline = Instant::now() + self.bus.patience();
            let mut changes = self.bus.core.ledger.changes();
            loop {
                changes.mark_unchanged();
                let found = self.all_seen();
                if found.len() >= count {
                    return found;
                }
                if timeout_at(deadline, changes.changed()).await.is_err() {
                    let patience = self.bus.patience();
                    panic!(
                        "{}",
                        self.report(&format!("within {patience:?} at least {count}"), caller)
                    );
                }
            }
        }
    }

    #[track_caller]
    fn fail(&self, expected: &str) -> ! {
        panic!("{}", self.report(expected, Location::caller()))
    }

    /// Describes what was expected, what there is instead, and all that happened.
    fn report(&self, expected: &str, caller: &Location<'_>) -> String {
        let mut report = format!("expected {expected} of the {self}, found ");
        let found = self.all_seen();
        let _ = writeln!(report, "{} ({caller})", found.len());
        for (index, seen) in found.iter().take(LISTED).enumerate() {
            let _ = writeln!(report, "  {}. {seen}", index + 1);
        }
        if found.len() > LISTED {
            let _ = writeln!(report, "  … and {} more", found.len() - LISTED);
        }
        let others = self.near_misses();
        for (seen, missing) in others.iter().take(LISTED) {
            let _ = writeln!(report, "  not {missing}: {seen}");
        }
        let _ = write!(report, "\n{}", self.bus.told());
        report
    }

    /// Goes through all that is of the kind.
    fn of_kind(&self) -> impl Iterator<Item = Seen<M>> {
        let kind = self.kind;
        let entries = self.bus.history().entries.into_iter();
        entries.filter(move |entry| kind.is(entry)).map(Seen::of)
    }

    /// Returns what is about the same topic or agent and fails another condition.
    fn near_misses(&self) -> Vec<(Seen<M>, &str)> {
        let missing = |seen: &Seen<M>| {
            let fails = self.conditions.iter().find(|it| !(it.holds)(seen));
            fails.map(|it| it.text.as_str()).filter(|text| !text.is_empty())
        };
        self.of_kind().filter_map(|seen| missing(&seen).map(|text| (seen, text))).collect()
    }
}

impl<M> fmt::Display for Expect<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        for Condition { text, .. } in &self.conditions {
            if !text.is_empty() {
                write!(f, ", {text}")?;
            }
        }
        Ok(())
    }
}

impl<M> fmt::Debug for Expect<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expect({self})")
    }
}
