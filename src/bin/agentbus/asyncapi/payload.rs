//! The body of a message as protobuf: one self-contained `.proto` text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use prost_reflect::{EnumDescriptor, Kind, MessageDescriptor, Syntax};

use crate::contract::{carriers, proto_text::ProtoText};

/// Marks the message that a text is about, for `AsyncAPI`'s reader of protobuf.
const ROOT: &str = "@RootNode";

/// What the full names of Google's types begin with.
const GOOGLE: &str = "google.protobuf.";

/// Writes a message and all that it has as one `.proto` text.
///
/// Readers of `AsyncAPI` follow no imports except those of Google's types. So types of other packages
/// are written into it as well, within messages that are called as their packages: names of types are
/// not in the body, so the bytes are the same.
pub(super) fn proto(message: &MessageDescriptor) -> String {
    let root = outermost(message);
    let package = message.package_name();
    let found = Definitions::of(&root);
    // Google's types are imported, and a package of ours may be called as Google's.
    let name = |full_name: &str| match full_name.strip_prefix(package) {
        Some(rest) if found.own.contains(full_name) => rest.trim_start_matches('.').to_owned(),
        _ if full_name.starts_with(GOOGLE) => format!(".{full_name}"),
        _ => full_name.to_owned(),
    };
    let writer = ProtoText::new(&name).marking(message.full_name(), ROOT);

    let syntax = match message.parent_file().syntax() {
        Syntax::Proto2 => "proto2",
        Syntax::Proto3 => "proto3",
    };
    let mut text = format!("syntax = \"{syntax}\";\n\n");
    if !package.is_empty() {
        _ = write!(text, "package {package};\n\n");
    }
    for import in &found.imports {
        _ = writeln!(text, "import \"{import}\";");
    }
    if !found.imports.is_empty() {
        text += "\n";
    }
    let mut definitions = vec![writer.message(&root, root.name(), "")];
    let mut others = Folder::default();
    for message in found.messages.values().filter(|other| **other != root) {
        let folder = if message.package_name() == package { "" } else { message.package_name() };
        others.within(folder).messages.push(message.clone());
    }
    for enumeration in found.enums.values() {
        let folder =
            if enumeration.package_name() == package { "" } else { enumeration.package_name() };
        others.within(folder).enums.push(enumeration.clone());
    }
    others.write(&writer, "", &mut definitions);
    text + &definitions.join("\n")
}

/// What a text has to define, with everything that is nested in it.
#[derive(Default)]
struct Definitions {
    messages: BTreeMap<String, MessageDescriptor>,
    enums: BTreeMap<String, EnumDescriptor>,
    imports: BTreeSet<String>,
    /// Full names of the types of the message's own package.
    own: BTreeSet<String>,
}

impl Definitions {
    fn of(root: &MessageDescriptor) -> Self {
        let mut found = Self::default();
        let mut waiting = vec![root.clone()];
        while let Some(message) = waiting.pop() {
            let is_own = message.package_name() == root.package_name();
            if message.full_name().starts_with(GOOGLE) && !is_own {
                found.imports.insert(message.parent_file().name().to_owned());
                continue;
            }
            let name = message.full_name().to_owned();
            if found.messages.insert(name, message.clone()).is_some() {
                continue;
            }
            let mut nested = vec![message];
            while let Some(message) = nested.pop() {
                if is_own {
                    found.own.insert(message.full_name().to_owned());
                    found.own.extend(message.child_enums().map(|it| it.full_name().to_owned()));
                }
                nested.extend(message.child_messages());
                for field in message.fields() {
                    match carriers::value_kind(&field) {
                        Kind::Message(part) => waiting.push(outermost(&part)),
                        Kind::Enum(part) => found.enumeration(part, root, &mut waiting),
                        _ => {}
                    }
                }
            }
        }
        found
    }

    fn enumeration(
        &mut self,
        part: EnumDescriptor,
        root: &MessageDescriptor,
        waiting: &mut Vec<MessageDescriptor>,
    ) {
        let is_own = part.package_name() == root.package_name();
        if part.full_name().starts_with(GOOGLE) && !is_own {
            self.imports.insert(part.parent_file().name().to_owned());
        } else if let Some(parent) = part.parent_message() {
            waiting.push(outermost(&parent));
        } else {
            if is_own {
                self.own.insert(part.full_name().to_owned());
            }
            self.enums.insert(part.full_name().to_owned(), part);
        }
    }
}

/// A package, as a message with the messages of that package in it.
#[derive(Default)]
struct Folder {
    messages: Vec<MessageDescriptor>,
    enums: Vec<EnumDescriptor>,
    folders: BTreeMap<String, Self>,
}

impl Folder {
    fn within(&mut self, package: &str) -> &mut Self {
        package
            .split('.')
            .filter(|part| !part.is_empty())
            .fold(self, |folder, part| folder.folders.entry(part.to_owned()).or_default())
    }

    fn write(&self, writer: &ProtoText<'_>, indent: &str, definitions: &mut Vec<String>) {
        let messages = self.messages.iter();
        definitions.extend(messages.map(|it| writer.message(it, it.name(), indent)));
        let enums = self.enums.iter();
        definitions.extend(enums.map(|it| ProtoText::enumeration(it, it.name(), indent)));
        for (name, folder) in &self.folders {
            let mut inner = Vec::new();
            folder.write(writer, &format!("{indent}  "), &mut inner);
            definitions.push(format!("{indent}message {name} {{\n{}{indent}}}\n", inner.concat()));
        }
    }
}

/// Returns the message that this one is nested in, however deep, or itself.
fn outermost(message: &MessageDescriptor) -> MessageDescriptor {
    let mut outer = message.clone();
    while let Some(parent) = outer.parent_message() {
        outer = parent;
    }
    outer
}
