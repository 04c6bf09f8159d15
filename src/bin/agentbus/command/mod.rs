//! The commands, one file each: what may be written after its name, and `run`, which does it.

mod agents;
mod contract;
mod dead_letters;
mod doctor;
mod moving;
mod proto;
mod publish;
mod queues;
mod request;
mod tail;

use clap::Subcommand;

use crate::{exit::Exit, session::Session};

// No doc comment: clap would show it in place of what the command says of itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Publish(publish::Publish),
    Request(request::Request),
    Tail(tail::Tail),
    Agents(agents::Agents),
    #[command(subcommand)]
    Queues(queues::Queues),
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    Doctor(doctor::Doctor),
    Move(moving::Move),
    #[command(subcommand)]
    Contract(contract::Contract),
    #[command(subcommand)]
    Proto(proto::Proto),
}

/// Runs a command to its end.
///
/// An error is printed by the caller, and decides the exit code; so does an [`Exit`] where the
/// command has said itself what there is to say.
pub(crate) async fn run(command: Command, session: &Session) -> anyhow::Result<Exit> {
    match command {
        Command::DeadLetters(args) => dead_letters::run(args, session).await,
        Command::Publish(args) => publish::run(args, session).await,
        Command::Request(args) => request::run(args, session).await,
        Command::Agents(args) => agents::run(args, session).await,
        Command::Tail(args) => tail::run(args, session).await,
        Command::Queues(args) => queues::run(args, session).await,
        Command::Doctor(args) => doctor::run(args, session).await,
        Command::Move(args) => moving::run(args, session).await,
        Command::Contract(args) => contract::run(args, session).await,
        Command::Proto(args) => proto::run(args, session).await,
    }
}
