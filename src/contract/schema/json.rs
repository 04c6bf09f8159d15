//! Any message as `ProtoJSON`, with the fields in the order of their numbers.
//!
//! prost-reflect can print messages too, and does it here for the well-known types. The rest is our
//! own for three reasons: its maps come in another order each time, it writes `null` for a wrapped
//! NaN, and it follows an `Any` in an `Any` in an `Any` until the stack ends, which a body of a few
//! hundred kilobytes can make happen.

use base64::{display::Base64Display, prelude::BASE64_STANDARD};
use prost_reflect::{
    DynamicMessage, EnumDescriptor, Kind, MapKey, ReflectMessage, Value, prost_types,
};
use serde::ser::{Error, Serialize, SerializeMap, Serializer};

/// How deep messages may nest, those within an `Any` included. prost has the same limit for
/// decoding, but begins anew in each `Any`.
const MAX_DEPTH: usize = 100;

/// A message that serializes as `ProtoJSON`.
pub(super) struct Json<'a> {
    message: &'a DynamicMessage,
    depth: usize,
}

impl<'a> Json<'a> {
    pub(super) fn new(message: &'a DynamicMessage) -> Self {
        Self { message, depth: 0 }
    }

    fn serialize_fields<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        for (field, value) in self.message.fields() {
            map.serialize_entry(field.json_name(), &self.element(value, &field.kind()))?;
        }
        for (extension, value) in self.message.extensions() {
            map.serialize_entry(extension.json_name(), &self.element(value, &extension.kind()))?;
        }
        Ok(())
    }

    fn element<'b>(&self, value: &'b Value, kind: &'b Kind) -> Element<'b> {
        Element { value, kind, depth: self.depth + 1 }
    }

    fn serialize_any<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let any: prost_types::Any = self.message.transcode_to().map_err(Error::custom)?;
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        let pool = self.message.descriptor();
        let descriptor = pool.parent_pool().get_message_by_name(name).ok_or_else(|| {
            Error::custom(format!(
                "it holds a `google.protobuf.Any` of `{name}`, which the contract does not have; \
                 merge the descriptor set that defines it"
            ))
        })?;
        let message = DynamicMessage::decode(descriptor, &*any.value).map_err(|error| {
            Error::custom(format!(
                "it holds a `google.protobuf.Any` that is not a `{name}`: {error}"
            ))
        })?;
        let inner = Json { message: &message, depth: self.depth + 1 };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("@type", &any.type_url)?;
        if has_own_form(name) {
            map.serialize_entry("value", &inner)?;
        } else {
            inner.serialize_fields(&mut map)?;
        }
        map.end()
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.depth > MAX_DEPTH {
            return Err(Error::custom(format!("messages nest deeper than {MAX_DEPTH} levels")));
        }
        let descriptor = self.message.descriptor();
        match descriptor.full_name() {
            "google.protobuf.Any" => self.serialize_any(serializer),
            "google.protobuf.FloatValue" | "google.protobuf.DoubleValue" => {
                let value = self.message.get_field_by_number(1).ok_or_else(|| {
                    Error::custom(format!("`{}` has no field 1", descriptor.full_name()))
                })?;
                self.element(&value, &Kind::Double).serialize(serializer)
            }
            name if has_own_form(name) => self.message.serialize(serializer),
            _ => {
                let mut map = serializer.serialize_map(None)?;
                self.serialize_fields(&mut map)?;
                map.end()
            }
        }
    }
}

/// A field's value, or an item of it.
struct Element<'a> {
    value: &'a Value,
    kind: &'a Kind,
    depth: usize,
}

impl Serialize for Element<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I32(value) => serializer.serialize_i32(*value),
            Value::U32(value) => serializer.serialize_u32(*value),
            Value::I64(value) => serializer.collect_str(value),
            Value::U64(value) => serializer.collect_str(value),
            Value::F32(value) => serialize_float(shortest(*value), serializer),
            Value::F64(value) => serialize_float(*value, serializer),
            Value::String(value) => serializer.serialize_str(value),
            Value::Bytes(value) => {
                serializer.collect_str(&Base64Display::new(value, &BASE64_STANDARD))
            }
            Value::EnumNumber(number) => serialize_enum(*number, self.kind.as_enum(), serializer),
            Value::Message(message) => Json { message, depth: self.depth }.serialize(serializer),
            Value::List(values) => {
                serializer.collect_seq(values.iter().map(|value| Element { value, ..*self }))
            }
            Value::Map(values) => {
                let entry = self.kind.as_message().ok_or_else(|| Error::custom("not a map"))?;
                let kind = entry.map_entry_value_field().kind();
                let mut entries: Vec<_> = values.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                serializer.collect_map(entries.into_iter().map(|(key, value)| {
                    (key_text(key), Element { value, kind: &kind, depth: self.depth })
                }))
            }
        }
    }
}

