//! `agentbus dead-letters`: what agents could not handle, looked at, replayed and removed.

mod export;
mod list;
mod purge;
mod replay;
mod selection;
mod show;

use clap::Subcommand;

use crate::{exit::Exit, session::Session};

/// Lists, shows, replays, exports and removes what agents could not handle.
///
/// Nothing but `purge` and a confirmed `replay` takes a letter away, however a command ends. While
/// one reads, another one does not see the letters that it holds, and says so.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    List(list::List),
    Show(show::Show),
    Replay(replay::Replay),
    Export(export::Export),
    Purge(purge::Purge),
}

/// Runs the one that is named.
pub(crate) async fn run(command: DeadLetters, session: &Session) -> anyhow::Result<Exit> {
    match command {
        DeadLetters::List(args) => list::run(args, session).await,
        DeadLetters::Show(args) => show::run(args, session).await,
        DeadLetters::Replay(args) => replay::run(args, session).await,
        DeadLetters::Export(args) => export::run(args, session).await,
        DeadLetters::Purge(args) => purge::run(args, session).await,
    }
}
