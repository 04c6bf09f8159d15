//! Messages: whether they are still there, and what is in them.

use prost_reflect::MessageDescriptor;

use super::{Comparison, Rule, fields, oneofs, reserved::Reserved};

pub(super) fn compare(comparison: &mut Comparison<'_>) {
    let files: Vec<_> = comparison.old_files().collect();
    for file in files {
        if !comparison.gone.contains(file.package_name()) {
            for message in file.messages() {
                compare_one(comparison, &message);
            }
        }
    }
}

fn compare_one(comparison: &mut Comparison<'_>, old: &MessageDescriptor) {
    // An entry is compared as the map that it belongs to.
    if old.is_map_entry() {
        return;
    }
    let name = old.full_name();
    let Some(new) = comparison.new.message(name) else {
        let message = match renamed(comparison, old) {
            Some(other) => format!(
                "message `{name}` is gone, and `{other}` has the same fields: the name travels with \
                 the message, so agents of both contracts refuse each other's"
            ),
            None => format!("message `{name}` is gone: who still gets one cannot read it"),
        };
        comparison.found_old(Rule::MessageRemoved, &old.parent_file(), old.path(), message);
        return;
    };
    for child in old.child_messages() {
        compare_one(comparison, &child);
    }
    fields::compare(comparison, old, &new);
    oneofs::compare(comparison, old, &new);
    Reserved::of_message(old).compare(comparison, &Reserved::of_message(&new));
}

/// Finds a message of the same package that only the new contract has, with the same fields.
fn renamed(comparison: &Comparison<'_>, old: &MessageDescriptor) -> Option<String> {
    let fields = |message: &MessageDescriptor| -> Vec<_> {
        message.fields().map(|field| (field.number(), field.name().to_owned())).collect()
    };
    let wanted = fields(old);
    if wanted.is_empty() {
        return None;
    }
    let files = comparison.new.files().filter(|file| file.package_name() == old.package_name());
    files
        .flat_map(|file| file.messages().collect::<Vec<_>>())
        .filter(|new| comparison.old.message(new.full_name()).is_none())
        .find(|new| fields(new) == wanted)
        .map(|new| new.full_name().to_owned())
}
