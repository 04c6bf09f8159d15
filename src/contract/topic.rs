//! Topics: the names messages are published under, with the message each carries.

use std::{fmt, marker::PhantomData, time::Duration};

use super::{Contract, Name, Retries};

/// How long the name of a topic or queue may be, in bytes.
///
/// AMQP allows 255; a delayed message needs the rest for the address of its way.
pub const MAX_NAME_BYTES: usize = 197;

/// A topic that carries messages of type `M`.
///
/// A name is dot-separated words. A topic built in a `const` is checked by the compiler:
///
/// ```
/// # use agentbus::Topic;
/// const STATUS: Topic<()> = Topic::new("agent.status");
/// ```
///
/// ```compile_fail,E0080
/// # use agentbus::Topic;
/// const STATUS: Topic<()> = Topic::new("agent..status");
/// ```
///
/// One built at run time is checked there: [`Topic::named`].
pub struct Topic<M> {
    name: Name,
    metadata_field: Option<u32>,
    contract: Option<&'static Contract>,
    retry: Option<Retries>,
    priority: Option<u8>,
    message: PhantomData<fn() -> M>,
}

impl<M> Topic<M> {
    /// Names a topic with text that is part of the program.
    ///
    /// # Panics
    ///
    /// Panics, at compile time in a `const`, if `name` is empty, has an empty word, a wildcard,
    /// white space or a control character, or more than [`MAX_NAME_BYTES`] bytes.
    #[must_use]
    #[track_caller] // points at the malformed topic, not into this function
    pub const fn new(name: &'static str) -> Self {
        match fault(name) {
            None => {}
            Some(Fault::Empty) => panic!("a topic has at least one word"),
            Some(Fault::EmptyWord) => panic!("a topic has an empty word"),
            Some(Fault::Wildcard) => panic!("a topic has no wildcards: those are for patterns"),
            Some(Fault::Blank) => panic!("a topic has no white space or control characters"),
            Some(Fault::TooLong) => panic!("a topic has at most 197 bytes"),
        }
        Self::unchecked(Name::from_static(name))
    }

    /// Names a topic with text made at run time, such as `message.{instance}`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with `name`; the rules are those of [`new`](Self::new).
    pub fn named(name: impl Into<Name>) -> Result<Self, InvalidTopic> {
        let name = name.into();
        match fault(&name) {
            None => Ok(Self::unchecked(name)),
            Some(fault) => Err(InvalidTopic { name, fault }),
        }
    }

    const fn unchecked(name: Name) -> Self {
        Self {
            name,
            metadata_field: None,
            contract: None,
            retry: None,
            priority: None,
            message: PhantomData,
        }
    }

    /// Says that field `number` of the message holds its metadata, for peers that look for it in
    /// the body. Generated code calls this.
    #[must_use]
    pub const fn with_metadata_field(mut self, number: u32) -> Self {
        self.metadata_field = Some(number);
        self
    }

    /// Says which contract the topic is part of. Generated code calls this.
    #[must_use]
    pub const fn with_contract(mut self, contract: &'static Contract) -> Self {
        self.contract = Some(contract);
        self
    }

    /// Says how often its messages are tried where code does not: a policy of the
    /// [route](crate::Routes::retry) or of the [agent](crate::Agent::retry) goes before it, and it
    /// goes before the [runtime's](crate::Runtime::retry).
    #[must_use]
    pub const fn with_retry(mut self, retries: Retries) -> Self {
        self.retry = Some(retries);
        self
    }

    /// Says how urgent its messages are, 1 to 10, where their sender does not.
    ///
    /// # Panics
    ///
    /// Panics, at compile time in a `const`, where `priority` is not from 1 to 10.
    #[must_use]
    #[track_caller]
    pub const fn with_priority(mut self, priority: u8) -> Self {
        assert!(priority >= 1 && priority <= 10, "a priority is from 1 to 10");
        self.priority = Some(priority);
        self
    }

    /// Returns the name as published.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Returns the contract the topic was generated from; `None` for one written by hand.
    #[must_use]
    pub const fn contract(&self) -> Option<&'static Contract> {
        self.contract
    }

    /// Returns how often the contract wants its messages tried, where it says so.
    #[must_use]
    pub const fn retry(&self) -> Option<Retries> {
        self.retry
    }

    /// Returns how urgent the contract has its messages, from 1 to 10, where it says so.
    #[must_use]
    pub const fn priority(&self) -> Option<u8> {
        self.priority
    }

    /// Returns the field that holds the message's metadata, where it has one.
    #[must_use]
    pub const fn metadata_field(&self) -> Option<u32> {
        self.metadata_field
    }
}

impl<M> Clone for Topic<M> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            metadata_field: self.metadata_field,
            contract: self.contract,
            retry: self.retry,
            priority: self.priority,
            message: PhantomData,
        }
    }
}

impl<M> fmt::Debug for Topic<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.name).finish()
    }
}

impl<M> fmt::Display for Topic<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// A topic of requests: each `Req` is answered with a `Res`.
pub struct Rpc<Req, Res> {
    request: Topic<Req>,
    reply_metadata_field: Option<u32>,
    deadline: Option<Duration>,
    reply: PhantomData<fn() -> Res>,
}

impl<Req, Res> Rpc<Req, Res> {
    /// Names the topic that requests are published under.
    ///
    /// # Panics
    ///
    /// Panics as [`Topic::new`] does: at compile time in a `const`.
    #[must_use]
    #[track_caller]
    pub const fn new(name: &'static str) -> Self {
        Self::of(Topic::new(name))
    }