fn serialize_float<S: Serializer>(value: f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_nan() {
        serializer.serialize_str("NaN")
    } else if value.is_infinite() {
        serializer.serialize_str(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        serializer.serialize_f64(value)
    }
}

/// The double with the fewest digits that is still this float: 0.1, not 0.10000000149011612.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

fn serialize_enum<S: Serializer>(
    number: i32,
    descriptor: Option<&EnumDescriptor>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match descriptor {
        Some(null) if null.full_name() == "google.protobuf.NullValue" => {
            serializer.serialize_unit()
        }
        known => match known.and_then(|known| known.get_value(number)) {
            Some(value) => serializer.serialize_str(value.name()),
            // A value that a newer contract added.
            None => serializer.serialize_i32(number),
        },
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// Whether `ProtoJSON` has a form of its own for this type, other than an object of its fields.
fn has_own_form(full_name: &str) -> bool {
    full_name.strip_prefix("google.protobuf.").is_some_and(|name| {
        matches!(
            name,
            "Any"
                | "Timestamp"
                | "Duration"
                | "Struct"
                | "Value"
                | "ListValue"
                | "FieldMask"
                | "Empty"
                | "DoubleValue"
                | "FloatValue"
                | "Int32Value"
                | "Int64Value"
                | "UInt32Value"
                | "UInt64Value"
                | "BoolValue"
                | "StringValue"
                | "BytesValue"
        )
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_reflect::prost_types::{Any, Timestamp};
    use serde_json::json;

    use super::super::{
        SchemaError,
        tests::{order, shop},
    };

    #[test]
    fn a_message_survives_json_in_its_canonical_form() {
        let schema = shop();
        let body = schema.from_json("shop.v1.Order", &order().to_string()).unwrap();
        assert_eq!(schema.to_json("shop.v1.Order", &body).unwrap(), order());

        let text = schema.to_json_string("shop.v1.Order", &body).unwrap();
        assert_eq!(text, schema.to_json_string("shop.v1.Order", &body).unwrap());
        assert!(
            text.starts_with("{\n  \"orderId\": \"9007199254740993\",\n  \"status\""),
            "{text}"
        );
        assert!(text.find("\"a\": {}").unwrap() < text.find("\"for me\"").unwrap(), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), order());
    }

    #[test]
    fn an_empty_body_is_a_message_and_unknown_parts_are_no_fault() {
        let schema = shop();
        assert_eq!(schema.to_json("shop.v1.Order", b"").unwrap(), json!({}));
        // Field 2 = 9, a value no one has named; field 100 = 1.
        let body = [0x10, 9, 0xa0, 0x06, 1];
        assert_eq!(schema.to_json("shop.v1.Order", &body).unwrap(), json!({ "status": 9 }));
    }

    #[test]
    fn bodies_that_nest_without_end_are_refused() {
        let schema = shop();
        let mut parts = Vec::new();
        for _ in 0..200 {
            parts = [&[0x1a][..], &length(parts.len()), &parts].concat();
        }
        let error = schema.to_json("shop.v1.Item", &parts).unwrap_err();
        assert!(matches!(error, SchemaError::Decode { .. }), "{error}");

        let url = b"/google.protobuf.Any";
        let mut any = Vec::new();
        for _ in 0..5_000 {
            let value = [&[0x12][..], &length(any.len()), &any].concat();
            any = [&[0x0a][..], &length(url.len()), url, &value].concat();
        }
        let error = schema.to_json("google.protobuf.Any", &any).unwrap_err();
        assert!(matches!(error, SchemaError::Unprintable { .. }), "{error}");
    }

    fn length(len: usize) -> Vec<u8> {
        let mut buffer = Vec::new();
        prost::encoding::encode_varint(len as u64, &mut buffer);
        buffer
    }

    #[test]
    fn what_json_cannot_express_is_an_error_that_says_so() {
        let schema = shop();
        let stranger = Any { type_url: "type.googleapis.com/far.Away".into(), value: Vec::new() };
        let error = schema.to_json("google.protobuf.Any", &stranger.encode_to_vec()).unwrap_err();
        assert!(error.to_string().contains("`far.Away`, which the contract does not have"));

        let far = Timestamp { seconds: i64::MAX, nanos: 0 }.encode_to_vec();
        let error = schema.to_json("google.protobuf.Timestamp", &far).unwrap_err();
        assert!(matches!(error, SchemaError::Unprintable { .. }), "{error}");
    }
}
