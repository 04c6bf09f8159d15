//! How many values a field has.

use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};

use super::{Rule, oneofs, types};

/// What becomes of values when a field has another cardinality; nothing where it is the same, packed
/// or not: every reader takes both.
pub(super) fn compare(old: &FieldDescriptor, new: &FieldDescriptor) -> Option<Rule> {
    if old.is_map() && new.is_map() {
        return None;
    }
    if old.is_list() != new.is_list() || old.is_map() != new.is_map() {
        // A map is a repeated message with a key and a value.
        let same_bytes =
            entry(old).zip(entry(new)).is_some_and(|(old, new)| same_entry(&old, &new));
        let repeated = |field: &FieldDescriptor| field.is_list() || field.is_map();
        return Some(if repeated(old) && repeated(new) && same_bytes {
            Rule::FieldJsonCardinality
        } else {
            Rule::FieldCardinality
        });
    }
    if (old.cardinality() == Cardinality::Required) != (new.cardinality() == Cardinality::Required)
    {
        return Some(Rule::FieldRequired);
    }
    let in_oneof = |field: &FieldDescriptor| oneofs::oneof_of(field).is_some();
    // What comes with a move between oneofs is told as that.
    let presence_differs = old.supports_presence() != new.supports_presence();
    (presence_differs && !in_oneof(old) && !in_oneof(new)).then_some(Rule::FieldPresence)
}

fn entry(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(entry) => Some(entry),
        _ => None,
    }
}

fn same_entry(old: &MessageDescriptor, new: &MessageDescriptor) -> bool {
    let same = |number| match (old.get_field(number), new.get_field(number)) {
        (Some(old), Some(new)) => {
            old.is_list() == new.is_list() && types::compare(&old.kind(), &new.kind()).is_none()
        }
        _ => false,
    };
    same(1) && same(2) && old.fields().len() == 2 && new.fields().len() == 2
}

/// What becomes of a map's keys and values; nothing where they stay the same.
pub(super) fn compare_entries(old: &FieldDescriptor, new: &FieldDescriptor) -> Option<Rule> {
    let (old, new) = (entry(old)?, entry(new)?);
    let key = types::compare(&old.map_entry_key_field().kind(), &new.map_entry_key_field().kind());
    let value =
        types::compare(&old.map_entry_value_field().kind(), &new.map_entry_value_field().kind());
    // The rules are in the order of what they break.
    [key, value].into_iter().flatten().min_by_key(|rule| rule.category())
}
