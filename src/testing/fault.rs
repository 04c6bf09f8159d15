//! Faults that a test injects: what goes wrong, with which messages, and how often.

use std::{fmt, time::Duration};

use crate::{
    broker::{Destination, PublishError},
    contract::{Name, Pattern, Rpc, Topic},
    message::Envelope,
};

/// Something that goes wrong on a [`TestBus`](super::TestBus), from
/// [`inject`](super::TestBus::inject) on.
///
/// A fault says what goes wrong, then with which messages, then with how many of those. Without a
/// scope it hits every message of its direction, without a count every time:
///
/// ```
/// use std::time::Duration;
/// use agentbus::{Topic, testing::Fault};
/// # const PAID: Topic<String> = Topic::new("order.paid");
///
/// let second_is_refused = Fault::refused().topic(PAID).nth(2);
/// let retries_get_lost = Fault::lost().retries().queue("ledger");
/// let one_in_ten_is_slow = Fault::late_delivery(Duration::from_secs(1)).randomly(0.1, 42);
/// let no_replies = Fault::lost().replies();
/// ```
///
/// Of several faults that fit a message, the first one injected hits it. Nothing about a fault is
/// random, save [`randomly`](Self::randomly), which gives the same on every run.
#[must_use = "a fault does nothing until it is injected"]
pub struct Fault {
    pub(super) harm: Harm,
    scope: Vec<(String, Condition)>,
    pub(super) times: Times,
}

type Condition = Box<dyn Fn(&Passing<'_>) -> bool + Send + Sync>;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    Refused,
    Unroutable,
    Invalid,
    Lost,
    Unconfirmed,
    LatePublish(Duration),
    LateDelivery(Duration),
    Duplicate,
}

/// Which of the messages that fit are hit.
#[derive(Debug)]
pub(super) enum Times {
    Always,
    First(u64),
    Nth(u64),
    Randomly { probability: f64, rng: fastrand::Rng },
}

/// A message that passes by.
pub(super) enum Passing<'a> {
    Published { to: Destination<'a>, envelope: &'a Envelope },
    Delivered { queue: &'a Name, envelope: &'a Envelope },
}

impl Fault {
    fn new(harm: Harm) -> Self {
        Self { harm, scope: Vec::new(), times: Times::Always }
    }

    /// A publish ends in [`PublishError::Refused`], as by a full queue. Nobody gets the message.
    pub fn refused() -> Self {
        Self::new(Harm::Refused)
    }

    /// A publish ends in [`PublishError::Unroutable`]. Nobody gets the message.
    pub fn unroutable() -> Self {
        Self::new(Harm::Unroutable)
    }

    /// A publish ends in [`PublishError::Invalid`], as with what can never be sent. Nobody gets
    /// the message.
    pub fn invalid() -> Self {
        Self::new(Harm::Invalid)
    }

    /// A publish ends in [`PublishError::Unconfirmed`], and nobody gets the message.
    pub fn lost() -> Self {
        Self::new(Harm::Lost)
    }

    /// A publish ends in [`PublishError::Unconfirmed`], and the message was taken all the same.
    pub fn unconfirmed() -> Self {
        Self::new(Harm::Unconfirmed)
    }

    /// A publish takes so much longer; others overtake it.
    pub fn late_publish(delay: Duration) -> Self {
        Self::new(Harm::LatePublish(delay))
    }

    /// A delivery takes so much longer; others overtake it.
    pub fn late_delivery(delay: Duration) -> Self {
        Self::new(Harm::LateDelivery(delay))
    }

    /// A message is delivered twice; the second one is marked as redelivered.
    pub fn duplicate() -> Self {
        Self::new(Harm::Duplicate)
    }

    /// Hits messages of this topic only: also their retries and dead letters, which carry it.
    pub fn topic<M>(self, topic: Topic<M>) -> Self {
        self.on(topic.name().clone())
    }

    /// Hits requests of this rpc only: also their retries and dead letters. Its replies have no
    /// topic.
    pub fn rpc<Req, Res>(self, rpc: Rpc<Req, Res>) -> Self {
        self.on(rpc.name().clone())
    }

    fn on(self, name: Name) -> Self {
        self.scoped(format!("topic `{name}`"), move |passing| {
            passing.topic().is_some_and(|topic| *topic == name)
        })
    }

    /// Hits messages whose topic matches.
    pub fn pattern(self, pattern: Pattern) -> Self {
        self.scoped(format!("topics `{}`", pattern.as_str()), move |passing| {
            passing.topic().is_some_and(|topic| pattern.matches(topic))
        })
    }

    /// Hits what is published to this queue by name (retries, dead letters), or delivered from it.
    pub fn queue(self, queue: impl Into<Name>) -> Self {
        let queue = queue.into();
        self.scoped(format!("queue `{queue}`"), move |passing| match passing {
            Passing::Published { to: Destination::Queue(name), .. } => **name == *queue,
            Passing::Published { .. } => false,
            Passing::Delivered { queue: name, .. } => **name == queue,
        })
    }

    /// Hits what is published to be tried again or called again later: what goes to a queue by
    /// name with a time at which it is due.
    pub fn retries(self) -> Self {
        self.scoped("retries".to_owned(), |passing| match passing {
            Passing::Published { to: Destination::Queue(_), envelope } => {
                envelope.metadata.due_at.is_some()
            }
            _ => false,
        })
    }

