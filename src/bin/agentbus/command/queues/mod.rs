//! `agentbus queues`: what is in the queues of agents, and how it is removed.

mod delete;
mod list;
mod peek;
mod purge;

use clap::Subcommand;

use crate::{exit::Exit, session::Session};

/// Lists queues, looks into them, empties and deletes them.
#[derive(Debug, Subcommand)]
pub(crate) enum Queues {
    List(list::List),
    Peek(peek::Peek),
    Purge(purge::Purge),
    Delete(delete::Delete),
}

/// Runs the one that is named.
pub(crate) async fn run(command: Queues, session: &Session) -> anyhow::Result<Exit> {
    match command {
        Queues::List(args) => list::run(args, session).await,
        Queues::Peek(args) => peek::run(args, session).await,
        Queues::Purge(args) => purge::run(args, session).await,
        Queues::Delete(args) => delete::run(args, session).await,
    }
}
