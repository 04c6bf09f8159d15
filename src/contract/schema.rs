//! The descriptors of a contract: what its messages are, and their `ProtoJSON`.

mod error;
mod files;
mod hash;
mod json;

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};

pub use self::error::SchemaError;
use self::{files::Files, json::Json};

/// The descriptors of a contract's messages.
///
/// With it any message can be printed and read as [`ProtoJSON`] by its full name, without its Rust
/// type. agentbus-build embeds the descriptor set that this is made from; `protoc
/// --include_imports --descriptor_set_out=FILE` writes one too. A clone is cheap and shares
/// the descriptors; merging into one clone leaves the others as they are.
///
/// ```
/// # use agentbus::contract::{Schema, SchemaError};
/// # fn show(descriptor_set: &[u8], body: &[u8]) -> Result<(), SchemaError> {
/// let schema = Schema::decode(descriptor_set)?;
/// println!("{}", schema.to_json_string("shop.v1.Order", body)?);
/// # Ok(())
/// # }
/// ```
///
/// [`ProtoJSON`]: https://protobuf.dev/programming-guides/json/
#[derive(Clone, Debug, Default)]
pub struct Schema {
    files: Files,
}

impl Schema {
    /// Decodes an encoded `google.protobuf.FileDescriptorSet`, custom options included.
    ///
    /// # Errors
    ///
    /// As [`merge`](Self::merge).
    pub fn decode(file_descriptor_set: &[u8]) -> Result<Self, SchemaError> {
        let mut schema = Self::default();
        schema.merge(file_descriptor_set)?;
        Ok(schema)
    }

    /// Adds the files of another encoded `google.protobuf.FileDescriptorSet`.
    ///
    /// A file that is already there and says the same, comments aside, is passed over. Files of
    /// `google/protobuf/` and `agentbus/v1/` stay as they came first: they differ between versions of
    /// the compiler, not in what they mean. After an error nothing has been added.
    ///
    /// # Errors
    ///
    /// [`SchemaError::Conflict`] if a file is there with other content, or a type is there from
    /// another file; [`SchemaError::Malformed`] if the bytes are not a descriptor set, or one that
    /// lacks a file it imports.
    pub fn merge(&mut self, file_descriptor_set: &[u8]) -> Result<(), SchemaError> {
        self.files.merge(file_descriptor_set)
    }

    /// Whether there is a message of this full name (`shop.v1.Order`).
    #[must_use]
    pub fn contains(&self, full_name: &str) -> bool {
        self.files.pool().get_message_by_name(full_name).is_some()
    }

