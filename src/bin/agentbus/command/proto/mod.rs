//! `agentbus proto`: our own schemas.

mod export;

use clap::Subcommand;

use crate::{exit::Exit, session::Session};

/// Gives the schemas that contracts import.
#[derive(Debug, Subcommand)]
pub(crate) enum Proto {
    Export(export::Export),
}

/// Runs the one that is named.
pub(crate) async fn run(command: Proto, session: &Session) -> anyhow::Result<Exit> {
    match command {
        Proto::Export(args) => export::run(args, session).await,
    }
}
