//! Enums and their values.

use std::collections::BTreeSet;

use prost_reflect::{
    EnumDescriptor, EnumValueDescriptor, FileDescriptor, MessageDescriptor, Syntax,
};

use super::{Comparison, Rule, reserved::Reserved};
use crate::contract::proto_text::values_in_order as in_order;

pub(super) fn compare(comparison: &mut Comparison<'_>) {
    let files: Vec<_> = comparison.old_files().collect();
    for file in files {
        if !comparison.gone.contains(file.package_name()) {
            for old in all(&file) {
                compare_one(comparison, &old);
            }
        }
    }
}

/// Goes through a file's enums, those within messages included.
fn all(file: &FileDescriptor) -> Vec<EnumDescriptor> {
    fn within(message: &MessageDescriptor, found: &mut Vec<EnumDescriptor>) {
        found.extend(message.child_enums());
        for child in message.child_messages() {
            within(&child, found);
        }
    }
    let mut found: Vec<_> = file.enums().collect();
    for message in file.messages() {
        within(&message, &mut found);
    }
    found
}

fn compare_one(comparison: &mut Comparison<'_>, old: &EnumDescriptor) {
    let name = old.full_name();
    let Some(new) = comparison.new.enumeration(name) else {
        let message = format!("enum `{name}` is gone; fields that had it are told by themselves");
        comparison.found_old(Rule::EnumRemoved, &old.parent_file(), old.path(), message);
        return;
    };
    let mut renamed = BTreeSet::new();
    for value in old.values() {
        let same_name = new.get_value_by_name(value.name());
        match same_name {
            Some(same) if same.number() == value.number() => {}
            Some(moved) => {
                let message = format!(
                    "`{}` is {} and was {}: old and new agents take one for another",
                    moved.full_name(),
                    moved.number(),
                    value.number()
                );
                comparison.found_new(
                    Rule::EnumValueRenumbered,
                    &moved.parent_file(),
                    moved.path(),
                    message,
                );
            }
            None => match first_of(&new, value.number()) {
                Some(other) => {
                    renamed.insert(value.number());
                    let message = format!(
                        "`{}` ({}) was called `{}`: who has the other contract does not know it in JSON",
                        other.full_name(),
                        other.number(),
                        value.name()
                    );
                    comparison.found_new(
                        Rule::EnumValueName,
                        &other.parent_file(),
                        other.path(),
                        message,
                    );
                }
                None => removed(comparison, &value, &new),
            },
        }
    }
    written_name(comparison, old, &new, &renamed);
    let default = |of: &EnumDescriptor| in_order(of).first().map(EnumValueDescriptor::number);
    if old.parent_file().syntax() == Syntax::Proto2 && default(old) != default(&new) {
        let message = format!("`{name}` begins with another value, which is what absent means");
        comparison.found_new(Rule::EnumDefault, &new.parent_file(), new.path(), message);
    }
    Reserved::of_enum(old).compare(comparison, &Reserved::of_enum(&new));
}

/// Of several names for one number, JSON is written with the first.
fn written_name(
    comparison: &mut Comparison<'_>,
    old: &EnumDescriptor,
    new: &EnumDescriptor,
    told: &BTreeSet<i32>,
) {
    let mut seen = told.clone();
    for value in in_order(old) {
        if !seen.insert(value.number()) {
            continue;
        }
        let first = first_of(new, value.number()).filter(|first| first.name() != value.name());
        let Some(first) = first else { continue };
        // A known alias that is written from now on is read by everybody.
        let is_known = old.get_value_by_name(first.name());
        let is_known = is_known.is_some_and(|known| known.number() == value.number());
        if !is_known {
            let message = format!(
                "`{}` is written in JSON where `{}` was, which old agents do not know: put the new \
                 name behind the old one",
                first.full_name(),
                value.name()
            );
            comparison.found_new(Rule::EnumValueName, &first.parent_file(), first.path(), message);
        }
    }
}

fn first_of(of: &EnumDescriptor, number: i32) -> Option<EnumValueDescriptor> {
    in_order(of).into_iter().find(|value| value.number() == number)
}

fn removed(comparison: &mut Comparison<'_>, old: &EnumValueDescriptor, new: &EnumDescriptor) {
    let reserved = Reserved::of_enum(new);
    let (name, number) = (old.name(), old.number());
    let full_name = old.full_name();
    let (rule, message) = if !reserved.has_number(number.into()) {
        let message = format!(
            "`{full_name}` is gone, and another value may take its number: add `reserved {number};` \
             and `reserved \"{name}\";`"
        );
        (Rule::EnumValueRemoved, message)
    } else if !reserved.has_name(name) {
        let message = format!(
            "`{full_name}` is gone, and another value may take its name in JSON: add `reserved \
             \"{name}\";`"
        );
        (Rule::EnumValueNameNotReserved, message)
    } else {
        let message = format!("`{full_name}` is gone; its number and name are reserved");
        (Rule::EnumValueRetired, message)
    };
    comparison.found_old(rule, &old.parent_file(), old.path(), message);
}
