//! Metadata as CloudEvents has it in headers.
//!
//! This is the binary mode of the specification: the body stays as it is, and attributes are
//! headers. They are read under every prefix that senders use, and written under `ce-`, which is
//! the one that is common over AMQP 0-9-1.

use super::{Envelope, HeaderValue, Headers, Id, MAX_HEADER_BYTES, Timestamp, WireValue};
use crate::contract::Name;

/// What comes before an attribute's name; those of the binding for AMQP 1.0 are there for senders
/// that have a library for that only.
const PREFIXES: [&str; 3] = ["ce-", "cloudEvents:", "cloudEvents_"];

/// What comes before the full name of a message in the URI of its type.
const TYPE_URL: &str = "type.googleapis.com/";

/// How long the name of a sender may be, so that a header can carry it.
const MAX_SENDER: usize = MAX_HEADER_BYTES - "/agents/".len();

impl Envelope {
    /// Fills what is still missing from CloudEvents headers, once all headers are read.
    pub fn fill_from_cloud_events(&mut self) {
        let metadata = &mut self.metadata;
        let Some(prefix) = prefix(&metadata.headers) else { return };
        let headers = &metadata.headers;
        let text = |attribute: &str| attribute_of(headers, prefix, attribute);
        let id = |attribute: &str| text(attribute).map(|id| Id::from(id.as_str()));
        // The schema says what the data is; the type of an event may be a name for what happened.
        let schema = text("dataschema").and_then(|url| message_of(&url));
        let message_type = schema.or_else(|| text("type"));
        let time = text("time").as_deref().and_then(Timestamp::from_rfc3339);
        let expires_at = text("expirytime").as_deref().and_then(Timestamp::from_rfc3339);
        fill(&mut metadata.message_id, id("id"));
        fill(&mut metadata.message_type, message_type);
        fill(&mut metadata.sender, text("source"));
        fill(&mut metadata.timestamp, time);
        fill(&mut metadata.conversation_id, id("correlationid"));
        fill(&mut metadata.causation_id, id("causationid"));
        fill(&mut metadata.expires_at, expires_at);
        fill(&mut metadata.traceparent, text("traceparent"));
        fill(&mut metadata.tracestate, text("tracestate"));
    }

    /// Calls `write` with every CloudEvents header this envelope travels with.
    ///
    /// There are none where the envelope has no id or no type, which an event must have, and where
    /// it already carries those of somebody else.
    pub fn write_cloud_events(&self, mut write: impl FnMut(&str, WireValue<'_>)) {
        let metadata = &self.metadata;
        let (Some(id), Some(message_type)) = (&metadata.message_id, &metadata.message_type) else {
            return;
        };
        if prefix(&metadata.headers).is_some() {
            return;
        }
        let mut text = |name: &str, value: &str| {
            if value.len() <= MAX_HEADER_BYTES {
                write(name, WireValue::Text(value));
            }
        };
        text("ce-specversion", "1.0");
        id.with_str(|id| text("ce-id", id));
        text("ce-type", message_type);
        text("ce-source", &source(metadata.sender.as_deref()));
        text("ce-dataschema", &format!("{TYPE_URL}{message_type}"));
        if let Some(time) = metadata.timestamp.and_then(Timestamp::to_rfc3339) {
            text("ce-time", &time);
        }
        if let Some(time) = metadata.expires_at.and_then(Timestamp::to_rfc3339) {
            text("ce-expirytime", &time);
        }
        if let Some(id) = &metadata.conversation_id {
            id.with_str(|id| text("ce-correlationid", id));
        }
        if let Some(id) = &metadata.causation_id {
            id.with_str(|id| text("ce-causationid", id));
        }
    }
}

/// Finds out by which prefix an event says that it is one.
fn prefix(headers: &Headers) -> Option<&'static str> {
    PREFIXES.into_iter().find(|prefix| headers.get(&format!("{prefix}specversion")).is_some())
}

fn attribute_of(headers: &Headers, prefix: &str, attribute: &str) -> Option<Name> {
    match headers.get(&format!("{prefix}{attribute}"))? {
        HeaderValue::Text(text) if text.is_empty() => None,
        HeaderValue::Text(text) => Some(text.clone()),
        HeaderValue::Int(number) => Some(number.to_string().into()),
    }
}

