//! A message as it lies in Redis: one protobuf message, `agentbus.redis.v1.Record` in
//! `docs/redis.md`.

use bytes::Bytes;
use prost::Message as _;

use crate::{
    contract::Name,
    message::{CONTENT_TYPE, Envelope, FailureKind, Timestamp, WireValue},
};

/// The content type of what cannot be read at all: whoever gets it says so, and gives it up.
const UNREADABLE: &str = "application/x-unreadable-record";

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(bytes = "bytes", tag = "1")]
    payload: Bytes,
    #[prost(string, optional, tag = "2")]
    topic: Option<String>,
    #[prost(string, optional, tag = "3")]
    message_type: Option<String>,
    #[prost(string, optional, tag = "4")]
    message_id: Option<String>,
    #[prost(string, optional, tag = "5")]
    correlation_id: Option<String>,
    #[prost(string, optional, tag = "6")]
    reply_to: Option<String>,
    #[prost(string, optional, tag = "7")]
    sender: Option<String>,
    /// In milliseconds.
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    /// Left out where `is_protobuf` says it.
    #[prost(string, optional, tag = "9")]
    content_type: Option<String>,
    /// The scripts append to these: they know the number.
    #[prost(message, repeated, tag = "10")]
    headers: Vec<Header>,
    #[prost(string, optional, tag = "11")]
    content_encoding: Option<String>,
    #[prost(bool, tag = "12")]
    is_protobuf: bool,
    /// Where a delayed message is to go: `t` and a topic, or `q` and a queue.
    #[prost(string, optional, tag = "13")]
    address: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, optional, tag = "2")]
    text: Option<String>,
    #[prost(sint64, optional, tag = "3")]
    number: Option<i64>,
}

/// Writes an envelope down; `address` is where it is to go, if that is later.
pub(super) fn encode(envelope: &Envelope, address: Option<String>) -> Vec<u8> {
    let metadata = &envelope.metadata;
    let name = |name: &Option<Name>| name.as_deref().map(str::to_owned);
    let is_protobuf = metadata.content_type.as_deref() == Some(CONTENT_TYPE);
    let mut record = Record {
        payload: envelope.payload.clone(),
        topic: name(&envelope.topic),
        message_type: name(&metadata.message_type),
        message_id: metadata.message_id.as_ref().map(ToString::to_string),
        correlation_id: metadata.correlation_id.as_ref().map(ToString::to_string),
        reply_to: name(&metadata.reply_to),
        sender: name(&metadata.sender),
        timestamp: metadata.timestamp.map(Timestamp::as_millis),
        content_type: name(&metadata.content_type).filter(|_| !is_protobuf),
        headers: Vec::new(),
        content_encoding: metadata.content_encoding.as_deref().map(str::to_owned),
        is_protobuf,
        address,
    };
    envelope.write_headers(false, |name, value| {
        let (text, number) = match value {
            WireValue::Text(text) => (Some(text.to_owned()), None),
            WireValue::Int(number) => (None, Some(number)),
        };
        record.headers.push(Header { name: name.to_owned(), text, number });
    });
    record.encode_to_vec()
}

/// Reads an envelope, and where it was to go. What somebody else put there is kept as the body of a
/// message that nobody takes for one of theirs.
pub(super) fn decode(bytes: Vec<u8>) -> (Envelope, Option<String>) {
    let bytes = Bytes::from(bytes);
    let record = match Record::decode(bytes.clone()) {
        Ok(record) => record,
        Err(error) => {
            tracing::warn!(%error, "a message in Redis cannot be read");
            let mut envelope = Envelope { payload: bytes, ..Envelope::default() };
            envelope.metadata.content_type = Some(Name::from_static(UNREADABLE));
            return (envelope, None);
        }
    };
    let mut envelope = Envelope { payload: record.payload, ..Envelope::default() };
    let metadata = &mut envelope.metadata;
    metadata.content_type = if record.is_protobuf {
        Some(Name::from_static(CONTENT_TYPE))
    } else {
        record.content_type.map(Name::from)
    };
    metadata.content_encoding = record.content_encoding.map(Into::into);
    metadata.message_type = record.message_type.map(Name::from);
    metadata.message_id = record.message_id.map(Into::into);
    metadata.correlation_id = record.correlation_id.map(Into::into);
    metadata.reply_to = record.reply_to.map(Name::from);
    metadata.sender = record.sender.map(Name::from);
    metadata.timestamp = record.timestamp.map(Timestamp::from_millis);
    for Header { name, text, number } in &record.headers {
        let value = match (text, number) {
            (Some(text), _) => WireValue::Text(text),
            (None, Some(number)) => WireValue::Int(*number),
            (None, None) => WireValue::Text(""),
        };
        envelope.read_header(name, value);
    }
    // Never from a header, which only foreign engines need.
    envelope.topic = record.topic.map(Name::from);
    let attempts = envelope.metadata.attempt();
    if let Some(failure) = &mut envelope.metadata.failure
        && failure.kind == FailureKind::CrashLoop
    {
        // A script writes what it knows, which is not what is in the message.
        failure.topic.clone_from(&envelope.topic);
        failure.attempts = attempts;
    }
    (envelope, record.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{HeaderValue, Id, Metadata, Priority};

    #[test]
    fn what_is_written_is_read_again() {
        let mut envelope = Envelope { topic: Some("a.b".into()), ..Envelope::default() };
        assert_eq!(decode(encode(&envelope, None)), (envelope.clone(), None));
        envelope.payload = vec![0, 255, 7].into();
        envelope.metadata = Metadata {
            content_type: Some(Name::from_static(CONTENT_TYPE)),
            content_encoding: Some("gzip".into()),
            message_id: Some(Id::new()),
            timestamp: Some(Timestamp::from_millis(1_700_000_000_123)),
            priority: Some(Priority::HIGH),
            attempt: Some(3),
            ..Metadata::default()
        };
        let headers = &mut envelope.metadata.headers;
        headers.set("empty", "").unwrap();
        headers.set("least", HeaderValue::Int(i64::MIN)).unwrap();
        let read = decode(encode(&envelope, Some("ta.b".to_owned())));
        assert_eq!(read, (envelope, Some("ta.b".to_owned())));
    }

    /// As the scripts do it: a field that comes again is appended.
    #[test]
    fn headers_that_are_appended_are_read() {
        let envelope = Envelope { topic: Some("a.b".into()), ..Envelope::default() };
        let mut record = encode(&envelope, None);
        let header = Header {
            name: "agentbus-failure-kind".to_owned(),
            text: Some("crash_loop".to_owned()),
            number: None,
        };
        let appended = Record { headers: vec![header], ..Record::default() }.encode_to_vec();
        assert_eq!(appended[0], 82, "the scripts write this number");
        record.extend(appended);
        let failure = decode(record).0.metadata.failure.expect("a failure");
        assert_eq!((failure.kind, failure.topic), (FailureKind::CrashLoop, envelope.topic));
    }

    #[test]
    fn what_is_no_record_is_a_message_that_is_given_up() {
        let (envelope, _) = decode(vec![0xff; 9]);
        assert_eq!(&envelope.payload[..], [0xff; 9]);
        assert!(envelope.expect_protobuf().is_err());
    }
}
