//! `agentbus contract show`: types as the contract declares them.

use std::fs;

use crate::{
    export::{has_protoc, protoc},
    program::{Said, at, folder, run},
};

fn show(more: &[&str]) -> Said {
    let proto = at("tests/contract_docs/nasty/v1/nasty.proto");
    let include = at("tests/contract_docs");
    let words = ["contract", "show", "--proto", proto.to_str().unwrap()];
    run(words.iter().chain(&["-I", include.to_str().unwrap()]).chain(more))
}

#[test]
fn a_message_is_shown_as_it_is_written() {
    let said = show(&["Tree"]).with_code(0);
    let place = at("tests/contract_docs/nasty/v1/nasty.proto");
    let expected = format!(
        "// nasty.v1.Tree ({}:95:1)\n\
         // carried by nasty.do: request of nasty.v1.Nasty.Do, within nasty.v1.Everything\n\
         // carried by nasty.do: reply of nasty.v1.Nasty.Do, within nasty.v1.Everything\n\
         // carried by nasty.fails: request of nasty.v1.Nasty.Fails\n\
         // carried by nasty.reply: event of nasty.v1.Nasty.Deep, within nasty.v1.Everything.Inner.Deep\n\
         \n\
         // A message that has itself.\n\
         message Tree {{\n  repeated Tree branches = 1;\n  map<string, Tree> named = 2;\n}}\n\n",
        place.display()
    );
    assert_eq!(said.out, expected);
}

#[test]
fn a_type_may_be_named_by_its_end() {
    let said = show(&["Inner.Kind", "--json"]).with_code(0);
    let [shown] = &said.json()[..] else { panic!("{said:?}") };
    assert_eq!(
        (&shown["type"], &shown["kind"]),
        (&"nasty.v1.Everything.Inner.Kind".into(), &"enum".into())
    );
    let said = show(&["Kind"]).with_code(2);
    assert!(
        said.err.contains("`nasty.v1.Everything.Inner.Kind`, `other.v1.Money.Kind`"),
        "{said:?}"
    );
    let said = show(&["Nobody"]).with_code(2);
    assert!(said.err.contains("no type `Nobody`"), "{said:?}");
    // An entry of a map is no type that anybody wrote.
    show(&["nasty.v1.Tree.NamedEntry"]).with_code(2);
}

#[test]
fn with_all_its_parts_a_message_is_complete() {
    let said = show(&["Everything", "--all", "--json"]).with_code(0);
    let names: Vec<_> =
        said.json().iter().map(|shown| shown["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names[0], "nasty.v1.Everything");
    for name in
        ["other.v1.Money", "other.v1.Currency", "nasty.v1.Colour", "Bare", "google.protobuf.Any"]
    {
        assert!(names.iter().any(|shown| shown == name), "{name} is not in {names:?}");
    }
}

#[test]
fn without_a_type_the_routes_are_listed() {
    let said = show(&["--json"]).with_code(0);
    let routes = said.json();
    assert_eq!(routes.len(), 5);
    assert_eq!(routes[3]["topic"], "nasty.reply");
    assert_eq!(routes[3].get("reply"), None);
    let said = show(&[]).with_code(0);
    assert!(said.out.starts_with("TOPIC "), "{said:?}");
}

#[test]
fn a_contract_has_to_be_named() {
    let said = run(["contract", "show", "Tree"]).with_code(2);
    assert!(said.err.contains("--proto FILE"), "{said:?}");
}

#[test]
fn what_is_shown_compiles_and_is_the_same() {
    let folder = folder("shown");
    if !has_protoc(&folder) {
        return;
    }
    let include = at("tests/contract_docs");
    let legacy = at("tests/contract_docs/nasty/v1/legacy.proto");
    let words = ["contract", "show", "Legacy", "--json", "--proto", legacy.to_str().unwrap()];
    let said = run(words.iter().chain(&["-I", include.to_str().unwrap()])).with_code(0);
    let shown = said.json();
    let proto = shown[0]["proto"].as_str().unwrap();
    let text = format!("syntax = \"proto2\";\npackage nasty.v1;\n{proto}");
    fs::write(folder.join("shown.proto"), text).unwrap();
    protoc(&folder, &["shown.proto".to_owned()]).unwrap();
    // The routes are gone with the rest of the file, and nothing else is.
    let words = ["contract", "check", "--json", "--level", "source"].map(Into::into);
    let said = run(words.into_iter().chain([legacy, folder.join("compiled.bin")])).with_code(1);
    let rules: Vec<_> = said.json().iter().map(|found| found["rule"].clone()).collect();
    assert_eq!(rules, ["ROUTE_REMOVED"], "{said:?}");
}
