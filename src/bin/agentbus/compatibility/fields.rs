//! Fields, found by their numbers.

use prost_reflect::{FieldDescriptor, MessageDescriptor};

use super::{Comparison, Rule, cardinality, reserved::Reserved, types};

pub(super) fn compare(
    comparison: &mut Comparison<'_>,
    old: &MessageDescriptor,
    new: &MessageDescriptor,
) {
    for field in old.fields() {
        if let Some(moved) = moved(&field, new) {
            renumbered(comparison, &field, &moved);
        } else if let Some(new) = new.get_field(field.number()) {
            compare_one(comparison, &field, &new);
        } else {
            removed(comparison, &field, new);
        }
    }
    for field in new.fields().filter(FieldDescriptor::is_required) {
        if old.get_field(field.number()).is_none() && old.get_field_by_name(field.name()).is_none()
        {
            let message = format!(
                "`{}` is new and required: messages from old agents lack it and are refused",
                field.full_name()
            );
            comparison.found_new(Rule::FieldRequired, &field.parent_file(), field.path(), message);
        }
    }
}

/// Finds the field that has the old one's name, and another number.
fn moved(old: &FieldDescriptor, new: &MessageDescriptor) -> Option<FieldDescriptor> {
    new.get_field_by_name(old.name()).filter(|new| new.number() != old.number())
}

fn renumbered(comparison: &mut Comparison<'_>, old: &FieldDescriptor, new: &FieldDescriptor) {
    let message = format!(
        "`{}` has number {} and had {}: who has the other contract does not find it",
        new.full_name(),
        new.number(),
        old.number()
    );
    comparison.found_new(Rule::FieldRenumbered, &new.parent_file(), new.path(), message);
}

fn removed(comparison: &mut Comparison<'_>, old: &FieldDescriptor, new: &MessageDescriptor) {
    let reserved = Reserved::of_message(new);
    let (number, name) = (old.number(), old.name());
    let full_name = old.full_name();
    let (rule, message) = if !reserved.has_number(number.into()) {
        let message = format!(
            "`{full_name}` is gone, and another field may take its number: add `reserved {number};` \
             and `reserved \"{name}\";`"
        );
        (Rule::FieldRemoved, message)
    } else if !reserved.has_name(name) {
        let message = format!(
            "`{full_name}` is gone, and another field may take its name in JSON: add `reserved \
             \"{name}\";`"
        );
        (Rule::FieldNameNotReserved, message)
    } else {
        let message = format!("`{full_name}` is gone; its number and name are reserved");
        (Rule::FieldRetired, message)
    };
    comparison.found_old(rule, &old.parent_file(), old.path(), message);
}

fn compare_one(comparison: &mut Comparison<'_>, old: &FieldDescriptor, new: &FieldDescriptor) {
    let name = new.full_name();
    let mut found = |rule: Rule, message: String| {
        comparison.found_new(rule, &new.parent_file(), new.path(), message);
    };
    let (was, is) = (old.json_name(), new.json_name());
    match (old.name() == new.name(), was == is) {
        (true, true) => {}
        (true, false) => {
            found(Rule::FieldJsonName, format!("`{name}` is `{is}` in JSON and was `{was}`"));
        }
        (false, json_is_same) => {
            let called = format!(
                "`{name}` was called `{}`, and has the same number {}",
                old.name(),
                new.number()
            );
            if json_is_same {
                found(Rule::FieldSourceName, format!("{called} and the same name `{is}` in JSON"));
            } else {
                found(Rule::FieldName, format!("{called}: it is `{is}` in JSON and was `{was}`"));
            }
        }
    }
    if let Some(rule) = cardinality::compare(old, new) {
        let (was, is) = (types::name(old), types::name(new));
        let message = match rule {
            Rule::FieldRequired if new.is_required() => {
                format!("`{name}` is required and was not: messages without it are refused")
            }
            Rule::FieldRequired => {
                format!("`{name}` was required: old agents refuse messages without it")
            }
            Rule::FieldPresence if new.supports_presence() => {
                format!("`{name}` tells absent from zero or empty, and did not")
            }
            Rule::FieldPresence => {
                format!("`{name}` does not tell absent from zero or empty any more")
            }
            _ => format!("`{name}` is `{is}` and was `{was}`"),
        };
        found(rule, message);
        if matches!(rule, Rule::FieldCardinality | Rule::FieldJsonCardinality) {
            return;
        }
    }
    let rule = if new.is_map() {
        cardinality::compare_entries(old, new)
    } else if old.is_group() != new.is_group() {
        Some(Rule::FieldType)
    } else {
        types::compare(&old.kind(), &new.kind())
    };
    if let Some(rule) = rule {
        let (was, is) = (types::name(old), types::name(new));
        let why = match rule {
            Rule::FieldType => ": neither reads what the other writes",
            Rule::FieldJsonType => {
                ", with the same bytes, but other values or another form in JSON"
            }
            _ => ", with the same bytes and the same JSON",
        };
        found(rule, format!("`{name}` is `{is}` and was `{was}`{why}"));
    } else if !new.is_list() && !new.is_map() && default_of(old) != default_of(new) {
        let shown = |field| default_of(field).unwrap_or("the type's own").to_owned();
        let (was, is) = (shown(old), shown(new));
        found(Rule::FieldDefault, format!("`{name}` is {is} where it is absent, and was {was}"));
    }
}

/// The default that the `.proto` file states (proto2).
fn default_of(field: &FieldDescriptor) -> Option<&str> {
    field.field_descriptor_proto().default_value.as_deref()
}
