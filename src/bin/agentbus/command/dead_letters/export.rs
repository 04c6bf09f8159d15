//! `agentbus dead-letters export`: dead letters as lines of JSON.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::Args;

use super::selection::{Filter, Place, note_if_partial};
use crate::{exit::Exit, output::note, progress::Progress, session::Session};

/// Writes dead letters as JSON, one a line, with everything they consist of. They stay where they are.
///
/// `bodyBase64` is the body as it is; `body` is the same decoded, where the contract knows the type.
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
    /// Writes to a file that is not there yet, instead of to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Exports.
pub(crate) async fn run(args: Export, session: &Session) -> anyhow::Result<Exit> {
    let contract = session.contract().await?;
    let client = session.observer().await?;
    let mut out: Box<dyn Write + Send> = match &args.output {
        None => Box::new(BufWriter::new(io::stdout())),
        Some(path) => {
            let file = File::create_new(path);
            let file = file.with_context(|| format!("cannot write `{}`", path.display()))?;
            Box::new(BufWriter::new(file))
        }
    };
    let mut list = args.place.letters(&client).list(args.filter.build());
    let progress = Progress::new("exporting", None);
    let mut exported = 0_u64;
    while let Some(letter) = session.stop.or(list.next()).await?? {
        writeln!(out, "{}", letter.to_json(Some(contract.schema())))?;
        exported += 1;
        progress.advance();
    }
    out.flush()?;
    drop(progress);
    note(format!("exported {exported}"));
    note_if_partial(list.is_partial());
    client.close().await;
    Ok(if list.is_partial() { Exit::Failed } else { Exit::Ok })
}
