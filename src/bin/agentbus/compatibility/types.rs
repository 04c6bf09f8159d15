//! Types of fields: which of them are the same on the wire, and in `ProtoJSON`.

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind};

use super::Rule;

/// Names a field's type as a `.proto` file does.
pub(super) fn name(field: &FieldDescriptor) -> String {
    if field.is_map()
        && let Kind::Message(entry) = field.kind()
    {
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        return format!("map<{}, {}>", kind_name(&key.kind()), kind_name(&value.kind()));
    }
    let kind = kind_name(&field.kind());
    if field.is_list() { format!("repeated {kind}") } else { kind }
}

fn kind_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(enumeration) => enumeration.full_name().to_owned(),
        scalar => format!("{scalar:?}"),
    }
}

/// What becomes of values when a type takes the place of another; nothing where they stay the same.
pub(super) fn compare(old: &Kind, new: &Kind) -> Option<Rule> {
    match (old, new) {
        (Kind::Message(old), Kind::Message(new)) => {
            (old.full_name() != new.full_name()).then_some(Rule::FieldType)
        }
        (Kind::Enum(old), Kind::Enum(new)) => compare_enums(old, new),
        _ if old == new => None,
        _ => match (Family::of(old), Family::of(new)) {
            (Some(old), Some(new)) if old == new => Some(Rule::FieldJsonType),
            _ => Some(Rule::FieldType),
        },
    }
}

/// An enum of another name that has all the old values does as well; names of enums do not travel.
fn compare_enums(old: &EnumDescriptor, new: &EnumDescriptor) -> Option<Rule> {
    if old.full_name() == new.full_name() {
        return None;
    }
    let mut rule = Rule::FieldSourceType;
    for value in old.values() {
        let Some(same) = new.get_value(value.number()) else { return Some(Rule::FieldType) };
        let has_name = same.name() == value.name()
            || new.get_value_by_name(value.name()).is_some_and(|v| v.number() == value.number());
        if !has_name {
            rule = Rule::FieldJsonType;
        }
    }
    Some(rule)
}

/// Types of which the one reads what the other wrote, as long as the number fits.
#[derive(PartialEq, Eq)]
enum Family {
    Varint,
    ZigZag,
    Fixed32,
    Fixed64,
}

impl Family {
    fn of(kind: &Kind) -> Option<Self> {
        Some(match kind {
            Kind::Int32
            | Kind::Int64
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Bool
            | Kind::Enum(_) => Self::Varint,
            Kind::Sint32 | Kind::Sint64 => Self::ZigZag,
            Kind::Fixed32 | Kind::Sfixed32 => Self::Fixed32,
            Kind::Fixed64 | Kind::Sfixed64 => Self::Fixed64,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_one_family_differ_in_json_only() {
        assert_eq!(compare(&Kind::Int32, &Kind::Int32), None);
        assert_eq!(compare(&Kind::Int32, &Kind::Int64), Some(Rule::FieldJsonType));
        assert_eq!(compare(&Kind::Sint32, &Kind::Sint64), Some(Rule::FieldJsonType));
        assert_eq!(compare(&Kind::Fixed64, &Kind::Sfixed64), Some(Rule::FieldJsonType));
    }

    #[test]
    fn types_of_different_families_have_different_bytes() {
        assert_eq!(compare(&Kind::Int32, &Kind::Sint32), Some(Rule::FieldType));
        assert_eq!(compare(&Kind::Fixed32, &Kind::Fixed64), Some(Rule::FieldType));
        assert_eq!(compare(&Kind::Float, &Kind::Fixed32), Some(Rule::FieldType));
        // Whoever reads text refuses bytes that are none.
        assert_eq!(compare(&Kind::String, &Kind::Bytes), Some(Rule::FieldType));
    }
}
