//! What a question about a bus is about: a topic, an rpc, a pattern, or an agent.

use std::fmt;

use super::{
    bus::TestBus,
    expect::{Expect, Kind},
};
use crate::{
    contract::{Name, Pattern, Rpc, Topic},
    message::{Envelope, FromEnvelope},
};

/// What to look for: the messages of a [`Topic`], the requests of an [`Rpc`], whatever matches a
/// [`Pattern`], or all that concerns an agent, by its name.
pub trait Subject {
    /// What is looked for: typed where the topic says so.
    type Message: FromEnvelope + fmt::Debug;

    #[doc(hidden)]
    fn expect(self, bus: TestBus, kind: Kind) -> Expect<Self::Message>;
}

impl<M: FromEnvelope + fmt::Debug> Subject for Topic<M> {
    type Message = M;

    fn expect(self, bus: TestBus, kind: Kind) -> Expect<M> {
        Expect::new(bus, kind, Some(self.name().clone()), None, kind.on_topic())
    }
}

impl<Req: FromEnvelope + fmt::Debug, Res> Subject for Rpc<Req, Res> {
    type Message = Req;

    fn expect(self, bus: TestBus, kind: Kind) -> Expect<Req> {
        Expect::new(bus, kind, Some(self.name().clone()), None, kind.on_topic())
    }
}

impl Subject for Pattern {
    type Message = Envelope;

    fn expect(self, bus: TestBus, kind: Kind) -> Expect<Envelope> {
        let text = format!("{} topics `{}`", kind.on_topics(), self.as_str());
        Expect::all(bus, kind, text).matching_topic(self)
    }
}

impl Subject for &str {
    type Message = Envelope;

    fn expect(self, bus: TestBus, kind: Kind) -> Expect<Envelope> {
        Name::from(self).expect(bus, kind)
    }
}

impl Subject for &Name {
    type Message = Envelope;

    fn expect(self, bus: TestBus, kind: Kind) -> Expect<Envelope> {
        self.clone().expect(bus, kind)
    }
}

impl Subject for Name {
    type Message = Envelope;

    fn expect(self, bus: TestBus, kind: Kind) -> Expect<Envelope> {
        Expect::new(bus, kind, None, Some(self), kind.by_agent())
    }
}
