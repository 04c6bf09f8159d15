//! `agentbus dead-letters show`: one dead letter with all there is to it.

use agentbus::client::DeadLetterFilter;
use clap::Args;

use super::selection::{Place, note_if_partial};
use crate::{exit::Exit, message::Shown, output::note, session::Session};

/// Shows a dead letter with its metadata, and its body as far as the contract knows it.
///
/// Where there are several of that message, as of replicas that failed on it, all are shown.
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    place: Place,
    /// The message's id.
    #[arg(long = "id", value_name = "ID")]
    id: String,
}

/// Shows.
pub(crate) async fn run(args: Show, session: &Session) -> anyhow::Result<Exit> {
    let contract = session.contract().await?;
    let client = session.observer().await?;
    let filter = DeadLetterFilter::default().id(args.id.as_str());
    let mut list = args.place.letters(&client).list(filter);
    let mut found = false;
    while let Some(letter) = session.stop.or(list.next()).await?? {
        found = true;
        let shown = Shown::new(letter.envelope(), &contract);
        session.output().result(&shown, || shown.to_text(true))?;
    }
    note_if_partial(list.is_partial());
    client.close().await;
    if found {
        return Ok(Exit::Ok);
    }
    note(format!("there is no dead letter of message `{}`", args.id));
    Ok(Exit::Failed)
}
