//! A contract as an `AsyncAPI` 3.0 document.
//!
//! A topic is a channel, and a method two operations: `receive` for the agent that has it, `send` for
//! who publishes or asks. A reply goes to the address that the request names, so its channel has none.
//!
//! What travels is protobuf, and a message has one payload, so the payload is the `.proto` text, as a
//! multi-format schema. The `ProtoJSON` form is no second message (an agent takes no JSON), but the
//! same one as the command line, dead letters and gateways show it: its JSON Schema is among the
//! components, and each message refers to it as `x-protojson`.

use std::fmt::Write as _;

mod headers;
mod json_schema;
mod payload;

use agentbus_build::Route;
use serde_json::{Map, Value, json};

use crate::contract::{
    carriers::{self, Parts},
    comment,
    described::Described,
};

const ERROR_REPLY: &str = "agentbus.v1.ErrorReply";

/// What a document says beside the contract.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) title: String,
    pub(crate) version: String,
    /// Name of the topic exchange.
    pub(crate) exchange: String,
    /// The broker, where it is to be named.
    pub(crate) servers: Vec<Server>,
}

/// A broker, without anything secret.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) protocol: &'static str,
    pub(crate) vhost: String,
}

/// Writes the document. `own` are agentbus's own messages, for the error that may answer a request.
pub(crate) fn document(contract: &Described, own: &Described, about: &About) -> Value {
    let mut document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": about.title,
            "version": about.version,
            "description": "Messages are protobuf (`payload`); `x-protojson` of each has the JSON Schema of its ProtoJSON form. `receive` is what the agent does that has a method, `send` what others do.",
            "tags": tags(contract),
        },
        "defaultContentType": "application/x-protobuf",
        "channels": {},
        "operations": {},
        "components": { "messages": {}, "schemas": {} },
    });
    if !about.servers.is_empty() {
        let mut servers = Map::new();
        for (index, server) in about.servers.iter().enumerate() {
            servers.insert(format!("bus-{}", index + 1), server_of(server));
        }
        document["servers"] = Value::Object(servers);
    }
    let mut writer = Writer { document: &mut document, parts: Parts::default(), about };
    for route in contract.routes() {
        writer.route(contract, own, route);
    }
    writer.schemas();
    document
}

struct Writer<'a> {
    document: &'a mut Value,
    /// All types that the messages have.
    parts: Parts,
    about: &'a About,
}

impl Writer<'_> {
    fn route(&mut self, contract: &Described, own: &Described, route: &Route) {
        let method = carriers::method(route);
        self.message(contract, &route.request);
        self.document["channels"][&route.key] = json!({
            "address": route.key,
            "messages": messages([&route.request]),
            "bindings": { "amqp": {
                "is": "routingKey",
                "exchange": { "name": self.about.exchange, "type": "topic", "durable": true, "autoDelete": false },
                "bindingVersion": "0.3.0",
            } },
        });
        let mut operation = json!({
            "channel": { "$ref": channel(&route.key) },
            "messages": [in_channel(&route.key, &route.request)],
            "tags": [{ "name": route.service }],
        });
        if let Some(text) = method_comment(contract, route) {
            operation["description"] = json!(text);
        }
        if let Some(reply) = &route.reply {
            self.message(contract, reply);
            self.message(own, ERROR_REPLY);
            let key = format!("{method}.reply");
            let mut bodies = vec![reply.as_str()];
            if reply != ERROR_REPLY {
                bodies.push(ERROR_REPLY);
            }
            self.document["channels"][&key] = json!({
                "address": null,
                "description": format!("What answers `{}`: its reply, or the error in its place.", route.key),
                "messages": messages(bodies.iter().copied()),
            });
            let answers: Vec<_> = bodies.iter().map(|body| in_channel(&key, body)).collect();
            operation["reply"] = json!({
                "address": {
                    "location": "$message.header#/reply_to",
                    "description": "The queue or direct reply-to address that the request names; the reply has the request's `correlation_id`.",
                },
                "channel": { "$ref": channel(&key) },
                "messages": answers,
            });
        }
        for action in ["receive", "send"] {
            let mut operation = operation.clone();
            operation["action"] = json!(action);
            operation["title"] = json!(format!("{} ({action})", route.method));
            self.document["operations"][format!("{method}.{action}")] = operation;
        }
    }

    /// Adds a message to the components, once.
    fn message(&mut self, contract: &Described, full_name: &str) {
        if self.document["components"]["messages"].get(full_name).is_some() {
            return;
        }
        // A contract that was read is linked: its routes name messages that it has.
        let Some(message) = contract.message(full_name) else { return };
        self.parts.add(&message);
        let body = format!("{full_name}-protobuf");
        let mut written = json!({
            "name": full_name,
            "title": message.name(),
            "contentType": "application/x-protobuf",
            "headers": { "$ref": "#/components/schemas/agentbus-headers" },
            "correlationId": { "location": "$message.header#/correlation_id" },
            "payload": { "$ref": format!("#/components/schemas/{body}") },
            "bindings": { "amqp": { "messageType": full_name, "bindingVersion": "0.3.0" } },
            "x-protojson": { "$ref": format!("#/components/schemas/{full_name}") },
        });
        if let Some(text) = comment::of(&message.parent_file(), message.path()) {
            written["summary"] = json!(text.lines().next());
            written["description"] = json!(text);
        }
        self.document["components"]["messages"][full_name] = written;
        let version = match message.parent_file().syntax() {
            prost_reflect::Syntax::Proto2 => 2,
            prost_reflect::Syntax::Proto3 => 3,
        };
        self.document["components"]["schemas"][body] = json!({
            "schemaFormat": format!("application/vnd.google.protobuf;version={version}"),
            "schema": payload::proto(&message),
        });
    }

    fn schemas(&mut self) {
        let schemas = &mut self.document["components"]["schemas"];
        schemas["agentbus-headers"] = headers::schema();
        for (name, message) in &self.parts.messages {
            schemas[name] = json_schema::message(message);
        }
        for (name, enumeration) in &self.parts.enums {
            schemas[name] = json_schema::enumeration(enumeration);
        }
    }
}