    /// Hits dead letters, where they are published.
    pub fn dead_letters(self) -> Self {
        self.scoped("dead letters".to_owned(), |passing| match passing {
            Passing::Published { to: Destination::Queue(_), envelope } => {
                envelope.metadata.failure.is_some()
            }
            _ => false,
        })
    }

    /// Hits replies, where they are published.
    pub fn replies(self) -> Self {
        let is_reply = |passing: &Passing<'_>| {
            matches!(passing, Passing::Published { to: Destination::Reply(_), .. })
        };
        self.scoped("replies".to_owned(), is_reply)
    }

    /// Hits what was sent by this agent, or under this name.
    pub fn sender(self, sender: impl Into<Name>) -> Self {
        let sender = sender.into();
        self.scoped(format!("sent by `{sender}`"), move |passing| {
            passing.envelope().metadata.sender.as_ref() == Some(&sender)
        })
    }

    /// Hits messages for which `condition` is true.
    pub fn when(self, condition: impl Fn(&Envelope) -> bool + Send + Sync + 'static) -> Self {
        self.scoped("some".to_owned(), move |passing| condition(passing.envelope()))
    }

    fn scoped(
        mut self,
        text: String,
        condition: impl Fn(&Passing<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.scope.push((text, Box::new(condition)));
        self
    }

    /// Hits the first message that fits, and no other.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Hits the first `count` messages that fit.
    pub fn times(mut self, count: u64) -> Self {
        self.times = Times::First(count);
        self
    }

    /// Hits the one message that fits as the `number`th, counted from 1.
    pub fn nth(mut self, number: u64) -> Self {
        self.times = Times::Nth(number);
        self
    }

    /// Hits each message that fits with this probability, from 0 to 1: by random numbers that
    /// begin with `seed`, and so the same ones on every run.
    pub fn randomly(mut self, probability: f64, seed: u64) -> Self {
        self.times = Times::Randomly { probability, rng: fastrand::Rng::with_seed(seed) };
        self
    }

    pub(super) fn fits(&self, passing: &Passing<'_>) -> bool {
        let is_delivery = matches!(self.harm, Harm::LateDelivery(_) | Harm::Duplicate);
        is_delivery == matches!(passing, Passing::Delivered { .. })
            && self.scope.iter().all(|(_, condition)| condition(passing))
    }
}

impl Times {
    /// Tells whether the `number`th message that fits is hit, counted from 1.
    pub(super) fn hit(&mut self, number: u64) -> bool {
        match self {
            Self::Always => true,
            Self::First(count) => number <= *count,
            Self::Nth(nth) => number == *nth,
            Self::Randomly { probability, rng } => rng.f64() < *probability,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.harm {
            Harm::Refused => f.write_str("a refused publish")?,
            Harm::Unroutable => f.write_str("an unroutable publish")?,
            Harm::Invalid => f.write_str("an invalid publish")?,
            Harm::Lost => f.write_str("a lost publish")?,
            Harm::Unconfirmed => f.write_str("an unconfirmed publish")?,
            Harm::LatePublish(delay) => write!(f, "a publish {delay:?} late")?,
            Harm::LateDelivery(delay) => write!(f, "a delivery {delay:?} late")?,
            Harm::Duplicate => f.write_str("a delivery made twice")?,
        }
        for (text, _) in &self.scope {
            write!(f, ", {text}")?;
        }
        match &self.times {
            Times::Always => Ok(()),
            Times::First(1) => f.write_str(", once"),
            Times::First(count) => write!(f, ", {count} times"),
            Times::Nth(number) => write!(f, ", number {number}"),
            Times::Randomly { probability, .. } => write!(f, ", probability {probability}"),
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({self})")
    }
}

impl<'a> Passing<'a> {
    fn envelope(&self) -> &'a Envelope {
        match self {
            Self::Published { envelope, .. } | Self::Delivered { envelope, .. } => envelope,
        }
    }

    fn topic(&self) -> Option<&'a Name> {
        match self {
            Self::Published { to: Destination::Topic(topic), .. } => Some(topic),
            _ => self.envelope().topic.as_ref(),
        }
    }
}

impl Harm {
    /// Tells whether nobody gets the message.
    pub(super) fn prevents(self) -> bool {
        matches!(self, Self::Refused | Self::Unroutable | Self::Invalid | Self::Lost)
    }

    /// Returns the error that a publisher is told.
    pub(super) fn error(self, to: Destination<'_>, envelope: Envelope) -> PublishError {
        let (at, reason) = (to.to_string(), "a fault that the test injected".to_owned());
        let envelope = Box::new(envelope);
        match self {
            Self::Refused => PublishError::Refused { to: at, reason, envelope },
            Self::Unroutable => PublishError::Unroutable { to: at, envelope },
            Self::Invalid => PublishError::Invalid { to: at, reason, envelope },
            _ => PublishError::Unconfirmed { to: at, reason, source: None, envelope },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAID: Topic<String> = Topic::new("order.paid");

    #[test]
    fn a_fault_reads_as_what_it_does() {
        let fault = Fault::refused().topic(PAID).nth(2);
        assert_eq!(fault.to_string(), "a refused publish, topic `order.paid`, number 2");
    }
}
