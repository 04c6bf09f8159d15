//! The command line of agentbus: takes part in a bus, and looks into it.
//!
//! It uses nothing but what the library offers everybody. Each command is a file of
//! [`command`]; what they share is a [`Session`], the [`Contract`](contract::Contract) that bodies
//! are written and read by, and the [`Output`](output::Output).

mod agent_queues;
mod asyncapi;
mod cli;
mod command;
mod compatibility;
mod contract;
mod draft;
mod exit;
mod input;
mod management;
mod message;
mod output;
mod page;
mod progress;
mod registered;
mod session;
mod stop;
mod time;

use std::{env, io, process::ExitCode};

use agentbus::Report;
use clap::Parser as _;
use tracing_subscriber::{
    filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use self::{
    cli::Cli,
    exit::{Exit, Usage},
    session::Session,
    stop::Stop,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = log().and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(2).enable_all().build()?;
        let ended = runtime.block_on(async {
            let session = Session::new(cli.global, Stop::on_signals()?);
            Box::pin(command::run(cli.command, &session)).await
        });
        // Does not wait for standard input that nobody wants read any more.
        runtime.shutdown_background();
        ended
    });
    let exit = ended.unwrap_or_else(|error| {
        let exit = Exit::of(&error);
        if exit != Exit::Ok {
            output::note(Report::from(error));
        }
        exit
    });
    exit.into()
}

/// What is logged unless `RUST_LOG` says otherwise. lapin calls every closed channel an error, also
/// where a queue is only looked for; what matters of it comes back as an error of agentbus.
const LOGGED: &str = "warn,lapin=off";

/// Logs to standard error what `RUST_LOG` asks for, as in `warn,agentbus=debug`.
fn log() -> anyhow::Result<()> {
    let wanted = env::var("RUST_LOG").ok().filter(|wanted| !wanted.trim().is_empty());
    let targets: Targets = wanted.as_deref().unwrap_or(LOGGED).parse().map_err(|error| {
        Usage(format!("`RUST_LOG` is not a list such as `warn,agentbus=debug`: {error}"))
    })?;
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines).with(targets).init();
    Ok(())
}
