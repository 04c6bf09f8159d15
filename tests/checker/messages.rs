//! What the writers send and the readers handle.

use agentbus::{FollowUp, Rpc, Topic};

/// A piece of work, with what is to become of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Job {
    #[prost(uint64, tag = "1")]
    pub number: u64,
    #[prost(enumeration = "Kind", tag = "2")]
    pub kind: i32,
    /// How long it is worked on.
    #[prost(uint32, tag = "3")]
    pub millis: u32,
    /// How often handling it fails first.
    #[prost(uint32, tag = "4")]
    pub failures: u32,
}

/// That a job is done.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Done {
    #[prost(uint64, tag = "1")]
    pub number: u64,
}

/// What is to become of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// Handled at once.
    Plain = 0,
    /// Handled after it has failed some times.
    Flaky = 1,
    /// Never handled: a dead letter, at once or after all attempts.
    Doomed = 2,
    /// Handled when it is due, and not before.
    Delayed = 3,
    /// Its handler publishes what another agent handles.
    Chained = 4,
    /// Its handler asks another agent, and goes on when that answers.
    Errand = 5,
    /// Nobody is bound to its topic.
    Unroutable = 6,
    /// A request.
    Asked = 7,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Plain,
        Self::Flaky,
        Self::Doomed,
        Self::Delayed,
        Self::Chained,
        Self::Errand,
        Self::Unroutable,
        Self::Asked,
    ];
}

macro_rules! named {
    ($($message:ident),*) => {
        $(impl prost::Name for $message {
            const NAME: &'static str = stringify!($message);
            const PACKAGE: &'static str = "checker.v1";
        })*
    };
}

named!(Job, Done);

/// What a follow-up goes on with.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Pending {
    pub number: u64,
}

pub const JOB: Topic<Job> = Topic::new("checker.job");
pub const STEP: Topic<Job> = Topic::new("checker.step");
pub const PULSE: Topic<Job> = Topic::new("checker.pulse");
pub const NOWHERE: Topic<Job> = Topic::new("checker.nowhere");
pub const ASK: Rpc<Job, Done> = Rpc::new("checker.ask");
pub const WHEN_DONE: FollowUp<Job, Done, Pending> = FollowUp::new(ASK, "when-done");
