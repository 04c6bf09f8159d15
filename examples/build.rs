//! Compiles the examples' contract.

use std::{fs, io};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = "proto/examples/v1";
    println!("cargo:rerun-if-changed={dir}");
    let mut files =
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    agentbus_build::configure()
        .includes(["proto"])
        .include_file("contract.rs")
        .serde(["QuoteResponse"])
        .compile(files)?;
    Ok(())
}
