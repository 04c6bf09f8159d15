//! `agentbus proto export`: our schemas, for compilers of other languages.

use std::{env, fs, path::Path, process::Command};

use crate::program::{Said, at, folder, run};

fn export(folder: &Path, more: &[&str]) -> Said {
    let folder = folder.to_str().unwrap();
    run(["proto", "export", folder].iter().chain(more))
}

fn names() -> Vec<String> {
    let folder = fs::read_dir(at("proto/agentbus/v1")).unwrap();
    let mut names: Vec<_> =
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Whether there is a `protoc` with Google's schemas; in CI there has to be one.
pub(crate) fn has_protoc(probe: &Path) -> bool {
    let source = "syntax = \"proto3\"; import \"google/protobuf/descriptor.proto\";";
    fs::write(probe.join("probe.proto"), source).expect("the folder can be written");
    let missing = match protoc(probe, &["probe.proto".to_owned()]) {
        Ok(()) => return true,
        Err(missing) => missing,
    };
    let text = format!(
        "there is no `protoc` that works (Debian: protobuf-compiler, libprotobuf-dev): {missing}"
    );
    assert!(env::var_os("CI").is_none(), "{text}");
    eprintln!("skipped: {text}");
    false
}

/// Compiles with `protoc`, which finds Google's schemas by itself, and returns what it complains of.
pub(crate) fn protoc(include: &Path, files: &[String]) -> Result<(), String> {
    let mut command = Command::new("protoc");
    command.arg("-I").arg(include);
    command
        .arg("--include_imports")
        .arg(format!("--descriptor_set_out={}", include.join("compiled.bin").display()));
    let output = command.args(files).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn every_schema_is_written_as_it_is() {
    let folder = folder("export");
    let target = folder.join("not/there/yet");
    let said = export(&target, &["--json"]).with_code(0);
    assert_eq!(said.json().len(), names().len());
    for line in said.json() {
        assert_eq!(line["outcome"], "written");
        assert!(Path::new(line["path"].as_str().unwrap()).is_file());
    }
    let mut found = Vec::new();
    for name in names() {
        let written = fs::read(target.join("agentbus/v1").join(&name)).unwrap();
        assert_eq!(written, fs::read(at("proto/agentbus/v1").join(&name)).unwrap());
        found.push(name);
    }
    // Nothing else was left there.
    assert_eq!(fs::read_dir(target.join("agentbus/v1")).unwrap().count(), found.len());
}

#[test]
fn files_that_differ_are_overwritten_on_demand_only() {
    let folder = folder("differing");
    export(&folder, &[]).with_code(0);
    let said = export(&folder, &["--json"]).with_code(0);
    assert!(said.json().iter().all(|line| line["outcome"] == "unchanged"), "{said:?}");

    let (changed, missing) = ("agentbus/v1/route.proto", "agentbus/v1/metadata.proto");
    fs::write(folder.join(changed), "mine").unwrap();
    fs::remove_file(folder.join(missing)).unwrap();
    let said = export(&folder, &[]).with_code(2);
    assert!(said.err.contains("route.proto` differ") && said.err.contains("--force"), "{said:?}");
    assert_eq!(fs::read(folder.join(changed)).unwrap(), b"mine");
    assert!(!folder.join(missing).exists(), "all or nothing");

    let said = export(&folder, &["--force"]).with_code(0);
    assert!(said.out.contains("route.proto (overwritten)"), "{said:?}");
    assert_ne!(fs::read(folder.join(changed)).unwrap(), b"mine");
    assert!(folder.join(missing).exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let file = folder("no_folder").join("file");
    fs::write(&file, "").unwrap();
    let said = export(&file, &[]).with_code(1);
    assert!(said.err.contains("no_folder/file/agentbus/v1"), "{said:?}");
}

#[test]
fn protoc_compiles_what_is_exported_and_a_contract_with_it() {
    let folder = folder("protoc");
    if !has_protoc(&folder) {
        return;
    }
    export(&folder, &[]).with_code(0);
    let market = "market/v1/market.proto";
    fs::create_dir_all(folder.join("market/v1")).unwrap();
    fs::copy(at("examples/market/proto").join(market), folder.join(market)).unwrap();
    let mut files: Vec<_> = names().into_iter().map(|name| format!("agentbus/v1/{name}")).collect();
    files.push(market.to_owned());
    protoc(&folder, &files).unwrap();
    // What protoc makes of it is the same contract as what comes of the sources.
    let set = folder.join("compiled.bin");
    let words = ["contract", "check", "--level", "source"].map(Into::into);
    let said = run(words.into_iter().chain([set.clone(), at("examples/market/proto")]));
    said.with_code(0);
    let words = ["contract", "check", "--level", "source"].map(Into::into);
    run(words.into_iter().chain([at("examples/market/proto"), set])).with_code(0);
}
