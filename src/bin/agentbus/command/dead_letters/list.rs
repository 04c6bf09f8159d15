//! `agentbus dead-letters list`: which dead letters there are.

use agentbus::client::DeadLetter;
use clap::Args;

use super::selection::{Filter, Place, note_if_partial};
use crate::{exit::Exit, message::Shown, progress::Progress, session::Session, time};

/// Lists dead letters, the oldest first. They stay as they are.
///
/// As JSON, each has its body too, decoded as far as the contract knows it.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
}

/// Lists.
pub(crate) async fn run(args: List, session: &Session) -> anyhow::Result<Exit> {
    let contract = session.contract().await?;
    let client = session.observer().await?;
    let output = session.output();
    let mut list = args.place.letters(&client).list(args.filter.build());
    let progress = Progress::new("reading", None);
    let mut rows = Vec::new();
    while let Some(letter) = session.stop.or(list.next()).await?? {
        progress.advance();
        if output.is_json() {
            output.json(&Shown::new(letter.envelope(), &contract))?;
        } else {
            rows.push(cells(&letter));
        }
    }
    drop(progress);
    if !output.is_json() {
        let headings = ["FAILED", "MESSAGE ID", "TYPE", "TOPIC", "KIND", "ATTEMPTS", "ERROR"];
        output.table(headings, rows)?;
    }
    note_if_partial(list.is_partial());
    client.close().await;
    Ok(Exit::Ok)
}

fn cells(letter: &DeadLetter) -> [String; 7] {
    let text =
        |name: Option<&agentbus::Name>| name.map_or_else(|| "-".to_owned(), ToString::to_string);
    let failure = letter.failure();
    [
        letter.since().map_or_else(|| "-".to_owned(), time::shown),
        letter.id().map_or_else(|| "-".to_owned(), ToString::to_string),
        text(letter.message_type()),
        text(letter.topic()),
        failure.map_or_else(|| "-".to_owned(), |failure| failure.kind.to_string()),
        failure.map_or_else(|| "-".to_owned(), |failure| failure.attempts.to_string()),
        text(failure.map(|failure| &failure.error)),
    ]
}
