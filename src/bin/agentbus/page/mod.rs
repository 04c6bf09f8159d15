//! A contract as a page for people, in Markdown or HTML.

mod block;
mod html;
mod markdown;

use prost_reflect::{EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};

use self::block::{Block, Inline, code, link, words};
pub(crate) use self::{html::to_html, markdown::to_markdown};
use crate::{
    asyncapi::method_comment,
    contract::{
        carriers::{self, Parts},
        comment,
        described::Described,
        proto_text,
    },
    output::printable,
};

/// A page, part by part.
pub(crate) struct Page {
    title: String,
    blocks: Vec<Block>,
}

/// Writes the page: services with their routes first, then the messages and enums that travel.
pub(crate) fn page(contract: &Described, title: &str) -> Page {
    let mut blocks = vec![Block::heading(1, None, title)];
    let rows: Vec<_> = contract
        .routes()
        .map(|route| {
            let reply = match &route.reply {
                Some(reply) => type_link(reply),
                None => words("none: one-way"),
            };
            let method = format!("{}.{}", last(&route.service), route.method);
            vec![
                vec![link(&route.key, &carriers::method(route))],
                vec![code(&method)],
                vec![type_link(&route.request)],
                vec![reply],
            ]
        })
        .collect();
    blocks.push(Block::table(["Topic", "Method", "Message", "Reply"], rows));

    let mut parts = Parts::default();
    let mut service = "";
    for route in contract.routes() {
        if route.service != service {
            service = &route.service;
            blocks.push(Block::heading(2, Some(service), service));
            if let Some(described) = contract.service(service) {
                blocks.extend(comment_of(&described.parent_file(), described.path()));
            }
        }
        let method = carriers::method(route);
        blocks.push(Block::heading(3, Some(&method), &route.key));
        if let Some(text) = method_comment(contract, route) {
            blocks.extend(Block::paragraphs(&harmless(&text)));
        }
        let mut line = vec![code(&route.method), words(" takes "), type_link(&route.request)];
        match &route.reply {
            Some(reply) => line.extend([words(" and replies with "), type_link(reply), words(".")]),
            None => line.push(words("; nobody replies.")),
        }
        blocks.push(Block::Paragraph(line));
        for name in [Some(&route.request), route.reply.as_ref()].into_iter().flatten() {
            if let Some(message) = contract.message(name) {
                parts.add(&message);
            }
        }
    }
    let is_ours = |name: &str| !name.starts_with("google.protobuf.");
    blocks.push(Block::heading(2, None, "Messages"));
    for (_, message) in parts.messages.iter().filter(|(name, _)| is_ours(name)) {
        self::message(message, &mut blocks);
    }
    if parts.enums.keys().any(|name| is_ours(name)) {
        blocks.push(Block::heading(2, None, "Enums"));
    }
    for (_, enumeration) in parts.enums.iter().filter(|(name, _)| is_ours(name)) {
        self::enumeration(enumeration, &mut blocks);
    }
    Page { title: title.to_owned(), blocks }
}

fn message(message: &MessageDescriptor, blocks: &mut Vec<Block>) {
    let name = message.full_name();
    blocks.push(Block::heading(3, Some(name), name));
    blocks.extend(comment_of(&message.parent_file(), message.path()));
    let rows: Vec<_> = proto_text::in_order(message)
        .iter()
        .map(|field| {
            let number = field.number().to_string();
            vec![vec![code(field.name())], vec![words(&number)], field_type(field), text_of(field)]
        })
        .collect();
    if rows.is_empty() {
        blocks.push(Block::Paragraph(vec![words("It has no fields.")]));
    } else {
        blocks.push(Block::table(["Field", "Number", "Type", ""], rows));
    }
}

fn enumeration(of: &EnumDescriptor, blocks: &mut Vec<Block>) {
    let name = of.full_name();
    let file = of.parent_file();
    blocks.push(Block::heading(3, Some(name), name));
    blocks.extend(comment_of(&file, of.path()));
    let values = proto_text::values_in_order(of);
    let rows: Vec<_> = values
        .iter()
        .map(|value| {
            let text = harmless(&comment::of(&file, value.path()).unwrap_or_default());
            let number = value.number().to_string();
            vec![vec![code(value.name())], vec![words(&number)], vec![words(&text)]]
        })
        .collect();
    blocks.push(Block::table(["Value", "Number", ""], rows));
}

/// Writes a field's type, with a link to it where it is on the page.
fn field_type(field: &FieldDescriptor) -> Vec<Inline> {
    let label = proto_text::label(field);
    let mut inlines = Vec::new();
    if !label.is_empty() {
        inlines.push(words(label));
    }
    let value = match carriers::value_kind(field) {
        Kind::Message(part) => type_link(part.full_name()),
        Kind::Enum(part) => type_link(part.full_name()),
        scalar => code(&format!("{scalar:?}")),
    };
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let key = format!("{:?}", entry.map_entry_key_field().kind());
            inlines.extend([words("map of "), code(&key), words(" to "), value]);
        }
        _ => inlines.push(value),
    }
    let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
    if let Some(oneof) = oneof {
        inlines.extend([words(", one of "), code(oneof.name())]);
    }
    inlines
}

fn text_of(field: &FieldDescriptor) -> Vec<Inline> {
    let text = comment::of(&field.parent_file(), field.path()).unwrap_or_default();
    let text = harmless(&text);
    let deprecated = proto_text::is_deprecated(&field.options());
    let mark = if deprecated { "Deprecated. " } else { "" };
    vec![words(&format!("{mark}{text}"))]
}

/// Google's types are not on the page.
fn type_link(full_name: &str) -> Inline {
    if full_name.starts_with("google.protobuf.") {
        code(full_name)
    } else {
        link(last(full_name), full_name)
    }
}

/// Replaces what could command a terminal: a contract may come from anybody on the bus.
fn harmless(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

fn last(full_name: &str) -> &str {
    full_name.rsplit('.').next().unwrap_or(full_name)
}

fn comment_of(file: &FileDescriptor, path: &[i32]) -> Vec<Block> {
    let text = comment::of(file, path);
    text.map(|text| Block::paragraphs(&harmless(&text))).unwrap_or_default()
}