fn server_of(server: &Server) -> Value {
    json!({
        "host": server.host,
        "protocol": server.protocol,
        "protocolVersion": "0.9.1",
        // As in the bus's own address: the default virtual host is `/%2F`.
        "pathname": format!("/{}", percent_encoded(&server.vhost, b"-._~")),
    })
}

fn tags(contract: &Described) -> Value {
    let mut tags: Vec<Value> = Vec::new();
    for route in contract.routes() {
        if tags.iter().any(|tag| tag["name"] == json!(route.service)) {
            continue;
        }
        let mut tag = json!({ "name": route.service });
        if let Some(text) = contract
            .service(&route.service)
            .and_then(|service| comment::of(&service.parent_file(), service.path()))
        {
            tag["description"] = json!(text);
        }
        tags.push(tag);
    }
    json!(tags)
}

/// Returns the comment of a route's method.
pub(crate) fn method_comment(contract: &Described, route: &Route) -> Option<String> {
    let service = contract.service(&route.service)?;
    let method = service.methods().find(|method| method.name() == route.method)?;
    comment::of(&method.parent_file(), method.path())
}

fn messages<'a>(names: impl IntoIterator<Item = impl AsRef<str> + 'a>) -> Value {
    let mut messages = Map::new();
    for name in names {
        let name = name.as_ref();
        let reference = json!({ "$ref": format!("#/components/messages/{name}") });
        messages.insert(name.to_owned(), reference);
    }
    Value::Object(messages)
}

fn channel(key: &str) -> String {
    format!("#/channels/{}", escaped(key))
}

fn in_channel(key: &str, message: &str) -> Value {
    json!({ "$ref": format!("{}/messages/{message}", channel(key)) })
}

/// Writes a key as part of a JSON pointer within an address.
fn escaped(key: &str) -> String {
    let pointer = key.replace('~', "~0").replace('/', "~1");
    percent_encoded(&pointer, b"-._~!$&'()+,;=:@/")
}

/// Percent-encodes all but letters, digits and what is plain in this part of an address.
fn percent_encoded(text: &str, plain: &[u8]) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_pointers() {
        assert_eq!(channel("data.request"), "#/channels/data.request");
        assert_eq!(channel("a/b~c.größe"), "#/channels/a~1b~0c.gr%C3%B6%C3%9Fe");
    }

    #[test]
    fn virtual_hosts_are_one_part_of_a_path() {
        for (vhost, pathname) in [("/", "/%2F"), ("prod", "/prod"), ("/a b", "/%2Fa%20b")] {
            let (host, vhost) = ("h:5672".to_owned(), vhost.to_owned());
            let server = server_of(&Server { host, protocol: "amqp", vhost });
            assert_eq!(server["pathname"], pathname);
        }
    }
}