    /// The full names of all messages, those of imported files included, file by file.
    pub fn messages(&self) -> impl Iterator<Item = String> + '_ {
        self.files
            .pool()
            .all_messages()
            .filter(|message| !message.is_map_entry())
            .map(|message| message.full_name().to_owned())
    }

    /// Decodes `body` as a message of the type `full_name` and returns it as canonical `ProtoJSON`:
    /// names in lower camel case, fields with their default value left out, 64-bit integers as
    /// strings, bytes as base64, enum values by name, times as RFC 3339.
    ///
    /// Unknown fields are left out. While it works, a hostile body can take about a hundred times
    /// its size in memory, so the size of bodies is to be bounded before.
    ///
    /// # Errors
    ///
    /// [`SchemaError::UnknownType`]; [`SchemaError::Decode`] if `body` is no such message, or nests
    /// deeper than 100 levels; [`SchemaError::Unprintable`] if `ProtoJSON` has no form for it.
    pub fn to_json(&self, full_name: &str, body: &[u8]) -> Result<serde_json::Value, SchemaError> {
        let message = self.decode_message(full_name, body)?;
        serde_json::to_value(Json::new(&message))
            .map_err(|error| SchemaError::unprintable(full_name, &error))
    }

    /// Does the same as [`to_json`](Self::to_json), but returns indented text with the fields in
    /// the order of their numbers and maps in that of their keys, so that equal bodies give equal
    /// texts.
    ///
    /// # Errors
    ///
    /// As [`to_json`](Self::to_json).
    pub fn to_json_string(&self, full_name: &str, body: &[u8]) -> Result<String, SchemaError> {
        let message = self.decode_message(full_name, body)?;
        serde_json::to_string_pretty(&Json::new(&message))
            .map_err(|error| SchemaError::unprintable(full_name, &error))
    }

    /// Reads `ProtoJSON` as a message of the type `full_name` and returns it encoded.
    ///
    /// Field names are taken in lower camel case and as in the `.proto`. A field that the message
    /// does not have is an error.
    ///
    /// # Errors
    ///
    /// [`SchemaError::UnknownType`]; [`SchemaError::Json`], which names the field, its type and
    /// what is wrong there.
    pub fn from_json(&self, full_name: &str, json: &str) -> Result<Bytes, SchemaError> {
        let descriptor = self.message(full_name)?;
        let mut text = serde_json::Deserializer::from_str(json);
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(&mut text, &mut track);
        let message = DynamicMessage::deserialize(descriptor.clone(), tracked)
            .map_err(|error| SchemaError::json(&descriptor, &track.path(), &error))?;
        text.end().map_err(|error| SchemaError::json_text(full_name, &error))?;
        let body = message.encode_to_vec();
        // JSON may nest deeper than any receiver would decode.
        DynamicMessage::decode(descriptor, &*body)
            .map_err(|error| SchemaError::json_text(full_name, &error))?;
        Ok(body.into())
    }

    /// Encodes everything as a `google.protobuf.FileDescriptorSet`, for [`decode`](Self::decode)
    /// and for other tools.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.files.pool().encode_to_vec()
    }

    /// Hashes what the routes say and all messages and enums they reach, as 16 hexadecimal digits.
    ///
    /// Contracts that differ in comments, formatting, the order of files or in messages that no
    /// route carries have the same hash. Keys, names, numbers, types and custom options, such as
    /// rules of fields, change it. Takes time in proportion to the contract's size: keep the result.
    /// [`Contract::hash`](super::Contract::hash) is the same, computed at build time.
    #[must_use]
    pub fn hash(&self) -> String {
        hash::contract_hash(self.files.pool())
    }

    fn message(&self, full_name: &str) -> Result<MessageDescriptor, SchemaError> {
        self.files
            .pool()
            .get_message_by_name(full_name)
            .ok_or_else(|| SchemaError::unknown_type(full_name, self.messages()))
    }

    fn decode_message(&self, full_name: &str, body: &[u8]) -> Result<DynamicMessage, SchemaError> {
        DynamicMessage::decode(self.message(full_name)?, body).map_err(|error| {
            SchemaError::Decode { name: full_name.to_owned(), reason: error.to_string() }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::{collection::vec, prelude::*};
    use serde_json::json;

    use super::*;

    pub(super) const SHOP: &str = r#"
        syntax = "proto3";
        package shop.v1;
        import "google/protobuf/any.proto";
        import "google/protobuf/duration.proto";
        import "google/protobuf/struct.proto";
        import "google/protobuf/timestamp.proto";
        import "google/protobuf/wrappers.proto";

        enum Status { STATUS_UNSPECIFIED = 0; STATUS_PAID = 1; }
        message Item { string product_id = 1; int32 quantity = 2; repeated Item parts = 3; }
        message Order {
          int64 order_id = 1;
          Status status = 2;
          repeated Item items = 3;
          map<string, Item> gifts = 4;
          bytes signature = 5;
          google.protobuf.Timestamp placed_at = 6;
          google.protobuf.Any note = 7;
          oneof payment { string card = 8; uint64 cash = 9; }
          double total = 10;
          float rate = 11;
          google.protobuf.Duration within = 12;
          google.protobuf.Struct extra = 13;
          google.protobuf.DoubleValue weight = 14;
          map<int32, string> labels = 15;
          optional bool gift = 16;
        }
    "#;

    pub(super) fn compile(files: &[(&'static str, &str)]) -> Vec<u8> {
        use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

        struct Sources(Vec<(&'static str, String)>);
        impl FileResolver for Sources {
            fn open_file(&self, name: &str) -> Result<File, protox::Error> {
                let source = self.0.iter().find(|(known, _)| *known == name);
                let (name, source) = source.ok_or_else(|| protox::Error::file_not_found(name))?;
                File::from_source(name, source)
            }
        }

        let mut resolver = ChainFileResolver::new();
        resolver.add(Sources(files.iter().map(|(name, text)| (*name, (*text).into())).collect()));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        compiler.include_imports(true).include_source_info(true);
        compiler.open_files(files.iter().map(|(name, _)| *name)).unwrap();
        compiler.encode_file_descriptor_set()
    }

    pub(super) fn shop() -> Schema {
        static SCHEMA: LazyLock<Schema> =
            LazyLock::new(|| Schema::decode(&compile(&[("shop.proto", SHOP)])).unwrap());
        SCHEMA.clone()
    }

    pub(super) fn order() -> serde_json::Value {
        json!({
            "orderId": "9007199254740993",
            "status": "STATUS_PAID",
            "items": [{ "productId": "a", "quantity": 2 }, {}],
            "gifts": { "for me": { "productId": "b" }, "a": {} },
            "signature": "/+8=",
            "placedAt": "2024-03-01T12:30:00.120Z",
            "note": { "@type": "type.googleapis.com/shop.v1.Item", "quantity": 1 },
            "cash": "0",
            "total": "NaN",
            "rate": 0.1,
            "within": "1.500s",
            "extra": { "list": [1.0, null, "x", { "deep": true }] },
            "weight": "Infinity",
            "labels": { "-1": "b", "2": "a" },
            "gift": false,
        })
    }

    #[test]
    fn json_is_also_read_with_the_names_of_the_proto_and_numbers() {
        let schema = shop();
        let json = r#"{"order_id": 7, "status": 1, "total": 1e3, "items": null}"#;
        let body = schema.from_json("shop.v1.Order", json).unwrap();
        let expected = json!({ "orderId": "7", "status": "STATUS_PAID", "total": 1000.0 });
        assert_eq!(schema.to_json("shop.v1.Order", &body).unwrap(), expected);
    }

    #[test]
    fn what_receivers_could_not_decode_is_not_encoded() {
        let nested = |levels| format!("{}{}", r#"{"parts":["#.repeat(levels), "]}".repeat(levels));
        let schema = shop();
        let body = schema.from_json("shop.v1.Item", &nested(50)).unwrap();
        assert!(schema.to_json("shop.v1.Item", &body).is_ok());
        for levels in [110, 100_000] {
            let error = schema.from_json("shop.v1.Item", &nested(levels)).unwrap_err();
            assert!(matches!(error, SchemaError::Json { .. }), "{error}");
        }
    }

    #[test]
    fn messages_are_listed_without_map_entries() {
        let schema = shop();
        let names: Vec<String> = schema.messages().collect();
        assert!(names.contains(&"shop.v1.Order".to_owned()));
        assert!(names.contains(&"google.protobuf.Any".to_owned()));
        assert!(names.iter().all(|name| !name.contains("Entry") || name.contains("google")));
        assert!(names.iter().all(|name| schema.contains(name)));
    }

    proptest! {
        #[test]
        fn any_body_ends_in_json_or_an_error(body in vec(any::<u8>(), 0..200)) {
            let _ = shop().to_json("shop.v1.Order", &body);
        }

        #[test]
        fn a_damaged_body_or_set_ends_in_json_or_an_error(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let schema = shop();
            let mut body = schema.from_json("shop.v1.Order", &order().to_string())?.to_vec();
            let index = at.index(body.len());
            body[index] = byte;
            let _ = schema.to_json_string("shop.v1.Order", &body);

            let mut set = schema.encode();
            let index = at.index(set.len());
            set[index] = byte;
            if let Ok(damaged) = Schema::decode(&set) {
                let _ = damaged.to_json_string("shop.v1.Order", &body);
            }
        }
    }
}
