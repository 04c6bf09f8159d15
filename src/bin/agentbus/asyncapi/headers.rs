//! The properties and headers of messages, as `docs/wire.md` has them.

use serde_json::{Value, json};

/// Where a property or a header is on the wire.
const PROPERTY: &str = "AMQP property";
const HEADER: &str = "AMQP header";

/// Name, place, type, and what it says.
const ALL: [(&str, &str, &str, &str); 30] = [
    ("content_type", PROPERTY, "string", "`application/x-protobuf`"),
    (
        "type",
        PROPERTY,
        "string",
        "full name of the message; where a sender leaves it out, the topic decides",
    ),
    ("message_id", PROPERTY, "string", "identifies the message; kept by retries and replays"),
    (
        "correlation_id",
        PROPERTY,
        "string",
        "pairs a reply with its request: the request's message id",
    ),
    (
        "reply_to",
        PROPERTY,
        "string",
        "where the reply goes: a queue, through the default exchange, or a direct reply-to address",
    ),
    ("app_id", PROPERTY, "string", "name of the agent that sent the message"),
    (
        "content_encoding",
        PROPERTY,
        "string",
        "none; `identity` is taken for none, any other is refused",
    ),
    (
        "timestamp",
        PROPERTY,
        "integer",
        "when the message was made, in seconds since the Unix epoch",
    ),
    (
        "delivery_mode",
        PROPERTY,
        "integer",
        "2, which is persistent; a foreign sender's message may be transient",
    ),
    ("priority", PROPERTY, "integer", "how urgent the message is"),
    ("traceparent", HEADER, "string", "trace context of the W3C"),
    ("tracestate", HEADER, "string", "trace context of the W3C"),
    (
        "agentbus-topic",
        HEADER,
        "string",
        "the topic, on what does not arrive under its own routing key",
    ),
    (
        "agentbus-conversation-id",
        HEADER,
        "string",
        "shared by all messages that follow from one first message, whose message id it is",
    ),
    (
        "agentbus-causation-id",
        HEADER,
        "string",
        "id of the message that was being handled when this one was sent",
    ),
    (
        "agentbus-contract",
        HEADER,
        "string",
        "hash of the contract that the sender was built with, where it is switched on",
    ),
    (
        "agentbus-deadline",
        HEADER,
        "integer",
        "when nobody waits for the answer any more, in milliseconds since the Unix epoch",
    ),
    (
        "agentbus-expires-at",
        HEADER,
        "integer",
        "when the message is worth nothing any more, in milliseconds since the Unix epoch",
    ),
    (
        "agentbus-due-at",
        HEADER,
        "integer",
        "when a delayed message is to be delivered, in milliseconds since the Unix epoch",
    ),
    (
        "agentbus-attempt",
        HEADER,
        "integer",
        "which attempt at handling this is, from 1; missing means 1",
    ),
    ("agentbus-max-attempts", HEADER, "integer", "how many attempts the message allows, 1 to 1000"),
    ("agentbus-priority", HEADER, "integer", "as the property; delay hops carry the header only"),
    ("agentbus-replica", HEADER, "string", "the replica whose copy was replayed"),
    ("agentbus-failure-kind", HEADER, "string", "on dead letters: the class of failure"),
    ("agentbus-failure-error", HEADER, "string", "on dead letters: what went wrong"),
    ("agentbus-failure-agent", HEADER, "string", "on dead letters: the agent that gave up"),
    (
        "agentbus-failure-instance",
        HEADER,
        "string",
        "on dead letters: its instance, where the message came from a replica's queue",
    ),
    ("agentbus-failure-topic", HEADER, "string", "on dead letters: the topic, where it is known"),
    ("agentbus-failure-attempts", HEADER, "integer", "on dead letters: how often a handler tried"),
    (
        "agentbus-failure-at",
        HEADER,
        "integer",
        "on dead letters: when the agent gave up, in milliseconds since the Unix epoch",
    ),
];

/// Writes the schema of what describes a message beside its body.
///
/// Expressions such as `$message.header#/reply_to` can name headers only, so AMQP's properties are
/// among them; `x-amqp` says which is what.
pub(super) fn schema() -> Value {
    let mut schema = json!({
        "type": "object",
        "description": "Properties and headers of AMQP 0-9-1, all of them flat. Senders need none but `content_type`; a request has `message_id`, `correlation_id` and `reply_to`.",
        "properties": {},
    });
    for (name, place, kind, text) in ALL {
        schema["properties"][name] = json!({ "type": kind, "description": text, "x-amqp": place });
    }
    schema["properties"]["content_type"]["enum"] =
        json!(["application/x-protobuf", "application/protobuf"]);
    schema
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// Name, place and type.
    type Row = (String, &'static str, &'static str);

    /// Reads the rows of the page's tables of properties and headers. Where a table has no types,
    /// they are those of the schema.
    fn rows(page: &str) -> BTreeSet<Row> {
        let mut rows = BTreeSet::new();
        let mut table = None;
        for line in page.lines() {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let [_, first, second, ..] = &cells[..] else {
                table = None;
                continue;
            };
            match (*first, table) {
                ("property", _) => table = Some(PROPERTY),
                ("header", _) => table = Some(HEADER),
                (_, Some(place)) if first.starts_with('`') => {
                    let names = first.split('`').skip(1).step_by(2);
                    // A family's members have a table of their own.
                    for name in names.filter(|name| !name.ends_with('*')) {
                        let kind = match (place, *second) {
                            (HEADER, "text") => "string",
                            (HEADER, "number") => "integer",
                            _ => ALL.iter().find(|row| row.0 == name).map_or("?", |row| row.2),
                        };
                        rows.insert((name.to_owned(), place, kind));
                    }
                }
                _ => {}
            }
        }
        rows
    }

    #[test]
    fn the_headers_are_those_that_the_wire_has() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/wire.md");
        let page = fs::read_to_string(page).expect("the page on the wire");
        let ours: BTreeSet<Row> =
            ALL.iter().map(|(name, place, kind, _)| ((*name).to_owned(), *place, *kind)).collect();
        assert_eq!(ours.len(), ALL.len(), "one of them is there twice");
        assert_eq!(ours, rows(&page));
    }
}
