//! Messages that nobody should send, the same ones on every run.

use std::time::Duration;

use agentbus::{
    Envelope, Id,
    message::{Failure, FailureKind, HeaderValue, Metadata, Priority, Timestamp},
};
use fastrand::Rng;

use super::messages::question;

/// Addresses of the form that RabbitMQ gives to replies, of nobody. It decodes what is between
/// the dots, and does not survive all of them.
pub const FORGED: [&str; 5] = [
    "amq.rabbitmq.reply-to.",
    "amq.rabbitmq.reply-to.nobody",
    "amq.rabbitmq.reply-to.a.b",
    "amq.rabbitmq.reply-to.g1h2AA=.nobody",
    "amq.rabbitmq.reply-to.g1h3D3JlcGx5QDQxMzAwNTE5AAAS7gAAAABnNSXT.AAAAAAAAAAAAAAAAAAAAAA==",
];

/// What garbage looks like that is named like something.
const WORDS: [&str; 20] = [
    "",
    ".",
    "#",
    "*",
    "a..b",
    " ",
    "\n",
    "\0",
    "größe",
    "-1",
    "0",
    "1e300",
    "NaN",
    "true",
    "18446744073709551616",
    "test.ask",
    "test.v1.Question",
    "test.v1.Answer",
    "application/x-protobuf",
    "application/json",
];

pub fn word(rng: &mut Rng) -> String {
    match rng.u8(0..8) {
        0 => "x".repeat(255),
        1 => "ä".repeat(rng.usize(0..127)),
        2 => rng.u64(..).to_string(),
        3 => (0..rng.usize(0..60)).map(|_| rng.alphanumeric()).collect(),
        _ => WORDS[rng.usize(0..WORDS.len())].to_owned(),
    }
}

/// A word or nothing.
pub fn maybe(rng: &mut Rng) -> Option<String> {
    let there = rng.u8(0..3) == 0;
    there.then(|| word(rng))
}

pub fn bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    (0..rng.usize(0..most)).map(|_| rng.u8(..)).collect()
}

/// A body: random, empty, or good.
pub fn body(rng: &mut Rng) -> Vec<u8> {
    use prost::Message;
    match rng.u8(0..6) {
        0 => Vec::new(),
        1 => question("well formed").encode_to_vec(),
        _ => bytes(rng, 300),
    }
}

/// Where nobody waits for a reply.
pub fn reply_to(rng: &mut Rng) -> Option<String> {
    match rng.u8(0..6) {
        0 => Some(String::new()),
        1 => Some("x".repeat(255)),
        2 => Some(FORGED[rng.usize(0..FORGED.len())].to_owned()),
        3 => Some("no.such.queue".to_owned()),
        _ => None,
    }
}

/// An envelope as no program of ours would make it.
pub fn envelope(rng: &mut Rng) -> Envelope {
    let name = |rng: &mut Rng| maybe(rng).map(Into::into);
    let id = |rng: &mut Rng| maybe(rng).map(|text| Id::from(text.as_str()));
    let time = |rng: &mut Rng| match rng.u8(0..6) {
        0 => Some(Timestamp::from_millis(rng.u64(..))),
        1 => Some(Timestamp::from_millis(0)),
        2 => Some(Timestamp::from_millis(u64::MAX)),
        // Far off, a time is nonsense to whoever reads it from a wire; this one has just passed.
        3 => Some(Timestamp::from_millis(Timestamp::now().as_millis() - 1000)),
        _ => None,
    };
    let mut metadata = Metadata {
        content_type: name(rng),
        message_type: name(rng),
        message_id: id(rng),
        correlation_id: id(rng),
        reply_to: reply_to(rng).map(Into::into),
        sender: name(rng),
        timestamp: time(rng),
        priority: Priority::new(rng.u8(..)).ok(),
        conversation_id: id(rng),
        causation_id: id(rng),
        deadline: time(rng),
        expires_at: time(rng),
        // One that is allowed many attempts is tried so often; the tests would wait for it.
        max_attempts: rng.bool().then(|| [0, 1, 1001, u32::MAX][rng.usize(0..4)]),
        // Further off than a moment it would be held, as asked.
        due_at: rng.bool().then(|| Timestamp::now().after(Duration::from_millis(rng.u64(0..20)))),
        attempt: rng.bool().then(|| rng.u32(..)),
        traceparent: name(rng),
        tracestate: name(rng),
        ..Metadata::default()
    };
    if rng.u8(0..4) == 0 {
        metadata.failure = Some(Box::new(Failure {
            kind: FailureKind::from(word(rng).as_str()),
            error: word(rng).into(),
            agent: word(rng).into(),
            instance: name(rng),
            topic: name(rng),
            attempts: rng.u32(..),
            at: Timestamp::from_millis(rng.u64(..)),
        }));
    }
    for _ in 0..rng.u8(0..70) {
        let value = if rng.bool() { HeaderValue::Int(rng.i64(..)) } else { word(rng).into() };
        drop(metadata.headers.set(word(rng), value));
    }
    Envelope { topic: name(rng), metadata, payload: body(rng).into() }
}
