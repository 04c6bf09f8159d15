//! `agentbus dead-letters replay`: gives dead letters back to their agent.

use std::{
    fs,
    io::{self, Read as _},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use agentbus::client::{DeadLetters, ReplayOptions, ReplayOutcome, Replayed};
use clap::Args;
use futures::FutureExt as _;
use serde_json::json;

use super::selection::{Filter, Place, note_if_partial};
use crate::{
    exit::{Exit, Interrupted, Usage},
    output::{Output, note},
    progress::Progress,
    session::Session,
};

/// Publishes dead letters to the queue of their agent once more, with the same message ids.
///
/// Each is removed when its copy is confirmed. Interrupted, it ends after the letter it is at, and
/// nothing is lost; killed, or without its connection, it may leave the last few letters behind whose copies were
/// taken.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
    /// Replays all of them; needed where nothing is left out.
    #[arg(long)]
    all: bool,
    /// Only shows what would be replayed, and to where.
    #[arg(long)]
    dry_run: bool,
    /// At most so many a second.
    #[arg(long, value_name = "COUNT")]
    rate: Option<NonZeroU32>,
    /// A file with another body for the one letter that `--id` names, as JSON; `-` is standard input.
    #[arg(long, value_name = "FILE", requires = "ids")]
    payload: Option<PathBuf>,
    /// Publishes to this queue instead of the agent's own.
    #[arg(long, value_name = "QUEUE")]
    to: Option<String>,
}

/// Replays.
pub(crate) async fn run(args: Replay, session: &Session) -> anyhow::Result<Exit> {
    if args.filter.is_everything() && !args.all {
        let text =
            "this would replay all of them: say so by `--all`, or choose some, as by `--kind`";
        return Err(Usage(text.to_owned()).into());
    }
    let client = session.observer().await?;
    let letters = args.place.letters(&client);
    let mut options = ReplayOptions::default();
    if args.dry_run {
        options = options.dry_run();
    }
    if let Some(rate) = args.rate {
        options = options.at_most(rate.get());
    }
    if let Some(queue) = &args.to {
        options = options.to(queue.as_str());
    }
    if let Some(file) = &args.payload {
        options = options.payload(payload(file, &letters, &args.filter, session).await?);
    }
    let output = session.output();
    let mut replay = letters.replay(args.filter.build(), options);
    let progress = Progress::new("replaying", None);
    let (mut sent, mut kept) = (0_u64, 0_u64);
    let ended = loop {
        if session.stop.requested().now_or_never().is_some() {
            break Err(Interrupted.into());
        }
        match replay.next().await {
            Ok(Some(replayed)) => {
                progress.advance();
                match &replayed.outcome {
                    ReplayOutcome::Kept(_) => kept += 1,
                    _ => sent += 1,
                }
                tell(&replayed, &output)?;
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(anyhow::Error::from(error)),
        }
    };
    drop(progress);
    if !output.is_json() {
        let would = if args.dry_run { "would replay" } else { "replayed" };
        output
            .text(format!("{would} {sent} dead letters of `{}`, kept {kept}", letters.queue()))?;
    }
    note_if_partial(replay.is_partial());
    let is_complete = kept == 0 && !replay.is_partial();
    drop(replay);
    client.close().await;
    ended.map(|()| if is_complete { Exit::Ok } else { Exit::Failed })
}

fn tell(replayed: &Replayed, output: &Output) -> anyhow::Result<()> {
    let id = replayed.letter.id().map(ToString::to_string);
    let shown = id.as_deref().unwrap_or("(no id)");
    let (outcome, reason) = match &replayed.outcome {
        ReplayOutcome::Sent => ("sent", None),
        ReplayOutcome::WouldBeSent => ("wouldBeSent", None),
        ReplayOutcome::Kept(reason) => ("kept", Some(reason)),
        _ => ("other", None),
    };
    if output.is_json() {
        let to = replayed.to.as_str();
        let mut value = json!({ "messageId": id, "to": to, "outcome": outcome });
        if let Some(reason) = reason {
            value["reason"] = json!(reason);
        }
        return output.json(&value);
    }
    match &replayed.outcome {
        ReplayOutcome::WouldBeSent => output.text(format!("{shown}  to `{}`", replayed.to))?,
        ReplayOutcome::Kept(reason) => note(format!("kept {shown}: {reason}")),
        _ => {}
    }
    Ok(())
}

/// Reads another body for one letter, and encodes it as that letter's type.
async fn payload(
    file: &Path,
    letters: &DeadLetters,
    filter: &Filter,
    session: &Session,
) -> anyhow::Result<Vec<u8>> {
    let Some(id) = filter.only_id() else {
        return Err(Usage("`--payload` is for one letter: give one `--id`".to_owned()).into());
    };
    let contract = session.contract().await?;
    let Some(letter) = session.stop.or(letters.get(id)).await?? else {
        return Err(anyhow::anyhow!("there is no dead letter of message `{id}`"));
    };
    let Some(full_name) = contract.type_of(letter.envelope()) else {
        let text = "the letter does not say its type, and no route of the contract does";
        return Err(Usage(text.to_owned()).into());
    };
    let unreadable = |error| Usage(format!("cannot read `{}`: {error}", file.display()));
    let json = if file == Path::new("-") {
        let mut json = String::new();
        io::stdin().read_to_string(&mut json).map_err(unreadable)?;
        json
    } else {
        fs::read_to_string(file).map_err(unreadable)?
    };
    let payload = contract.schema().from_json(full_name, &json);
    Ok(payload.map_err(|error| Usage(error.to_string()))?.to_vec())
}
