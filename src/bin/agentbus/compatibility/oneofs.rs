//! Fields that go into oneofs, out of them, or to others.

use std::collections::BTreeSet;

use prost_reflect::{FieldDescriptor, MessageDescriptor, OneofDescriptor};

use super::{Comparison, Rule};

pub(super) fn compare(
    comparison: &mut Comparison<'_>,
    old: &MessageDescriptor,
    new: &MessageDescriptor,
) {
    let mut renamed = BTreeSet::new();
    for old_field in old.fields() {
        let Some(new_field) = new.get_field(old_field.number()) else { continue };
        // With another name, too, it is another field, which is told elsewhere.
        let (was, is) = (oneof_of(&old_field), oneof_of(&new_field));
        let name = new_field.full_name();
        let found = match (&was, &is) {
            (None, None) => None,
            // Who came or went is told there.
            (Some(was), Some(is)) if was.name() == is.name() => None,
            (Some(was), Some(is)) => {
                if mates(was, &old_field, new) == mates(is, &new_field, old) {
                    if renamed.insert(is.name().to_owned()) {
                        let message =
                            format!("oneof `{}` was called `{}`", is.full_name(), was.name());
                        comparison.found_new(
                            Rule::OneofName,
                            &is.parent_file(),
                            is.path(),
                            message,
                        );
                    }
                    None
                } else {
                    let message = format!(
                        "`{name}` is in oneof `{}` with other fields than before (`{}`): one of them \
                         now clears another",
                        is.name(),
                        was.name()
                    );
                    Some((Rule::FieldOneof, message))
                }
            }
            (None, Some(is)) => Some(if mates(is, &new_field, old).is_empty() {
                let message = format!("`{name}` is alone in the new oneof `{}`", is.name());
                (Rule::FieldOneofAlone, message)
            } else {
                let message = format!(
                    "`{name}` went into oneof `{}`: of a message that has several of its fields, \
                     all but the last are lost",
                    is.name()
                );
                (Rule::FieldOneof, message)
            }),
            (Some(was), None) => Some(if mates(was, &old_field, new).is_empty() {
                let message = format!("`{name}` went, alone, out of oneof `{}`", was.name());
                (Rule::FieldOneofAlone, message)
            } else {
                let message = format!(
                    "`{name}` went out of oneof `{}`: old agents lose it or the others where both \
                     are there",
                    was.name()
                );
                (Rule::FieldOneof, message)
            }),
        };
        if let Some((rule, message)) = found {
            comparison.found_new(rule, &new_field.parent_file(), new_field.path(), message);
        }
    }
}

/// The oneof that a field is in; that of an `optional` field is none.
pub(super) fn oneof_of(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field.containing_oneof().filter(|oneof| !oneof.is_synthetic())
}

/// The other fields of a oneof, as far as the other contract has them in its message.
fn mates(oneof: &OneofDescriptor, field: &FieldDescriptor, other: &MessageDescriptor) -> Vec<u32> {
    let mut mates: Vec<_> = oneof
        .fields()
        .map(|mate| mate.number())
        .filter(|number| *number != field.number() && other.get_field(*number).is_some())
        .collect();
    mates.sort_unstable();
    mates
}
