//! `agentbus contract check`, over a folder of changes with the verdict on each.

use std::{ffi::OsStr, fmt::Write as _, fs, path::Path};

use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use serde_json::Value;

use crate::program::{Said, at, folder, run};

fn check(old: &Path, new: &Path, more: &[&str]) -> Said {
    let words = ["contract", "check", "--json"].map(OsStr::new);
    let paths = [old.as_os_str(), new.as_os_str()];
    run(words.into_iter().chain(paths).chain(more.iter().map(OsStr::new)))
}

/// Writes a finding as the folders expect it: `FIELD_TYPE wire new:7:3`.
fn brief(finding: &Value) -> String {
    let text = |key: &str| finding[key].as_str().expect("a text").to_owned();
    let side = text("side");
    assert!(text("file").ends_with(&format!("{side}.proto")), "{finding}");
    assert!(!text("message").is_empty());
    format!(
        "{} {} {side}:{}:{}",
        text("rule"),
        text("category"),
        finding["line"],
        finding["column"]
    )
}

/// The levels, and the categories that each of them tells.
const LEVELS: [(&str, &[&str]); 3] = [
    ("wire", &["wire"]),
    ("wire-json", &["wire", "wire-json"]),
    ("source", &["wire", "wire-json", "source"]),
];

#[test]
fn every_change_has_its_verdict() {
    let (mut cases, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(at("tests/contract_changes")).expect("the folder of changes") {
        let case = entry.expect("an entry").path();
        let (old, new) = (case.join("old.proto"), case.join("new.proto"));
        let expected = fs::read_to_string(case.join("expected")).expect("the verdict");
        for (level, categories) in LEVELS {
            let mut expected: Vec<&str> = expected
                .lines()
                .filter(|line| {
                    let category = line.split(' ').nth(1).expect("a category");
                    categories.contains(&category)
                })
                .collect();
            expected.sort_unstable();
            let said = check(&old, &new, &["--level", level]);
            let mut found: Vec<_> = said.json().iter().map(brief).collect();
            found.sort_unstable();
            if found != expected || said.code != Some(i32::from(!expected.is_empty())) {
                let case = case.display();
                wrong.push(format!("{case}, {level}: expected {expected:?}, found {said:?}"));
            }
        }
        for same in [&old, &new] {
            check(same, same, &["--level", "source"]).with_code(0);
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases >= 30, "{cases} changes");
}

#[test]
fn folders_and_descriptor_sets_are_compared_alike() {
    let folder = folder("alike");
    let (old, new) = (folder.join("old"), folder.join("new"));
    for (side, field) in [(&old, "string id = 1;"), (&new, "int64 id = 1;")] {
        let package = side.join("shop/v1");
        fs::create_dir_all(&package).unwrap();
        let part = format!("syntax = \"proto3\";\npackage shop.v1;\nmessage Part {{ {field} }}\n");
        fs::write(package.join("part.proto"), part).unwrap();
        let whole = "syntax = \"proto3\";\npackage shop.v1;\nimport \"shop/v1/part.proto\";\n\
                     message Whole { Part part = 1; }\n";
        fs::write(package.join("whole.proto"), whole).unwrap();
    }
    let set = |side: &Path| {
        let mut compiler = protox::Compiler::new([side]).unwrap();
        compiler.include_imports(true).include_source_info(true);
        compiler.open_file("shop/v1/whole.proto").unwrap();
        let path = side.with_extension("bin");
        fs::write(&path, compiler.encode_file_descriptor_set()).unwrap();
        path
    };
    let (old_set, new_set) = (set(&old), set(&new));
    for old in [&old, &old_set] {
        for new in [&new, &new_set] {
            let said = check(old, new, &[]).with_code(1);
            let [finding] = &said.json()[..] else { panic!("{said:?}") };
            assert_eq!(finding["rule"], "FIELD_TYPE");
            assert_eq!((&finding["line"], &finding["column"]), (&3.into(), &16.into()));
            assert!(finding["file"].as_str().unwrap().ends_with("shop/v1/part.proto"));
        }
    }
    check(&old, &old_set, &["--level", "source"]).with_code(0);
}

#[test]
fn types_may_move_between_files() {
    let folder = folder("moved");
    let (old, new) = (folder.join("old"), folder.join("new"));
    let head = "syntax = \"proto3\";\npackage shop.v1;\n";
    fs::create_dir_all(&old).unwrap();
    fs::create_dir_all(&new).unwrap();
    fs::write(old.join("all.proto"), format!("{head}message A {{}}\nmessage B {{}}\n")).unwrap();
    fs::write(new.join("a.proto"), format!("{head}message A {{}}\n")).unwrap();
    fs::write(new.join("b.proto"), format!("{head}message B {{}}\n")).unwrap();
    check(&old, &new, &["--level", "source"]).with_code(0);
}

#[test]
fn the_text_has_place_rule_and_what_helps() {
    let case = at("tests/contract_changes/field_removed");
    let words = ["contract", "check"].map(Into::into);
    let paths = [case.join("old.proto"), case.join("new.proto")];
    let said = run(words.into_iter().chain(paths)).with_code(1);
    let place = format!("{}:7:3: ", case.join("old.proto").display());
    assert!(said.out.starts_with(&place), "{said:?}");
    assert!(said.out.contains("`reserved 2;`"), "{said:?}");
    assert!(said.out.contains("[FIELD_REMOVED, wire]"), "{said:?}");
    assert!(said.out.ends_with("1 change breaks readers or writers\n"), "{said:?}");
}

#[test]
fn what_is_passed_over_is_counted() {
    let case = at("tests/contract_changes/field_renamed");
    let said = check(&case.join("old.proto"), &case.join("new.proto"), &["--level", "wire"]);
    let said = said.with_code(0);
    assert!(said.out.is_empty(), "{said:?}");
    assert!(said.err.contains("1 change passed over; `--level wire-json` shows"), "{said:?}");
}

#[test]
fn what_cannot_be_read_is_a_usage_error() {
    let good = at("tests/contract_changes/same/old.proto");
    let bad = folder("unreadable").join("bad.proto");
    fs::write(&bad, "syntax = \"proto3\";\nmessage M {\n  string = 1;\n}\n").unwrap();
    let said = check(&good, &bad, &[]).with_code(2);
    assert!(said.err.contains("bad.proto:3:10: "), "{said:?}");
    check(&at("no/such.proto"), &good, &[]).with_code(2);
    check(&good, &at("tests/contract_changes/same/expected"), &[]).with_code(2);
    let named = ["--proto", good.to_str().unwrap()];
    let said = check(&good, &good, &named).with_code(2);
    assert!(said.err.contains("without `--proto`"), "{said:?}");
}

#[test]
fn our_own_contracts_do_not_break_themselves() {
    for path in ["proto", "examples/proto", "examples/market/proto", "tests/cli/test.proto"] {
        check(&at(path), &at(path), &["--level", "source"]).with_code(0);
    }
}

/// A message of a random contract: its fields, as number, type and whether it is repeated.
type Fields = Vec<(u32, usize, bool)>;

const TYPES: [&str; 10] = [
    "string",
    "bytes",
    "int32",
    "sint64",
    "bool",
    "double",
    "fixed32",
    "M0",
    "Level",
    "map<string, M0>",
];

fn contract() -> impl Strategy<Value = Vec<Fields>> {
    let field = (1..60_u32, 0..TYPES.len(), any::<bool>());
    let fields = prop::collection::vec(field, 1..8).prop_map(|mut fields| {
        fields.sort_unstable();
        fields.dedup_by_key(|field| field.0);
        fields
    });
    prop::collection::vec(fields, 1..4)
}

fn text(messages: &[Fields]) -> String {
    let mut text = String::from(
        "syntax = \"proto3\";\npackage random.v1;\nenum Level { LEVEL_UNSPECIFIED = 0; LEVEL_UP = 3; }\n",
    );
    for (index, fields) in messages.iter().enumerate() {
        _ = writeln!(text, "message M{index} {{");
        for (number, kind, repeated) in fields {
            let kind = TYPES[*kind];
            let label = if *repeated && !kind.starts_with("map") { "repeated " } else { "" };
            _ = writeln!(text, "  {label}{kind} f{number} = {number};");
        }
        text += "}\n";
    }
    text
}

#[test]
fn a_random_contract_breaks_only_when_something_is_taken_from_it() {
    let folder = folder("random");
    let (old, new) = (folder.join("old.proto"), folder.join("new.proto"));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(40));
    let cases = (contract(), any::<Index>(), any::<Index>(), 0..TYPES.len());
    let ended = runner.run(&cases, |(messages, message, field, kind)| {
        fs::write(&old, text(&messages))?;
        fs::write(&new, text(&messages))?;
        check(&old, &new, &["--level", "source"]).with_code(0);

        let mut less = messages.clone();
        let fields: &mut Fields = message.get_mut(&mut less);
        fields.remove(field.index(fields.len()));
        fs::write(&new, text(&less))?;
        let said = check(&old, &new, &[]).with_code(1);
        let found: Vec<_> = said.json().iter().map(|found| found["rule"].clone()).collect();
        prop_assert_eq!(found, ["FIELD_REMOVED"]);
        // The other way round, a field is new.
        check(&new, &old, &["--level", "source"]).with_code(0);

        let mut other = messages.clone();
        let fields: &mut Fields = message.get_mut(&mut other);
        let field = field.get_mut(fields);
        let same = field.1 == kind;
        field.1 = kind;
        fs::write(&new, text(&other))?;
        check(&old, &new, &[]).with_code(i32::from(!same));
        Ok(())
    });
    ended.unwrap();
}
