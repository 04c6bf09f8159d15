//! Messages and enums as `.proto` text, with their comments.

use std::fmt::Write as _;

use prost_reflect::{
    Cardinality, EnumDescriptor, EnumValueDescriptor, FieldDescriptor, FileDescriptor, Kind,
    MessageDescriptor, Syntax,
};

use super::comment;

/// The last number a field can have; `max` in a range.
const MAX_NUMBER: u32 = 536_870_911;

/// Writes definitions; `name` gives the names of the types that fields have.
pub(crate) struct ProtoText<'a> {
    name: &'a dyn Fn(&str) -> String,
    mark: Option<(&'a str, &'a str)>,
}

impl<'a> ProtoText<'a> {
    pub(crate) fn new(name: &'a dyn Fn(&str) -> String) -> Self {
        Self { name, mark: None }
    }

    /// Writes `comment` above the message of this full name, behind its own comment.
    pub(crate) fn marking(self, full_name: &'a str, comment: &'a str) -> Self {
        Self { mark: Some((full_name, comment)), ..self }
    }

    /// Writes a message under the name `called`, with what is nested in it.
    pub(crate) fn message(
        &self,
        message: &MessageDescriptor,
        called: &str,
        indent: &str,
    ) -> String {
        let file = message.parent_file();
        let mut text = comment_of(&file, message.path(), indent);
        if let Some((_, mark)) = self.mark.filter(|(name, _)| *name == message.full_name()) {
            text += &comment::to_proto(mark, indent);
        }
        let body = self.body(message, &format!("{indent}  "));
        if body.is_empty() {
            return text + &format!("{indent}message {called} {{}}\n");
        }
        _ = write!(text, "{indent}message {called} {{\n{body}{indent}}}\n");
        text
    }

    fn body(&self, message: &MessageDescriptor, indent: &str) -> String {
        let file = message.parent_file();
        let mut text = String::new();
        if is_deprecated(&message.options()) {
            _ = writeln!(text, "{indent}option deprecated = true;");
        }
        let numbers = message.reserved_ranges().map(|range| range_text(range.start, range.end - 1));
        text += &statement("reserved", numbers, indent);
        let names = message.reserved_names().map(|name| format!("\"{name}\""));
        text += &statement("reserved", names, indent);
        let extensions = message.extension_ranges();
        let extensions = extensions.map(|range| range_text(range.start, range.end - 1));
        text += &statement("extensions", extensions, indent);
        for enumeration in message.child_enums() {
            text += &Self::enumeration(&enumeration, enumeration.name(), indent);
        }
        let groups: Vec<_> = message.fields().filter(FieldDescriptor::is_group).collect();
        for child in message.child_messages().filter(|child| !child.is_map_entry()) {
            let is_group = |field: &FieldDescriptor| field.kind().as_message() == Some(&child);
            if !groups.iter().any(is_group) {
                text += &self.message(&child, child.name(), indent);
            }
        }
        let mut done = Vec::new();
        for field in in_order(message) {
            let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
            let Some(oneof) = oneof else {
                text += &self.field(&field, indent);
                continue;
            };
            if done.contains(&oneof) {
                continue;
            }
            text += &comment_of(&file, oneof.path(), indent);
            _ = writeln!(text, "{indent}oneof {} {{", oneof.name());
            for field in in_order(message) {
                if field.containing_oneof().as_ref() == Some(&oneof) {
                    text += &self.field(&field, &format!("{indent}  "));
                }
            }
            _ = writeln!(text, "{indent}}}");
            done.push(oneof);
        }
        text
    }

    fn field(&self, field: &FieldDescriptor, indent: &str) -> String {
        let text = comment_of(&field.parent_file(), field.path(), indent);
        let label = label(field);
        let number = field.number();
        let options = options(field);
        match field.kind() {
            Kind::Message(group) if field.is_group() => {
                let body = self.body(&group, &format!("{indent}  "));
                let name = group.name();
                text + &format!("{indent}{label}group {name} = {number} {{\n{body}{indent}}}\n")
            }
            _ => {
                let (kind, name) = (self.type_of(field), field.name());
                text + &format!("{indent}{label}{kind} {name} = {number}{options};\n")
            }
        }
    }

