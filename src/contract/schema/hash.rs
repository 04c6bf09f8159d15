//! The hash that tells one contract from another.
//!
//! agentbus and agentbus-build each have this file, the same to the byte, which a test checks: the
//! one hashes at run time what the other hashed when it was compiled.
//!
//! What is hashed is a text: a line for each routed method and for each message, enum, field and
//! value that can be reached from one, sorted by full name or number. So comments, formatting, the
//! order and number of files, and messages that no route carries do not change the hash; keys, names,
//! numbers, types and custom options, such as rules of fields, do. Of `google.protobuf` and
//! `agentbus.v1`, which come with a compiler, only the names count.

use std::{collections::BTreeMap, fmt::Write as _};

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey,
    MessageDescriptor, Value,
};
use sha2::{Digest, Sha256};

/// The extension that makes a method a route.
const ROUTE: &str = "agentbus.v1.route";

/// Packages that come with a compiler, whose version is not part of a contract.
const BUNDLED: [&str; 2] = ["google.protobuf", "agentbus.v1"];

/// Hashes what the routes of `pool` say and reach: the first 16 hexadecimal digits of a SHA-256.
pub(crate) fn contract_hash(pool: &DescriptorPool) -> String {
    let mut text = Text::default();
    if let Some(route) = pool.get_extension_by_name(ROUTE) {
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let options = method.options();
            if !options.has_extension(&route) {
                continue;
            }
            let line = format!(
                "({}{}) {}{} {}",
                if method.is_client_streaming() { "stream " } else { "" },
                method.input().full_name(),
                if method.is_server_streaming() { "stream " } else { "" },
                method.output().full_name(),
                value(&options.get_extension(&route)),
            );
            text.lines.insert(format!("method {}", method.full_name()), line);
            text.message(&method.input());
            text.message(&method.output());
        }
    }
    let mut hash = Sha256::new();
    for (name, line) in &text.lines {
        hash.update(format!("{name} {line}\n"));
    }
    hash.finalize().iter().take(8).fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// What is hashed, by what it is about.
#[derive(Default)]
struct Text {
    lines: BTreeMap<String, String>,
}

impl Text {
    fn message(&mut self, message: &MessageDescriptor) {
        let name = format!("message {}", message.full_name());
        if BUNDLED.contains(&message.package_name()) || self.lines.contains_key(&name) {
            return;
        }
        self.lines.insert(name.clone(), custom(&message.options()));
        for field in message.fields() {
            self.field(&name, &field);
        }
        for extension in message.extensions() {
            let line = format!(
                "{} {} {:?}{}",
                extension.full_name(),
                kind(&extension.kind()),
                extension.cardinality(),
                custom(&extension.options()),
            );
            self.lines.insert(format!("{name} extension {:010}", extension.number()), line);
            self.kind(&extension.kind());
        }
    }

    fn field(&mut self, message: &str, field: &FieldDescriptor) {
        let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        let line = format!(
            "{} {:?} {} {:?}{}{}{} {}{}",
            field.name(),
            field.json_name(),
            kind(&field.kind()),
            field.cardinality(),
            if field.supports_presence() { " presence" } else { "" },
            if field.is_packed() { " packed" } else { "" },
            oneof.map(|oneof| format!(" oneof {}", oneof.name())).unwrap_or_default(),
            field.field_descriptor_proto().default_value(),
            custom(&field.options()),
        );
        self.lines.insert(format!("{message} field {:010}", field.number()), line);
        self.kind(&field.kind());
    }

    fn kind(&mut self, kind: &Kind) {
        match kind {
            Kind::Message(message) => self.message(message),
            Kind::Enum(values) => self.values(values),
            _ => {}
        }
    }

    fn values(&mut self, values: &EnumDescriptor) {
        if BUNDLED.contains(&values.package_name()) {
            return;
        }
        let name = format!("enum {}", values.full_name());
        for value in values.values() {
            // Several names may share a number.
            let name = format!("{name} {:+011} {}", value.number(), value.name());
            self.lines.insert(name, custom(&value.options()));
        }
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(values) => values.full_name().to_owned(),
        scalar => format!("{scalar:?}"),
    }
}

/// Writes the custom options among `options`.
fn custom(options: &DynamicMessage) -> String {
    let extensions: BTreeMap<_, _> =
        options.extensions().map(|(it, found)| (it.full_name().to_owned(), value(found))).collect();
    extensions.iter().fold(String::new(), |text, (name, value)| format!("{text} [{name}={value}]"))
}

/// Writes a value of an option, equal values as the same text.
fn value(found: &Value) -> String {
    match found {
        Value::Bool(it) => it.to_string(),
        Value::I32(it) | Value::EnumNumber(it) => it.to_string(),
        Value::I64(it) => it.to_string(),
        Value::U32(it) => it.to_string(),
        Value::U64(it) => it.to_string(),
        Value::F32(it) => format!("{it:?}"),
        Value::F64(it) => format!("{it:?}"),
        Value::String(it) => format!("{it:?}"),
        Value::Bytes(it) => format!("{it:?}"),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(value).collect();
            format!("[{}]", items.join(","))
        }
        Value::Map(entries) => {
            let entries: BTreeMap<_, _> =
                entries.iter().map(|(key, it)| (map_key(key), value(it))).collect();
            format!("{entries:?}")
        }
        Value::Message(message) => {
            let fields: BTreeMap<_, _> =
                message.fields().map(|(field, it)| (field.number(), value(it))).collect();
            let fields = fields
                .iter()
                .fold(String::new(), |text, (number, it)| format!("{text}{number}={it};"));
            format!("{{{fields}{}}}", custom(message))
        }
    }
}

fn map_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(it) => it.to_string(),
        MapKey::I32(it) => it.to_string(),
        MapKey::I64(it) => it.to_string(),
        MapKey::U32(it) => it.to_string(),
        MapKey::U64(it) => it.to_string(),
        MapKey::String(it) => it.clone(),
    }
}