/// Reads the full name of a message out of the URI of its type.
fn message_of(url: &str) -> Option<Name> {
    let name = url.strip_prefix("https://").unwrap_or(url).strip_prefix(TYPE_URL)?;
    (!name.is_empty()).then(|| name.into())
}

/// Writes who sent an event as a URI reference.
fn source(sender: Option<&str>) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encode = |byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let written: String = sender.unwrap_or_default().bytes().map(encode).collect();
    match written.len() {
        0 => "/clients".to_owned(),
        1..=MAX_SENDER => format!("/agents/{written}"),
        _ => "/agents".to_owned(),
    }
}

fn fill<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Metadata, *};

    fn received(headers: &[(&str, &str)]) -> Metadata {
        let mut received = Envelope::default();
        received.metadata.message_id = Some("mine".into());
        for (name, value) in headers {
            received.read_header(name, WireValue::Text(value));
        }
        received.fill_from_cloud_events();
        received.metadata
    }

    #[test]
    fn cloud_events_headers_fill_what_is_missing() {
        for prefix in PREFIXES {
            let name = |attribute| format!("{prefix}{attribute}");
            let metadata = received(&[
                (&name("specversion"), "1.0"),
                (&name("id"), "theirs"),
                (&name("type"), "market.v1.Question"),
                (&name("source"), "/desk"),
                (&name("time"), "2026-11-21T13:00:00.25Z"),
                (&name("correlationid"), "flow"),
                (&name("causationid"), "cause"),
                (&name("traceparent"), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ]);
            assert_eq!(metadata.message_id, Some("mine".into()));
            assert_eq!(metadata.message_type.as_deref(), Some("market.v1.Question"));
            assert_eq!(metadata.sender.as_deref(), Some("/desk"));
            assert_eq!(metadata.timestamp, Some(Timestamp::from_millis(1_795_266_000_250)));
            assert_eq!(metadata.conversation_id, Some("flow".into()));
            assert_eq!(metadata.causation_id, Some("cause".into()));
            assert!(metadata.traceparent.is_some());
        }
    }

    #[test]
    fn without_a_version_they_are_free_headers() {
        let metadata = received(&[("ce-type", "market.v1.Question")]);
        assert_eq!(metadata.message_type, None);
        assert_eq!(metadata.headers.text("ce-type"), Some("market.v1.Question"));
    }

    #[test]
    fn the_schema_goes_before_the_name_of_the_event() {
        let metadata = received(&[
            ("ce-specversion", "1.0"),
            ("ce-type", "com.example.asked"),
            ("ce-dataschema", "type.googleapis.com/market.v1.Question"),
        ]);
        assert_eq!(metadata.message_type.as_deref(), Some("market.v1.Question"));
        let metadata = received(&[
            ("ce-specversion", "1.0"),
            ("ce-type", "market.v1.Question"),
            ("ce-dataschema", "https://example.com/question.json"),
        ]);
        assert_eq!(metadata.message_type.as_deref(), Some("market.v1.Question"));
    }

    #[test]
    fn what_was_written_reads_back() {
        let mut sent = Envelope::encode(&());
        sent.metadata.sender = Some("data agent".into());
        sent.metadata.conversation_id = Some("flow".into());
        sent.metadata.causation_id = Some("cause".into());
        sent.metadata.expires_at = Some(Timestamp::from_millis(1_795_266_000_250));
        let mut received = Envelope::default();
        sent.write_cloud_events(|name, value| received.read_header(name, value));
        assert_eq!(received.metadata.headers.text("ce-source"), Some("/agents/data%20agent"));
        received.fill_from_cloud_events();
        let Metadata { message_id, message_type, timestamp, conversation_id, .. } = sent.metadata;
        assert_eq!(received.metadata.message_id, message_id);
        assert_eq!(received.metadata.message_type, message_type);
        assert_eq!(received.metadata.timestamp, timestamp);
        assert_eq!(received.metadata.conversation_id, conversation_id);
        assert_eq!(received.metadata.expires_at, sent.metadata.expires_at);
    }

    #[test]
    fn the_headers_of_somebody_else_are_left_alone() {
        let mut sent = Envelope::encode(&());
        sent.metadata.headers.set("ce-specversion", "1.0").unwrap();
        sent.write_cloud_events(|name, _| panic!("wrote {name}"));
        let mut nameless = Envelope::encode(&());
        nameless.metadata.message_type = None;
        nameless.write_cloud_events(|name, _| panic!("wrote {name}"));
    }
}