    /// Names the topic with text made at run time.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with `name`; the rules are those of [`Topic::new`].
    pub fn named(name: impl Into<Name>) -> Result<Self, InvalidTopic> {
        Ok(Self::of(Topic::named(name)?))
    }

    const fn of(request: Topic<Req>) -> Self {
        Self { request, reply_metadata_field: None, deadline: None, reply: PhantomData }
    }

    /// Says which fields of request and reply hold their metadata. Generated code calls this.
    #[must_use]
    pub const fn with_metadata_fields(mut self, request: Option<u32>, reply: Option<u32>) -> Self {
        self.request.metadata_field = request;
        self.reply_metadata_field = reply;
        self
    }

    /// Says which contract the topic is part of. Generated code calls this.
    #[must_use]
    pub const fn with_contract(mut self, contract: &'static Contract) -> Self {
        self.request.contract = Some(contract);
        self
    }

    /// Says how long a requester waits for the reply where it does not say so itself: this goes
    /// before the configuration's `request_timeout`, and a
    /// [time-out of the request](crate::RequestOptions::timeout) goes before this.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Says how often requests are tried where code does not; see [`Topic::with_retry`].
    #[must_use]
    pub const fn with_retry(mut self, retries: Retries) -> Self {
        self.request.retry = Some(retries);
        self
    }

    /// Says how urgent requests are, 1 to 10, where the requester does not.
    ///
    /// # Panics
    ///
    /// Panics, at compile time in a `const`, where `priority` is not from 1 to 10.
    #[must_use]
    #[track_caller]
    pub const fn with_priority(mut self, priority: u8) -> Self {
        assert!(priority >= 1 && priority <= 10, "a priority is from 1 to 10");
        self.request.priority = Some(priority);
        self
    }

    /// Returns the topic that requests are published under.
    #[must_use]
    pub fn topic(&self) -> &Topic<Req> {
        &self.request
    }

    /// Returns the name that requests are published under.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.request.name()
    }

    /// Returns the contract the topic was generated from; `None` for one written by hand.
    #[must_use]
    pub const fn contract(&self) -> Option<&'static Contract> {
        self.request.contract
    }

    /// Returns how long the contract has a requester wait, where it says so.
    #[must_use]
    pub const fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Returns the field that holds the reply's metadata, where it has one.
    #[must_use]
    pub const fn reply_metadata_field(&self) -> Option<u32> {
        self.reply_metadata_field
    }
}

impl<Req, Res> Clone for Rpc<Req, Res> {
    fn clone(&self) -> Self {
        Self {
            request: self.request.clone(),
            reply_metadata_field: self.reply_metadata_field,
            deadline: self.deadline,
            reply: PhantomData,
        }
    }
}

impl<Req, Res> fmt::Debug for Rpc<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rpc").field(self.name()).finish()
    }
}

impl<Req, Res> fmt::Display for Rpc<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

/// A name that cannot be a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` cannot be a topic: {fault}")]
pub struct InvalidTopic {
    name: Name,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("it has no words")]
    Empty,
    #[error("it has an empty word; words are separated by single dots")]
    EmptyWord,
    #[error("`*` and `#` are wildcards, which only patterns have")]
    Wildcard,
    #[error("it has white space or a control character")]
    Blank,
    #[error("it has more than {MAX_NAME_BYTES} bytes")]
    TooLong,
}

/// Finds what keeps `name` from being a topic.
pub(super) const fn fault(name: &str) -> Option<Fault> {
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        return Some(Fault::Empty);
    }
    if bytes.len() > MAX_NAME_BYTES {
        return Some(Fault::TooLong);
    }
    let mut word = 0;
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'.' if word == 0 => return Some(Fault::EmptyWord),
            b'.' => word = 0,
            b'*' | b'#' => return Some(Fault::Wildcard),
            0..=b' ' | 0x7f => return Some(Fault::Blank),
            _ => word += 1,
        }
        i += 1;
    }
    if word == 0 { Some(Fault::EmptyWord) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_words_separated_by_single_dots() {
        for good in ["a", "data.request", "message.3f2a", "größe.x", "a-b_c.1"] {
            assert!(Topic::<()>::named(good).is_ok(), "{good}");
        }
        let cases = [
            ("", Fault::Empty),
            (".", Fault::EmptyWord),
            ("a.", Fault::EmptyWord),
            (".a", Fault::EmptyWord),
            ("a..b", Fault::EmptyWord),
            ("a.*", Fault::Wildcard),
            ("#", Fault::Wildcard),
            ("a b", Fault::Blank),
            ("a\n", Fault::Blank),
        ];
        for (bad, fault) in cases {
            assert_eq!(Topic::<()>::named(bad).unwrap_err().fault, fault, "{bad:?}");
        }
    }

    #[test]
    fn a_topic_has_at_most_197_bytes() {
        assert!(Topic::<()>::named("a".repeat(197)).is_ok());
        assert_eq!(Topic::<()>::named("a".repeat(198)).unwrap_err().fault, Fault::TooLong);
    }

    #[test]
    fn the_error_names_the_topic_and_the_fault() {
        let error = Rpc::<(), ()>::named("data..x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`data..x` cannot be a topic: it has an empty word; words are separated by single dots"
        );
    }
}
