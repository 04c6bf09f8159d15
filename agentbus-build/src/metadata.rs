//! Finds messages that carry their metadata in the body, in the manner of older systems.

use protox::prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};

/// The first five fields, in order of their numbers, of a message that is metadata.
const FIELDS: [(&str, Kind); 5] = [
    ("message_id", Kind::String),
    ("correlation_id", Kind::String),
    ("timestamp", Kind::Int64),
    ("sender_agent", Kind::String),
    ("reply_to", Kind::String),
];

/// Tells whether fields 1 to 5 of a message are those of metadata; it may have more.
pub(crate) fn is_metadata(message: &MessageDescriptor) -> bool {
    (1..).zip(FIELDS).all(|(number, (name, kind))| {
        message.get_field(number).is_some_and(|field| {
            field.name() == name && field.kind() == kind && is_singular(&field)
        })
    })
}

/// Returns the field that holds a message's metadata: of several, the one with the lowest number.
pub(crate) fn field_of(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    message
        .fields()
        .filter(is_singular)
        .filter(|field| field.kind().as_message().is_some_and(is_metadata))
        .min_by_key(FieldDescriptor::number)
}

fn is_singular(field: &FieldDescriptor) -> bool {
    field.cardinality() != Cardinality::Repeated
        && field.containing_oneof().is_none_or(|oneof| oneof.is_synthetic())
}

#[cfg(test)]
mod tests {
    use protox::{file::File, prost_reflect::DescriptorPool};

    use super::*;

    fn pool(messages: &str) -> DescriptorPool {
        let source = format!("syntax = \"proto3\"; package a; {messages}");
        let file = File::from_source("a.proto", &source).unwrap();
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_proto(file.into()).unwrap();
        pool
    }

    fn is_metadata_with(fields: &str) -> bool {
        let pool = pool(&format!("message M {{ {fields} }}"));
        is_metadata(&pool.get_message_by_name("a.M").unwrap())
    }

    const FIRST_FOUR: &str = "string message_id = 1; string correlation_id = 2; \
        int64 timestamp = 3; string sender_agent = 4;";

    #[test]
    fn metadata_is_known_by_its_first_five_fields() {
        assert!(is_metadata_with(&format!("{FIRST_FOUR} string reply_to = 5;")));
        assert!(is_metadata_with(&format!("{FIRST_FOUR} string reply_to = 5; bytes more = 6;")));
        for other in [
            "",
            "string reply_to = 6;",
            "string replyTo = 5;",
            "bytes reply_to = 5;",
            "repeated string reply_to = 5;",
            "oneof o { string reply_to = 5; }",
        ] {
            assert!(!is_metadata_with(&format!("{FIRST_FOUR} {other}")), "{other}");
        }
    }

    #[test]
    fn the_field_with_the_lowest_number_that_is_neither_repeated_nor_one_of_several_holds_it() {
        let fields = "repeated M many = 1; oneof o { M choice = 2; } N n = 3; M b = 9; \
            optional M a = 7; map<string, M> map = 4;";
        let pool = pool(&format!(
            "message M {{ {FIRST_FOUR} string reply_to = 5; }} message N {{}} \
             message Carrier {{ {fields} }} message None {{ repeated M many = 1; }}"
        ));
        let field = |name| field_of(&pool.get_message_by_name(name).unwrap());
        assert_eq!(field("a.Carrier").map(|field| field.number()), Some(7));
        assert_eq!(field("a.None"), None);
    }
}
