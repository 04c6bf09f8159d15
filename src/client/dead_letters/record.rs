//! Dead letters as JSON: for people to read, and to be put back.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::DeadLetter;
use crate::{
    contract::{Name, Schema},
    message::{Envelope, Failure, FailureKind, HeaderValue, Metadata, Priority, Timestamp},
};

/// A line of an export. What is not known is left out; times are in milliseconds since the epoch.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Record {
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    message_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    headers: Map<String, Value>,
    /// The body as it is, in base64.
    body_base64: String,
    /// The body as ProtoJSON, for people; not read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FailureRecord {
    kind: String,
    error: String,
    agent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    attempts: u32,
    at: u64,
}

/// A text is no exported dead letter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LetterJsonError {
    /// It is not JSON, or has other fields than an exported letter.
    #[error("this is no exported dead letter: {reason}")]
    Json {
        /// What is wrong with it.
        reason: String,
    },
    /// The body is not base64.
    #[error("`bodyBase64` of an exported dead letter is base64, and this is not: {reason}")]
    Body {
        /// What is wrong with it.
        reason: String,
    },
    /// A free header cannot be carried.
    #[error("header `{name}` of an exported dead letter cannot be carried: {reason}")]
    Header {
        /// Name of the header.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl DeadLetter {
    /// Writes the letter with everything that [`from_json`](Self::from_json) needs to make it again.
    ///
    /// Where a schema knows the message, the body is written as ProtoJSON as well.
    #[must_use]
    #[allow(clippy::missing_panics_doc)] // it cannot
    pub fn to_json(&self, schema: Option<&Schema>) -> Value {
        let Envelope { topic, metadata, payload } = self.envelope();
        let text = |name: &Option<Name>| name.as_ref().map(ToString::to_string);
        let id = |id: &Option<crate::Id>| id.as_ref().map(ToString::to_string);
        let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
        let header = |value: &HeaderValue| match value {
            HeaderValue::Text(text) => Value::from(text.as_str()),
            HeaderValue::Int(number) => Value::from(*number),
        };
        let failure = metadata.failure.as_ref().map(|failure| FailureRecord {
            kind: failure.kind.to_string(),
            error: failure.error.to_string(),
            agent: failure.agent.to_string(),
            instance: text(&failure.instance),
            topic: text(&failure.topic),
            attempts: failure.attempts,
            at: failure.at.as_millis(),
        });
        let body = schema
            .zip(metadata.message_type.as_ref())
            .and_then(|(schema, full_name)| schema.to_json(full_name, payload).ok());
        let record = Record {
            message_id: id(&metadata.message_id),
            message_type: text(&metadata.message_type),
            topic: text(topic),
            failure,
            content_type: text(&metadata.content_type),
            content_encoding: metadata.content_encoding.as_deref().map(str::to_owned),
            sender: text(&metadata.sender),
            timestamp: millis(metadata.timestamp),
            correlation_id: id(&metadata.correlation_id),
            conversation_id: id(&metadata.conversation_id),
            causation_id: id(&metadata.causation_id),
            reply_to: text(&metadata.reply_to),
            deadline: millis(metadata.deadline),
            expires_at: millis(metadata.expires_at),
            due_at: millis(metadata.due_at),
            attempt: metadata.attempt,
            max_attempts: metadata.max_attempts,
            priority: metadata.priority.map(Priority::level),
            replica: text(&metadata.replica),
            traceparent: text(&metadata.traceparent),
            tracestate: text(&metadata.tracestate),
            headers: metadata.headers.iter().map(|(k, v)| (k.to_owned(), header(v))).collect(),
            body_base64: BASE64_STANDARD.encode(payload),
            body,
        };
        serde_json::to_value(record).expect("a record has string keys and finite numbers")
    }

    /// Reads a letter that [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the text.
    pub fn from_json(json: &str) -> Result<Self, LetterJsonError> {
        let record: Record = serde_json::from_str(json)
            .map_err(|error| LetterJsonError::Json { reason: error.to_string() })?;
        let payload = BASE64_STANDARD
            .decode(&record.body_base64)
            .map_err(|error| LetterJsonError::Body { reason: error.to_string() })?;
        let name = |text: Option<String>| text.map(Name::from);
        let id = |text: Option<String>| text.map(crate::Id::from);
        let at = |millis: Option<u64>| millis.map(Timestamp::from_millis);
        let failure = record.failure.map(|failure| {
            Box::new(Failure {
                kind: FailureKind::from(failure.kind.as_str()),
                error: failure.error.into(),
                agent: failure.agent.into(),
                instance: name(failure.instance),
                topic: name(failure.topic),
                attempts: failure.attempts,
                at: Timestamp::from_millis(failure.at),
            })
        });
        let mut metadata = Metadata {
            content_type: name(record.content_type),
            content_encoding: record.content_encoding.map(Into::into),
            message_type: name(record.message_type),
            message_id: id(record.message_id),
            correlation_id: id(record.correlation_id),
            reply_to: name(record.reply_to),
            sender: name(record.sender),
            timestamp: at(record.timestamp),
            priority: record.priority.map(Priority::nearest),
            conversation_id: id(record.conversation_id),
            causation_id: id(record.causation_id),
            deadline: at(record.deadline),
            expires_at: at(record.expires_at),
            due_at: at(record.due_at),
            attempt: record.attempt,
            max_attempts: record.max_attempts,
            replica: name(record.replica),
            traceparent: name(record.traceparent),
            tracestate: name(record.tracestate),
            failure,
            ..Metadata::default()
        };
        for (name, value) in record.headers {
            let unfit = |reason: String| LetterJsonError::Header { name: name.clone(), reason };
            let value = match &value {
                Value::String(text) => HeaderValue::from(text.as_str()),
                Value::Number(number) => match number.as_i64() {
                    Some(number) => HeaderValue::Int(number),
                    None => return Err(unfit(format!("{number} is no whole number"))),
                },
                other => return Err(unfit(format!("{other} is neither text nor a number"))),
            };
            let set = metadata.headers.set(name.clone(), value);
            set.map_err(|error| unfit(error.to_string()))?;
        }
        Ok(Self::new(Envelope { topic: name(record.topic), metadata, payload: payload.into() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Id;

    fn letter() -> DeadLetter {
        let mut envelope = Envelope::encode(&"four".to_owned());
        envelope.topic = Some("text.said".into());
        let metadata = &mut envelope.metadata;
        metadata.correlation_id = Some("question 17".into());
        metadata.conversation_id = Some(Id::new());
        metadata.causation_id = Some(Id::new());
        metadata.reply_to = Some("asker".into());
        metadata.sender = Some("feed".into());
        metadata.priority = Some(Priority::HIGH);
        metadata.deadline = Some(Timestamp::from_millis(17));
        metadata.due_at = Some(Timestamp::from_millis(18));
        metadata.expires_at = Some(Timestamp::from_millis(19));
        metadata.attempt = Some(3);
        metadata.max_attempts = Some(5);
        metadata.replica = Some("0a".into());
        metadata.traceparent = Some("00-1-2-01".into());
        metadata.tracestate = Some("vendor=1".into());
        metadata.headers.set("tenant", "acme").unwrap();
        metadata.headers.set("shard", -7).unwrap();
        metadata.failure = Some(Box::new(Failure {
            kind: FailureKind::Other("new kind".into()),
            error: "line 1\nline \"2\"".into(),
            agent: "data".into(),
            instance: Some("0a".into()),
            topic: Some("text.said".into()),
            attempts: 4,
            at: Timestamp::from_millis(1_700_000_000_000),
        }));
        DeadLetter::new(envelope)
    }

    #[test]
    fn a_letter_reads_back_whole() {
        let whole = letter();
        let mut garbage = Envelope { payload: vec![0xff, 0, 0x80].into(), ..Envelope::default() };
        garbage.metadata.content_type = Some("image/png".into());
        for letter in [whole, DeadLetter::new(garbage), DeadLetter::new(Envelope::default())] {
            let line = letter.to_json(None).to_string();
            assert!(!line.contains('\n'));
            assert_eq!(DeadLetter::from_json(&line).unwrap(), letter);
        }
    }

    #[test]
    fn a_body_that_is_decoded_is_still_read_from_its_bytes() {
        let letter = letter();
        let mut json = letter.to_json(None);
        json["body"] = "edited by hand".into();
        assert_eq!(DeadLetter::from_json(&json.to_string()).unwrap(), letter);
    }

    #[test]
    fn what_is_no_letter_is_said_to_be_none() {
        assert!(matches!(DeadLetter::from_json("{"), Err(LetterJsonError::Json { .. })));
        assert!(matches!(
            DeadLetter::from_json(r#"{"bodyBase":""}"#),
            Err(LetterJsonError::Json { .. })
        ));
        assert!(matches!(
            DeadLetter::from_json(r#"{"bodyBase64":"%"}"#),
            Err(LetterJsonError::Body { .. })
        ));
        let header = r#"{"bodyBase64":"","headers":{"a":1.5}}"#;
        assert!(matches!(DeadLetter::from_json(header), Err(LetterJsonError::Header { .. })));
    }
}