    /// Names a field's type, without `repeated`.
    pub(crate) fn type_of(&self, field: &FieldDescriptor) -> String {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let key = self.kind(&entry.map_entry_key_field().kind());
                let value = self.kind(&entry.map_entry_value_field().kind());
                format!("map<{key}, {value}>")
            }
            kind => self.kind(&kind),
        }
    }

    fn kind(&self, kind: &Kind) -> String {
        match kind {
            Kind::Message(message) => (self.name)(message.full_name()),
            Kind::Enum(enumeration) => (self.name)(enumeration.full_name()),
            scalar => format!("{scalar:?}"),
        }
    }

    /// Writes an enum under the name `called`.
    pub(crate) fn enumeration(of: &EnumDescriptor, called: &str, indent: &str) -> String {
        let file = of.parent_file();
        let mut text = comment_of(&file, of.path(), indent);
        _ = writeln!(text, "{indent}enum {called} {{");
        let inner = format!("{indent}  ");
        let options = of.enum_descriptor_proto().options.clone().unwrap_or_default();
        if options.allow_alias() {
            _ = writeln!(text, "{inner}option allow_alias = true;");
        }
        if options.deprecated() {
            _ = writeln!(text, "{inner}option deprecated = true;");
        }
        let ranges = of.reserved_ranges().map(|range| match (*range.start(), *range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, i32::MAX) => format!("{first} to max"),
            (first, last) => format!("{first} to {last}"),
        });
        text += &statement("reserved", ranges, &inner);
        text +=
            &statement("reserved", of.reserved_names().map(|name| format!("\"{name}\"")), &inner);
        for value in values_in_order(of) {
            text += &comment_of(&file, value.path(), &inner);
            let deprecated = is_deprecated(&value.options());
            let options = if deprecated { " [deprecated = true]" } else { "" };
            _ = writeln!(text, "{inner}{} = {}{options};", value.name(), value.number());
        }
        _ = writeln!(text, "{indent}}}");
        text
    }
}

/// Goes through a message's fields in the order they are declared.
pub(crate) fn in_order(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by(|a, b| a.path().cmp(b.path()));
    fields
}

/// Goes through an enum's values in the order they are declared.
pub(crate) fn values_in_order(of: &EnumDescriptor) -> Vec<EnumValueDescriptor> {
    let mut values: Vec<_> = of.values().collect();
    values.sort_by(|a, b| a.path().cmp(b.path()));
    values
}

/// Returns the label of a field, with a space behind it; empty where it has none.
pub(crate) fn label(field: &FieldDescriptor) -> &'static str {
    let descriptor = field.field_descriptor_proto();
    let in_oneof = field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic());
    match field.cardinality() {
        _ if field.is_map() || in_oneof => "",
        Cardinality::Repeated => "repeated ",
        Cardinality::Required => "required ",
        Cardinality::Optional if field.parent_file().syntax() == Syntax::Proto2 => "optional ",
        Cardinality::Optional if descriptor.proto3_optional() => "optional ",
        Cardinality::Optional => "",
    }
}

fn options(field: &FieldDescriptor) -> String {
    let descriptor = field.field_descriptor_proto();
    let mut options = Vec::new();
    if let Some(default) = &descriptor.default_value {
        options.push(match field.kind() {
            Kind::String => format!("default = {default:?}"),
            // Already escaped in the descriptor.
            Kind::Bytes => format!("default = \"{default}\""),
            _ => format!("default = {default}"),
        });
    }
    if let Some(packed) = descriptor.options.as_ref().and_then(|options| options.packed) {
        options.push(format!("packed = {packed}"));
    }
    if field.json_name() != lower_camel(field.name()) {
        options.push(format!("json_name = {:?}", field.json_name()));
    }
    if is_deprecated(&field.options()) {
        options.push("deprecated = true".to_owned());
    }
    if options.is_empty() { String::new() } else { format!(" [{}]", options.join(", ")) }
}

/// Returns the name that the compiler gives a field in JSON unless the file says another.
fn lower_camel(name: &str) -> String {
    let mut camel = String::new();
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else if std::mem::take(&mut upper) {
            camel.push(c.to_ascii_uppercase());
        } else {
            camel.push(c);
        }
    }
    camel
}

pub(crate) fn is_deprecated(options: &prost_reflect::DynamicMessage) -> bool {
    let value = options.get_field_by_name("deprecated");
    value.and_then(|value| value.as_bool()).unwrap_or(false)
}

fn range_text(first: u32, last: u32) -> String {
    match last {
        last if last == first => first.to_string(),
        MAX_NUMBER => format!("{first} to max"),
        last => format!("{first} to {last}"),
    }
}

fn statement(word: &str, parts: impl Iterator<Item = String>, indent: &str) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() {
        return String::new();
    }
    format!("{indent}{word} {};\n", parts.join(", "))
}

fn comment_of(file: &FileDescriptor, path: &[i32], indent: &str) -> String {
    comment::of(file, path).map_or_else(String::new, |text| comment::to_proto(&text, indent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_are_as_the_compiler_makes_them() {
        for (name, json) in [("order_id", "orderId"), ("a_1b", "a1b"), ("X_Y", "XY"), ("_x", "X")] {
            assert_eq!(lower_camel(name), json);
        }
    }

    #[test]
    fn ranges_are_as_in_a_proto_file() {
        assert_eq!(range_text(4, 4), "4");
        assert_eq!(range_text(4, 9), "4 to 9");
        assert_eq!(range_text(4, MAX_NUMBER), "4 to max");
    }
}
