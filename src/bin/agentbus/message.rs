//! A message as it is shown: decoded by the contract, or its bytes in hex.

use std::{collections::BTreeMap, fmt::Write as _};

use agentbus::{
    Envelope, Id,
    message::{CONTENT_TYPE, Failure, HeaderValue},
};
use serde::Serialize;
use serde_json::Value;

use crate::{contract::Contract, output::printable, time};

/// How many bytes of a body that is not decoded are shown as text; JSON has them all.
const HEX_SHOWN: usize = 256;

/// A message with its metadata. Its JSON has these fields.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    message_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<ShownFailure>,
    /// Size of the body in bytes.
    bytes: usize,
    /// The body as `ProtoJSON`.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
    /// The body as it is, where it was not decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    undecoded: Option<String>,
}

/// Why a message is a dead letter.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownFailure {
    kind: String,
    error: String,
    agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    attempts: u32,
    at: String,
}

impl Shown {
    /// Decodes the body, as far as the contract knows it.
    pub(crate) fn new(envelope: &Envelope, contract: &Contract) -> Self {
        let metadata = &envelope.metadata;
        let id = |id: &Option<Id>| id.as_ref().map(ToString::to_string);
        let text = |name: &Option<agentbus::Name>| name.as_ref().map(ToString::to_string);
        let message_type = contract.type_of(envelope).map(str::to_owned);
        let content_type = metadata.content_type.as_deref().filter(|it| *it != CONTENT_TYPE);
        let (body, undecoded) = match decoded(envelope, contract) {
            Ok(body) => (Some(body), None),
            Err(reason) => (None, Some(reason)),
        };
        let headers = metadata.headers.iter().map(|(name, value)| {
            let value = match value {
                HeaderValue::Int(number) => Value::from(*number),
                HeaderValue::Text(text) => Value::from(text.as_str()),
            };
            (name.to_owned(), value)
        });
        Self {
            topic: text(&envelope.topic),
            message_type,
            content_type: content_type.map(str::to_owned),
            message_id: id(&metadata.message_id),
            sender: text(&metadata.sender),
            timestamp: metadata.timestamp.map(time::shown),
            correlation_id: id(&metadata.correlation_id),
            reply_to: text(&metadata.reply_to),
            conversation_id: id(&metadata.conversation_id),
            causation_id: id(&metadata.causation_id),
            priority: metadata.priority.map(agentbus::message::Priority::level),
            attempt: metadata.attempt,
            deadline: metadata.deadline.map(time::shown),
            due_at: metadata.due_at.map(time::shown),
            expires_at: metadata.expires_at.map(time::shown),
            traceparent: text(&metadata.traceparent),
            headers: headers.collect(),
            failure: metadata.failure.as_deref().map(ShownFailure::new),
            bytes: envelope.payload.len(),
            body_hex: body.is_none().then(|| hex(&envelope.payload)),
            body,
            undecoded,
        }
    }

    /// Returns the body, where it was decoded.
    pub(crate) fn body(&self) -> Option<&Value> {
        self.body.as_ref()
    }

    /// Writes the message as text: a line that says what it is, then its body; with `headers`,
    /// everything else in between.
    pub(crate) fn to_text(&self, headers: bool) -> String {
        let mut text = String::new();
        let known = [
            self.timestamp.as_deref(),
            Some(self.topic.as_deref().unwrap_or("(no topic)")),
            Some(self.message_type.as_deref().unwrap_or("(no type)")),
        ];
        let line: Vec<String> = known.into_iter().flatten().map(printable).collect();
        text.push_str(&line.join("  "));
        if headers {
            self.write_headers(&mut text);
        }
        match (&self.body, &self.body_hex) {
            (Some(body), _) => {
                // A value that was made of text goes back into it.
                let body = serde_json::to_string_pretty(body).unwrap_or_default();
                for line in body.lines() {
                    _ = write!(text, "\n  {}", printable(line));
                }
            }
            (None, Some(hex)) => {
                let shown: String = hex.chars().take(2 * HEX_SHOWN).collect();
                let more = if shown.len() < hex.len() { "…" } else { "" };
                let reason = self.undecoded.as_deref().unwrap_or_default();
                _ = write!(text, "\n  {} bytes: {shown}{more}", self.bytes);
                _ = write!(text, "\n  not decoded: {}", printable(reason));
            }
            (None, None) => {}
        }
        text
    }

