//! Modules depend on the floors below them only.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The floors from the ground up; modules on one floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["clock", "proto", "report"],
    &["contract"],
    &["message"],
    &["retry"],
    &["config"],
    &["broker", "store"],
    &["client"],
    &["agent"],
    &["testing"],
    &["bin"],
];

#[test]
fn modules_depend_on_lower_floors_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut upward = Vec::new();
    for file in rust_files(&src) {
        let module = module_of(&src, &file);
        // A crate of its own, which sees nothing but what is public.
        if module == "bin" {
            continue;
        }
        let Some(floor) = floor_of(&module) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        for used in used_modules(&text) {
            let allowed = used == module || floor_of(&used).is_none_or(|below| below < floor);
            if !allowed {
                upward.push(format!("{} uses `{used}`", file.display()));
            }
        }
    }
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

#[test]
fn every_module_has_a_floor() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in rust_files(&src) {
        let module = module_of(&src, &file);
        assert!(module == "lib" || floor_of(&module).is_some(), "`{module}` stands on no floor");
    }
}

#[test]
fn the_command_line_takes_no_files_of_the_library() {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
    for file in rust_files(&bin) {
        let text = fs::read_to_string(&file).unwrap();
        let borrowed = text.contains("#[path") || text.contains("include!(");
        assert!(!borrowed, "{} uses more than what is public", file.display());
    }
}

#[test]
fn a_use_of_a_higher_floor_is_seen() {
    let text = "//! crate::agent\nuse crate::{agent::Context, message::{Id, Envelope}};\ncrate::client::x();";
    assert_eq!(used_modules(text), ["agent", "message", "client"]);
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn module_of(src: &Path, file: &Path) -> String {
    let first = file.strip_prefix(src).unwrap().iter().next().unwrap();
    first.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The first names after `crate::`, in paths and in `use crate::{…}` groups; comments left out.
fn used_modules(text: &str) -> Vec<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => used.extend(group_heads(group)),
            None => used.push(word(rest)),
        }
    }
    used
}

/// The first names of a group's members, up to its closing brace.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut at_start = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if c.is_whitespace() => {}
            _ if at_start => {
                heads.push(word(&group[at..]));
                at_start = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
