//! `agentbus dead-letters purge`: removes dead letters.

use clap::Args;
use serde_json::json;

use super::selection::{Filter, Place, note_if_partial};
use crate::{exit::Exit, output::confirm, progress::Progress, session::Session};

/// Removes dead letters. They are gone for good.
#[derive(Debug, Args)]
pub(crate) struct Purge {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
    /// Only counts what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
}

/// Purges.
pub(crate) async fn run(args: Purge, session: &Session) -> anyhow::Result<Exit> {
    let client = session.observer().await?;
    let letters = args.place.letters(&client);
    let (queue, filter) = (letters.queue().clone(), args.filter.build());
    let mut removed = 0_u64;
    let is_partial = if args.dry_run {
        let mut list = letters.list(filter);
        let progress = Progress::new("counting", None);
        while session.stop.or(list.next()).await??.is_some() {
            removed += 1;
            progress.advance();
        }
        list.is_partial()
    } else {
        let ready = session.stop.or(letters.count()).await??;
        let which = if args.filter.is_everything() { "all" } else { "the chosen ones of" };
        confirm(&format!("Remove {which} {ready} dead letters of `{queue}` for good?"), args.yes)?;
        let mut purge = letters.purge(filter);
        let progress = Progress::new("removing", None);
        while session.stop.or(purge.next()).await??.is_some() {
            removed += 1;
            progress.advance();
        }
        purge.is_partial()
    };
    let would = if args.dry_run { "would remove" } else { "removed" };
    let value = json!({ "queue": queue.as_str(), "removed": removed, "dryRun": args.dry_run });
    session.output().result(&value, || format!("{would} {removed} dead letters of `{queue}`"))?;
    note_if_partial(is_partial);
    client.close().await;
    Ok(if is_partial { Exit::Failed } else { Exit::Ok })
}
