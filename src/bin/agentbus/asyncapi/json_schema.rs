//! The JSON Schema of messages in their `ProtoJSON` form.

use std::fmt::Write as _;

use prost_reflect::{EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::contract::{comment, proto_text};

/// Writes the schema of a message: what writers of `ProtoJSON` make of it.
///
/// Fields that are absent are left out, so none is required, except where proto2 says so. Unknown
/// names are allowed: a newer contract may have more fields.
pub(super) fn message(message: &MessageDescriptor) -> Value {
    if let Some(known) = well_known(message.full_name()) {
        return titled(known, message.full_name(), None);
    }
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in proto_text::in_order(message) {
        if field.is_required() {
            required.push(field.json_name().to_owned());
        }
        properties.insert(field.json_name().to_owned(), self::field(&field));
    }
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    let oneofs: Vec<_> = message
        .oneofs()
        .filter(|oneof| !oneof.is_synthetic() && oneof.fields().len() > 1)
        .map(|oneof| {
            let mut fields: Vec<_> =
                oneof.fields().map(|field| field.json_name().to_owned()).collect();
            fields.sort();
            at_most_one(&fields)
        })
        .collect();
    if !oneofs.is_empty() {
        schema["allOf"] = json!(oneofs);
    }
    if proto_text::is_deprecated(&message.options()) {
        schema["deprecated"] = json!(true);
    }
    titled(schema, message.full_name(), comment_of(&message.parent_file(), message.path()))
}

/// Writes the schema of an enum: the names of its values. `ProtoJSON` writes a value that the
/// contract does not know as its number.
pub(super) fn enumeration(of: &EnumDescriptor) -> Value {
    let name = of.full_name();
    if name == "google.protobuf.NullValue" {
        return json!({ "type": "null", "title": name });
    }
    let file = of.parent_file();
    let values = proto_text::values_in_order(of);
    let names: Vec<_> = values.iter().map(|value| value.name().to_owned()).collect();
    let mut text = comment_of(&file, of.path()).unwrap_or_default();
    for value in &values {
        if let Some(comment) = comment_of(&file, value.path()) {
            let separator = if text.is_empty() { "" } else { "\n" };
            _ = write!(text, "{separator}- `{}`: {}", value.name(), comment.replace('\n', " "));
        }
    }
    let schema = json!({ "type": "string", "enum": names });
    titled(schema, name, (!text.is_empty()).then_some(text))
}

fn field(field: &FieldDescriptor) -> Value {
    let mut schema = if field.is_map() {
        map(field)
    } else if field.is_list() {
        json!({ "type": "array", "items": kind(&field.kind()) })
    } else {
        kind(&field.kind())
    };
    // What stands beside a reference is not read.
    let wrap = |schema: Value| {
        if schema.get("$ref").is_some() { json!({ "allOf": [schema] }) } else { schema }
    };
    if let Some(comment) = comment_of(&field.parent_file(), field.path()) {
        schema = wrap(schema);
        schema["description"] = json!(comment);
    }
    if proto_text::is_deprecated(&field.options()) {
        schema = wrap(schema);
        schema["deprecated"] = json!(true);
    }
    schema
}

fn map(field: &FieldDescriptor) -> Value {
    let Kind::Message(entry) = field.kind() else { return json!({ "type": "object" }) };
    let names = match entry.map_entry_key_field().kind() {
        Kind::Bool => Some(json!({ "enum": ["true", "false"] })),
        Kind::String => None,
        Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => {
            Some(json!({ "pattern": "^[0-9]+$" }))
        }
        _ => Some(json!({ "pattern": "^-?[0-9]+$" })),
    };
    let values = kind(&entry.map_entry_value_field().kind());
    let mut schema = json!({ "type": "object", "additionalProperties": values });
    if let Some(names) = names {
        schema["propertyNames"] = names;
    }
    schema
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Double | Kind::Float => number(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            json!({ "type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX })
        }
        Kind::Uint32 | Kind::Fixed32 => {
            json!({ "type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX })
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            json!({ "type": "string", "format": "int64", "pattern": "^-?[0-9]+$" })
        }
        Kind::Uint64 | Kind::Fixed64 => {
            json!({ "type": "string", "format": "uint64", "pattern": "^[0-9]+$" })
        }
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::String => json!({ "type": "string" }),
        Kind::Bytes => bytes(),
        Kind::Message(message) => reference(message.full_name()),
        Kind::Enum(enumeration) => reference(enumeration.full_name()),
    }
}

fn number() -> Value {
    json!({ "anyOf": [{ "type": "number" }, { "enum": ["NaN", "Infinity", "-Infinity"] }] })
}

fn bytes() -> Value {
    json!({ "type": "string", "contentEncoding": "base64" })
}

/// Google's types that have a form of their own in `ProtoJSON`.
fn well_known(full_name: &str) -> Option<Value> {
    let name = full_name.strip_prefix("google.protobuf.")?;
    Some(match name {
        "Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "Duration" => json!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$" }),
        "FieldMask" => json!({ "type": "string" }),
        "Struct" => json!({ "type": "object" }),
        "Value" => json!({}),
        "ListValue" => json!({ "type": "array" }),
        "Any" => json!({
            "type": "object",
            "properties": { "@type": { "type": "string" } },
            "required": ["@type"],
        }),
        "DoubleValue" | "FloatValue" => number(),
        "Int64Value" => kind(&Kind::Int64),
        "UInt64Value" => kind(&Kind::Uint64),
        "Int32Value" => kind(&Kind::Int32),
        "UInt32Value" => kind(&Kind::Uint32),
        "BoolValue" => kind(&Kind::Bool),
        "StringValue" => kind(&Kind::String),
        "BytesValue" => bytes(),
        _ => return None,
    })
}

/// Says that a message has at most one of these.
fn at_most_one(names: &[String]) -> Value {
    let one = |name: &String| json!({ "required": [name] });
    let each: Vec<_> = names.iter().map(one).collect();
    let none = json!({ "not": { "anyOf": each } });
    json!({ "oneOf": each.iter().cloned().chain([none]).collect::<Vec<_>>() })
}

fn reference(full_name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{full_name}") })
}

fn titled(mut schema: Value, full_name: &str, description: Option<String>) -> Value {
    schema["title"] = json!(full_name);
    if let Some(description) = description {
        schema["description"] = json!(description);
    }
    schema
}

fn comment_of(file: &FileDescriptor, path: &[i32]) -> Option<String> {
    comment::of(file, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_have_the_form_that_protojson_gives_them() {
        assert_eq!(kind(&Kind::Sfixed64)["type"], "string");
        assert_eq!(kind(&Kind::Uint32)["maximum"], 4_294_967_295_u32);
        assert_eq!(kind(&Kind::Bytes)["contentEncoding"], "base64");
        assert_eq!(kind(&Kind::Float)["anyOf"][1]["enum"][0], "NaN");
    }

    #[test]
    fn googles_types_have_forms_of_their_own() {
        assert_eq!(well_known("google.protobuf.Timestamp").unwrap()["format"], "date-time");
        assert_eq!(well_known("google.protobuf.Value"), Some(json!({})));
        // Without fields, and so without a form of its own.
        assert_eq!(well_known("google.protobuf.Empty"), None);
        assert_eq!(well_known("shop.v1.Timestamp"), None);
    }

    #[test]
    fn of_a_oneof_there_is_at_most_one() {
        let names = ["a".to_owned(), "b".to_owned()];
        let expected = json!({ "oneOf": [
            { "required": ["a"] },
            { "required": ["b"] },
            { "not": { "anyOf": [{ "required": ["a"] }, { "required": ["b"] }] } },
        ] });
        assert_eq!(at_most_one(&names), expected);
    }
}
