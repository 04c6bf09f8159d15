//! `agentbus contract`: what a contract says, and whether another one can take its place.

mod check;
mod docs;
mod show;

use clap::Subcommand;

use crate::{exit::Exit, session::Session};

/// Checks, documents and shows contracts.
#[derive(Debug, Subcommand)]
pub(crate) enum Contract {
    Check(check::Check),
    Docs(docs::Docs),
    Show(show::Show),
}

/// Runs the one that is named.
pub(crate) async fn run(command: Contract, session: &Session) -> anyhow::Result<Exit> {
    match command {
        Contract::Check(args) => check::run(args, session).await,
        Contract::Docs(args) => docs::run(args, session).await,
        Contract::Show(args) => show::run(args, session).await,
    }
}
