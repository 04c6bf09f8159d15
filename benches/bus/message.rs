//! The messages that are sent.

use agentbus::{Rpc, Topic};

/// As large as is asked for, with a number by which it is told from others.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    #[prost(uint64, tag = "1")]
    pub number: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub body: bytes::Bytes,
}

impl prost::Name for Sample {
    const NAME: &'static str = "Sample";
    const PACKAGE: &'static str = "bench.v1";
}

/// The topic of what is published to one agent.
pub const TOPIC: Topic<Sample> = Topic::new("bench.sample");

/// The request, answered with itself.
pub const ECHO: Rpc<Sample, Sample> = Rpc::new("bench.echo");

/// What stands beside the body: a tag and the number, and the body's tag and length.
const AROUND: usize = 2 + 3 + 3;

/// Makes messages of a size when encoded, within a few bytes.
pub fn samples(size: usize, count: usize) -> impl Iterator<Item = Sample> {
    let body = bytes::Bytes::from(vec![0x5a; size.saturating_sub(AROUND)]);
    (0..count as u64).map(move |number| Sample { number, body: body.clone() })
}

/// The topic of one of many agents.
pub fn topic_of(agent: usize) -> Topic<Sample> {
    Topic::named(format!("bench.agent.{agent}")).expect("a topic")
}