    fn write_headers(&self, text: &mut String) {
        let mut row = |name: &str, value: &dyn std::fmt::Display| {
            _ = write!(text, "\n  {name}: {}", printable(&value.to_string()));
        };
        let texts = [
            ("message id", &self.message_id),
            ("sender", &self.sender),
            ("content type", &self.content_type),
            ("correlation id", &self.correlation_id),
            ("reply to", &self.reply_to),
            ("conversation id", &self.conversation_id),
            ("causation id", &self.causation_id),
            ("deadline", &self.deadline),
            ("due at", &self.due_at),
            ("expires at", &self.expires_at),
            ("traceparent", &self.traceparent),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                row(name, value);
            }
        }
        if let Some(priority) = self.priority {
            row("priority", &priority);
        }
        if let Some(attempt) = self.attempt {
            row("attempt", &attempt);
        }
        if let Some(failure) = &self.failure {
            let ShownFailure { kind, error, agent, attempts, at, .. } = failure;
            row(
                "failure",
                &format!("{kind} of `{agent}` after attempt {attempts} at {at}: {error}"),
            );
        }
        for (name, value) in &self.headers {
            row(&printable(name), value);
        }
    }
}

impl ShownFailure {
    fn new(failure: &Failure) -> Self {
        Self {
            kind: failure.kind.to_string(),
            error: failure.error.to_string(),
            agent: failure.agent.to_string(),
            instance: failure.instance.as_ref().map(ToString::to_string),
            topic: failure.topic.as_ref().map(ToString::to_string),
            attempts: failure.attempts,
            at: time::shown(failure.at),
        }
    }
}

fn decoded(envelope: &Envelope, contract: &Contract) -> Result<Value, String> {
    let said = envelope.metadata.content_type.as_deref();
    if let Some(other) = said
        && !matches!(other, "" | CONTENT_TYPE | "application/protobuf")
    {
        return Err(format!("its content type is `{other}`"));
    }
    if let Some(other) = envelope.metadata.content_encoding.as_deref()
        && !matches!(other, "" | "identity")
    {
        return Err(format!("its content encoding is `{other}`"));
    }
    let Some(name) = contract.type_of(envelope) else {
        return Err("it does not say its type, and no route of the contract does".to_owned());
    };
    if !contract.is_given() && !contract.schema().contains(name) {
        return Err(format!("`{name}` is not known; name its contract by `--proto FILE`"));
    }
    contract.schema().to_json(name, &envelope.payload).map_err(|error| error.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use agentbus::proto::v1::ErrorReply;

    use super::*;

    fn shown(envelope: &Envelope) -> Shown {
        Shown::new(envelope, &Contract::load(&[]).unwrap())
    }

    #[test]
    fn a_known_body_is_decoded() {
        let reply = ErrorReply { code: "NOT_FOUND".to_owned(), ..ErrorReply::default() };
        let mut envelope = Envelope::encode(&reply);
        envelope.topic = Some("a.b".into());
        envelope.metadata.headers.set("tenant", "ac\u{1b}me").unwrap();
        let shown = shown(&envelope);
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["body"], serde_json::json!({ "code": "NOT_FOUND" }));
        assert_eq!(json["type"], "agentbus.v1.ErrorReply");
        let text = shown.to_text(true);
        assert!(text.contains("a.b  agentbus.v1.ErrorReply\n"), "{text}");
        assert!(text.contains(r#"tenant: "ac"#) && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn another_body_is_shown_in_hex_with_the_reason() {
        let mut envelope = Envelope::encode(&ErrorReply::default());
        envelope.payload = vec![0x08, 0xff].into();
        envelope.metadata.message_type = Some("shop.v1.Order".into());
        let unknown = shown(&envelope);
        assert_eq!(unknown.body_hex.as_deref(), Some("08ff"));
        assert!(unknown.to_text(false).contains("--proto"), "{}", unknown.to_text(false));
        envelope.metadata.content_type = Some("text/plain".into());
        assert!(shown(&envelope).undecoded.unwrap().contains("text/plain"));
        envelope.metadata = agentbus::message::Metadata::default();
        assert!(shown(&envelope).undecoded.unwrap().contains("does not say its type"));
    }
}
