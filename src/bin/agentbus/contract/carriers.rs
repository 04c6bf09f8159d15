//! Which routes carry a message, as what is sent or answered, or somewhere within that.

use std::collections::BTreeMap;

use agentbus_build::Route;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde::Serialize;

use super::described::Described;

/// A route that carries a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Carrier {
    pub(crate) topic: String,
    pub(crate) method: String,
    /// `request`, `event` or `reply`.
    #[serde(rename = "as")]
    pub(crate) role: &'static str,
    /// The message that travels, where this one is within it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) within: Option<String>,
}

/// Names a route's method in full.
pub(crate) fn method(route: &Route) -> String {
    format!("{}.{}", route.service, route.method)
}

/// Finds the routes that carry the message or enum of this name.
pub(crate) fn of(contract: &Described, full_name: &str) -> Vec<Carrier> {
    let mut carriers = Vec::new();
    for route in contract.routes() {
        let role = if route.reply.is_some() { "request" } else { "event" };
        let bodies = [(Some(&route.request), role), (route.reply.as_ref(), "reply")];
        for (body, role) in bodies {
            let Some(message) = body.and_then(|body| contract.message(body)) else { continue };
            let is_itself = message.full_name() == full_name;
            let parts = parts(&message);
            if is_itself || parts.contains(full_name) {
                carriers.push(Carrier {
                    topic: route.key.clone(),
                    method: method(route),
                    role,
                    within: (!is_itself).then(|| message.full_name().to_owned()),
                });
            }
        }
    }
    carriers
}

/// The messages and enums that fields of a message have, and fields of those, by name.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) messages: BTreeMap<String, MessageDescriptor>,
    pub(crate) enums: BTreeMap<String, EnumDescriptor>,
}

impl Parts {
    pub(crate) fn contains(&self, full_name: &str) -> bool {
        self.messages.contains_key(full_name) || self.enums.contains_key(full_name)
    }

    /// Adds a message, and what its fields have.
    pub(crate) fn add(&mut self, message: &MessageDescriptor) {
        let mut waiting = vec![message.clone()];
        while let Some(message) = waiting.pop() {
            let name = message.full_name().to_owned();
            if self.messages.insert(name, message.clone()).is_none() {
                waiting.extend(self.fields(&message));
            }
        }
    }

    /// Adds the enums of a message's fields, and returns their messages.
    fn fields(&mut self, message: &MessageDescriptor) -> Vec<MessageDescriptor> {
        let mut found = Vec::new();
        for field in message.fields() {
            match value_kind(&field) {
                Kind::Message(part) => found.push(part),
                Kind::Enum(part) => {
                    self.enums.insert(part.full_name().to_owned(), part);
                }
                _ => {}
            }
        }
        found
    }
}

/// Returns the type of a field's values; of a map, that of its values.
pub(crate) fn value_kind(field: &FieldDescriptor) -> Kind {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    }
}

/// Finds what a message's fields have, and fields of that; the message itself only where it is
/// within itself.
pub(crate) fn parts(message: &MessageDescriptor) -> Parts {
    let mut parts = Parts::default();
    for part in parts.fields(message) {
        parts.add(&part);
    }
    parts
}
