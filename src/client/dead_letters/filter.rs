//! Which dead letters are meant.

use std::time::Duration;

use super::DeadLetter;
use crate::{
    contract::{Name, Pattern},
    message::{FailureKind, Id},
};

/// Which dead letters are meant; by default all of them.
///
/// Everything that is set must hold. Setting the same thing again replaces it, save for ids, of
/// which one must match.
///
/// ```
/// # use std::time::Duration;
/// # use agentbus::{client::DeadLetterFilter, message::FailureKind};
/// let filter = DeadLetterFilter::default()
///     .kind(FailureKind::Timeout)
///     .older_than(Duration::from_hours(1))
///     .limit(100);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct DeadLetterFilter {
    message_type: Option<Name>,
    kind: Option<FailureKind>,
    topic: Option<Pattern>,
    sender: Option<Name>,
    instance: Option<Name>,
    ids: Vec<Id>,
    older_than: Option<Duration>,
    younger_than: Option<Duration>,
    limit: Option<u64>,
}

impl DeadLetterFilter {
    /// Takes messages of one type, by its protobuf full name.
    pub fn message_type(mut self, full_name: impl Into<Name>) -> Self {
        self.message_type = Some(full_name.into());
        self
    }

    /// Takes messages that failed in one way.
    pub fn kind(mut self, kind: FailureKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Takes messages that were published under a topic that matches.
    pub fn topic(mut self, pattern: Pattern) -> Self {
        self.topic = Some(pattern);
        self
    }

    /// Takes messages of one sender.
    pub fn sender(mut self, agent: impl Into<Name>) -> Self {
        self.sender = Some(agent.into());
        self
    }

    /// Takes messages that one replica failed on, in its own queue.
    pub fn instance(mut self, instance: impl Into<Name>) -> Self {
        self.instance = Some(instance.into());
        self
    }

    /// Takes the message of that id; may be called several times.
    pub fn id(mut self, id: impl Into<Id>) -> Self {
        self.ids.push(id.into());
        self
    }

    /// Takes messages that failed longer ago than that. What does not say when it failed is taken
    /// by its timestamp; without that, it is never taken.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Takes messages that failed no longer ago than that; otherwise as
    /// [`older_than`](Self::older_than).
    pub fn younger_than(mut self, age: Duration) -> Self {
        self.younger_than = Some(age);
        self
    }

    /// Takes at most `count` messages.
    pub fn limit(mut self, count: u64) -> Self {
        self.limit = Some(count);
        self
    }

    /// Tells whether the filter takes a letter; the limit is not looked at.
    #[must_use]
    pub fn takes(&self, letter: &DeadLetter) -> bool {
        let metadata = &letter.envelope().metadata;
        let is = |wanted: &Option<Name>, found: Option<&Name>| {
            wanted.as_ref().is_none_or(|wanted| found == Some(wanted))
        };
        let aged = |holds: fn(Duration, Duration) -> bool, limit: Option<Duration>| {
            limit.is_none_or(|limit| letter.age().is_some_and(|age| holds(age, limit)))
        };
        is(&self.message_type, metadata.message_type.as_ref())
            && is(&self.sender, metadata.sender.as_ref())
            && is(&self.instance, letter.failure().and_then(|failure| failure.instance.as_ref()))
            && self
                .kind
                .as_ref()
                .is_none_or(|kind| letter.failure().is_some_and(|failure| failure.kind == *kind))
            && self
                .topic
                .as_ref()
                .is_none_or(|pattern| letter.topic().is_some_and(|topic| pattern.matches(topic)))
            && (self.ids.is_empty() || letter.id().is_some_and(|id| self.ids.contains(id)))
            && aged(|age, limit| age > limit, self.older_than)
            && aged(|age, limit| age <= limit, self.younger_than)
    }

    /// Tells whether the filter names one message.
    pub(super) fn names_one(&self) -> bool {
        self.ids.len() == 1
    }

    /// Returns how many letters are taken at most.
    pub(super) fn most(&self) -> u64 {
        self.limit.unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Envelope, Failure, Timestamp};

    fn letter(kind: FailureKind, age: Duration) -> DeadLetter {
        let now = Timestamp::now().as_millis();
        let mut envelope = Envelope::encode(&"body".to_owned());
        envelope.topic = Some("price.moved".into());
        envelope.metadata.message_id = Some("one".into());
        envelope.metadata.sender = Some("feed".into());
        envelope.metadata.failure = Some(Box::new(Failure {
            kind,
            error: "why".into(),
            agent: "data".into(),
            instance: Some("0a".into()),
            topic: envelope.topic.clone(),
            attempts: 1,
            at: Timestamp::from_millis(now - u64::try_from(age.as_millis()).unwrap()),
        }));
        DeadLetter::new(envelope)
    }

    #[test]
    fn everything_that_is_set_must_hold() {
        let letter = letter(FailureKind::Timeout, Duration::from_hours(2));
        let all = DeadLetterFilter::default;
        let hour = Duration::from_hours(1);
        let pattern = |text: &str| Pattern::parse(text.to_owned()).unwrap();
        for (filter, taken) in [
            (all(), true),
            (all().kind(FailureKind::Timeout), true),
            (all().kind(FailureKind::Handler), false),
            (all().message_type("google.protobuf.StringValue"), true),
            (all().message_type("test.v1.Other"), false),
            (all().topic(pattern("price.*")), true),
            (all().topic(pattern("news.#")), false),
            (all().sender("feed"), true),
            (all().sender("other"), false),
            (all().instance("0a"), true),
            (all().instance("0b"), false),
            (all().id("two").id("one"), true),
            (all().id("two"), false),
            (all().older_than(hour), true),
            (all().younger_than(hour), false),
            (all().younger_than(3 * hour), true),
            (all().kind(FailureKind::Timeout).sender("other"), false),
        ] {
            assert_eq!(filter.takes(&letter), taken, "{filter:?}");
        }
    }

    #[test]
    fn what_does_not_say_when_it_failed_has_the_age_of_its_message() {
        let mut envelope = Envelope::encode(&());
        envelope.metadata.timestamp = Some(Timestamp::from_millis(1000));
        let old = DeadLetterFilter::default().older_than(Duration::from_secs(1));
        assert!(old.takes(&DeadLetter::new(envelope.clone())));
        envelope.metadata.timestamp = None;
        let young = DeadLetterFilter::default().younger_than(Duration::from_secs(1));
        let letter = DeadLetter::new(envelope);
        assert!(!old.takes(&letter) && !young.takes(&letter));
    }
}
