//! Messages and routes, as generated code would have them.

use agentbus::{FollowUp, Rpc, Topic};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Question {
    #[prost(string, tag = "1")]
    pub text: String,
    #[prost(uint32, tag = "2")]
    pub number: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    #[prost(string, tag = "1")]
    pub text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    #[prost(uint32, tag = "1")]
    pub number: u32,
}

/// A message that carries its metadata in the body.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Letter {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<agentbus::proto::v1::Metadata>,
    #[prost(string, tag = "2")]
    pub text: String,
}

macro_rules! named {
    ($($message:ident),*) => {
        $(impl prost::Name for $message {
            const NAME: &'static str = stringify!($message);
            const PACKAGE: &'static str = "test.v1";
        })*
    };
}

named!(Question, Answer, Event, Letter);

pub const ASK: Rpc<Question, Answer> = Rpc::new("test.ask");
pub const RELAY: Rpc<Question, Answer> = Rpc::new("test.relay");
pub const HAPPENED: Topic<Event> = Topic::new("test.happened");

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Pending {
    pub number: u32,
}

pub const THEN: FollowUp<Question, Answer, Pending> = FollowUp::new(ASK, "then");

pub fn question(text: &str) -> Question {
    Question { text: text.to_owned(), number: 0 }
}
