//! `agentbus contract docs`: documents for programs and for people.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::{
    export::{has_protoc, protoc},
    program::{Said, at, folder, run},
};

fn docs(more: &[&str]) -> Said {
    let include = at("tests/contract_docs");
    let file = |name: &str| include.join(name).to_str().unwrap().to_owned();
    let (nasty, legacy) = (file("nasty/v1/nasty.proto"), file("nasty/v1/legacy.proto"));
    let words = ["contract", "docs", "--proto", &nasty, "--proto", &legacy];
    run(words.iter().chain(&["-I", include.to_str().unwrap()]).chain(more))
}

fn document(more: &[&str]) -> Value {
    let said = docs(more).with_code(0);
    serde_json::from_str(&said.out).expect("JSON")
}

/// Collects every `$ref` of a document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let ("$ref", Value::String(reference)) = (name.as_str(), value) {
                    found.insert(reference.clone());
                }
                references(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn topics_are_channels_and_methods_are_two_operations() {
    let document = document(&[]);
    assert_eq!(document["asyncapi"], "3.0.0");
    assert_eq!(document["info"]["title"], "nasty.v1");
    assert_eq!(document["info"]["version"], "v1");
    let channel = &document["channels"]["nasty.do"];
    assert_eq!(channel["address"], "nasty.do");
    assert_eq!(channel["bindings"]["amqp"]["exchange"]["name"], "agentbus.events");
    let operations = document["operations"].as_object().unwrap();
    assert_eq!(operations.len(), 12);
    for action in ["receive", "send"] {
        let operation = &operations[&format!("nasty.v1.Nasty.Do.{action}")];
        assert_eq!(operation["action"], action);
        assert_eq!(operation["description"], "Does it.");
        assert_eq!(operation["reply"]["address"]["location"], "$message.header#/reply_to");
        let replies = operation["reply"]["messages"].as_array().unwrap();
        let replies: Vec<_> = replies.iter().map(|reply| reply["$ref"].as_str().unwrap()).collect();
        let channel = "#/channels/nasty.v1.Nasty.Do.reply/messages";
        assert_eq!(replies[0], format!("{channel}/nasty.v1.Everything"));
        assert_eq!(replies[1], format!("{channel}/agentbus.v1.ErrorReply"));
        assert_eq!(document["channels"]["nasty.v1.Nasty.Do.reply"]["address"], Value::Null);
        // A topic has no reply.
        assert_eq!(operations[&format!("nasty.v1.Nasty.Deep.{action}")].get("reply"), None);
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document(&[]);
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("within the document");
        let pointer = percent_decoded(pointer);
        assert!(document.pointer(&pointer).is_some(), "{reference}");
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_message_is_protobuf_and_has_a_json_form() {
    let document = document(&[]);
    let message = &document["components"]["messages"]["nasty.v1.Everything"];
    assert_eq!(message["contentType"], "application/x-protobuf");
    assert_eq!(message["x-protojson"]["$ref"], "#/components/schemas/nasty.v1.Everything");
    assert_eq!(message["correlationId"]["location"], "$message.header#/correlation_id");
    let schemas = &document["components"]["schemas"];
    let body = &schemas["nasty.v1.Everything-protobuf"];
    assert_eq!(body["schemaFormat"], "application/vnd.google.protobuf;version=3");
    assert!(body["schema"].as_str().unwrap().contains("message Everything {"));
    let legacy = &schemas["nasty.v1.Legacy-protobuf"];
    assert_eq!(legacy["schemaFormat"], "application/vnd.google.protobuf;version=2");

    let json = &schemas["nasty.v1.Everything"];
    let field = |name: &str| &json["properties"][name];
    assert_eq!(field("anInt64")["type"], "string");
    assert_eq!(field("someBytes")["contentEncoding"], "base64");
    assert_eq!(field("at")["$ref"], "#/components/schemas/google.protobuf.Timestamp");
    assert_eq!(
        field("trees")["additionalProperties"]["$ref"],
        "#/components/schemas/nasty.v1.Tree"
    );
    assert_eq!(field("trees")["propertyNames"]["pattern"], "^-?[0-9]+$");
    assert_eq!(field("colours")["items"]["$ref"], "#/components/schemas/nasty.v1.Colour");
    assert_eq!(field("old")["deprecated"], true);
    assert_eq!(field("tree")["description"], "One.");
    assert!(field("$odd name").is_object());
    assert_eq!(json["allOf"].as_array().unwrap().len(), 2);
    assert_eq!(schemas["nasty.v1.Legacy"]["required"], serde_json::json!(["id"]));
    let tree = &schemas["nasty.v1.Tree"]["properties"]["branches"]["items"]["$ref"];
    assert_eq!(tree, "#/components/schemas/nasty.v1.Tree");
    let colours = &schemas["nasty.v1.Colour"]["enum"];
    assert_eq!(colours[1], "COLOUR_RED");
    assert_eq!(schemas["google.protobuf.Timestamp"]["format"], "date-time");
}

#[test]
fn a_broker_is_named_where_the_command_line_does_and_without_secrets() {
    assert_eq!(document(&[]).get("servers"), None);
    let bus = "amqp://me:hunter2@[::1]:5673,second/prod";
    let said = docs(&["--bus", bus]).with_code(0);
    assert!(!said.out.contains("hunter2") && !said.out.contains("me:"), "{said:?}");
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["servers"]["bus-1"]["host"], "[::1]:5673");
    assert_eq!(document["servers"]["bus-2"]["host"], "second:5672");
    assert_eq!(document["servers"]["bus-1"]["pathname"], "/prod");
    let said = docs(&["--bus", "amqp://first"]).with_code(0);
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["servers"]["bus-1"]["pathname"], "/%2F");
}

#[test]
fn the_document_may_be_a_line_or_a_file() {
    let file = folder("docs").join("asyncapi.json");
    let title = ["--title", "Nasty", "--contract-version", "7"];
    let path = file.to_str().unwrap();
    let said = docs(&[&title[..], &["--output", path, "--json"]].concat()).with_code(0);
    assert_eq!(said.json()[0]["path"], path);
    let written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let said = docs(&[&title[..], &["--json"]].concat()).with_code(0);
    assert_eq!(said.json(), std::slice::from_ref(&written));
    assert_eq!(
        (&written["info"]["title"], &written["info"]["version"]),
        (&"Nasty".into(), &"7".into())
    );
}

#[test]
fn a_contract_without_routes_is_told() {
    let money = at("tests/contract_docs/other/v1/money.proto");
    let include = at("tests/contract_docs");
    let words = ["contract", "docs", "--proto"].map(Into::into);
    let said = run(words.into_iter().chain([money, "-I".into(), include])).with_code(2);
    assert!(said.err.contains("no routes"), "{said:?}");
}

#[test]
fn the_page_has_every_type_and_every_link_leads_somewhere() {
    let markdown = docs(&["--format", "markdown"]).with_code(0).out;
    for text in
        ["nasty.v1.Everything.Inner.Deep", "COLOUR\\_", "other.v1.Currency", "Red \\| crimson."]
    {
        let plain = text.replace("COLOUR\\_", "`COLOUR_");
        assert!(markdown.contains(&plain), "{plain}");
    }
    let html = docs(&["--format", "html"]).with_code(0).out;
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "comments are text");
    for (page, link, anchor) in [(&markdown, "](#", "<a id=\""), (&html, "href=\"#", " id=\"")] {
        let ends = |end: &str| end.find(['"', ')']).unwrap();
        let links: BTreeSet<_> = page
            .match_indices(link)
            .map(|(at, _)| &page[at + link.len()..])
            .map(|end| &end[..ends(end)])
            .collect();
        assert!(links.len() > 10, "{links:?}");
        for target in links {
            assert!(page.contains(&format!("{anchor}{target}\"")), "{target}");
        }
    }
}

#[test]
fn protoc_compiles_every_body() {
    let folder = folder("bodies");
    if !has_protoc(&folder) {
        return;
    }
    let document = document(&[]);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut compiled = 0;
    for (name, schema) in schemas.iter().filter(|(name, _)| name.ends_with("-protobuf")) {
        // Under the name of Google's own file, protoc would take one for the other.
        let file = format!("{}.proto", name.replace(['.', '-'], "_"));
        write(&folder.join(&file), schema["schema"].as_str().unwrap());
        protoc(&folder, &[file]).unwrap_or_else(|error| panic!("{name}: {error}"));
        compiled += 1;
    }
    assert_eq!(compiled, 9);
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the folder can be written");
}
