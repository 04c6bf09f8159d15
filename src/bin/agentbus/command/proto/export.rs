//! `agentbus proto export`: writes `agentbus/v1/*.proto` for other compilers and other languages.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use agentbus_build::bundled_protos;
use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::{
    exit::{Exit, Usage},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  agentbus proto export proto
  protoc -I proto --python_out=generated proto/market/v1/market.proto proto/agentbus/v1/*.proto

The files are written to DIR/agentbus/v1, for `import \"agentbus/v1/route.proto\";` with DIR among the
includes. Rust contracts need no copy: it comes with agentbus-build.";

/// Writes the schemas of package `agentbus.v1` to a folder.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Export {
    /// The folder that imports are searched in; made where it is missing.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Overwrites files that are there and differ.
    #[arg(long)]
    force: bool,
}

/// A schema that was exported.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Exported {
    path: String,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Written,
    Overwritten,
    Unchanged,
}

/// Exports. Where any file differs, none is written.
pub(crate) async fn run(args: Export, session: &Session) -> anyhow::Result<Exit> {
    let mut plan = Vec::new();
    let mut differing = Vec::new();
    for (name, text) in bundled_protos() {
        let path = args.folder.join(name);
        let outcome = outcome(&path, text)?;
        if outcome == Outcome::Overwritten && !args.force {
            differing.push(format!("`{}`", path.display()));
        }
        plan.push((path, text, outcome));
    }
    if !differing.is_empty() {
        let text = format!(
            "{} differ from what would be written; nothing was. Say `--force` to overwrite",
            differing.join(", ")
        );
        return Err(Usage(text).into());
    }
    let output = session.output();
    for (path, text, outcome) in plan {
        let shown = path.display().to_string();
        if outcome != Outcome::Unchanged {
            write(&path, text).with_context(|| format!("cannot write `{shown}`"))?;
        }
        let exported = Exported { path: shown, outcome };
        output.result(&exported, || match outcome {
            Outcome::Unchanged => format!("{} (unchanged)", exported.path),
            Outcome::Overwritten => format!("{} (overwritten)", exported.path),
            Outcome::Written => exported.path.clone(),
        })?;
    }
    Ok(Exit::Ok)
}

/// Finds out what writing would do.
fn outcome(path: &Path, text: &str) -> anyhow::Result<Outcome> {
    match fs::read(path) {
        Ok(there) if there == text.as_bytes() => Ok(Outcome::Unchanged),
        Ok(_) => Ok(Outcome::Overwritten),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Outcome::Written),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Beside it first, so that what reads the folder meanwhile never sees half a file.
    let draft = path.with_extension("proto.new");
    fs::write(&draft, text)?;
    fs::rename(&draft, path)
}
