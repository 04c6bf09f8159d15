//! What is wrong with a contract is said with its place: `refused/*.proto`, each with the message beside it.

use std::{env, fs, path::Path};

use agentbus_build::Contract;

/// Set to write the messages down instead of comparing them.
const WRITE: &str = "REFUSED_WRITE";

#[test]
fn each_mistake_is_told_with_file_line_and_column() {
    let dir = Path::new("tests/refused");
    let mut count = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(dir).expect("the directory is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "proto") {
            continue;
        }
        count += 1;
        let error = Contract::from_protos([&path], [dir]).expect_err("it is refused");
        let said = format!("{error}\n");
        let expected = path.with_extension("txt");
        if env::var_os(WRITE).is_some() {
            fs::write(&expected, &said).expect("it can be written");
        }
        let expected = fs::read_to_string(expected).unwrap_or_default();
        if said != expected {
            wrong.push(format!("--- expected\n{expected}--- said\n{said}"));
        }
    }
    assert!(count >= 10, "{count} contracts");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
