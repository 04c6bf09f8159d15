//! Agents that answer questions about markets.

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use market::{
    cli::{Cli, Command},
    command::{ask, sample, serve},
};
use tracing_subscriber::{
    filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = log().and_then(|()| {
        let runtime = tokio::runtime::Runtime::new()?;
        let result = runtime.block_on(run(cli));
        // Does not wait for files that nobody wants read any more.
        runtime.shutdown_background();
        result
    });
    result.unwrap_or_else(|error| {
        // Standard error may be closed; there is nobody left to tell then.
        _ = writeln!(io::stderr(), "market: {}", with_causes(&error));
        ExitCode::FAILURE
    })
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Ask(ask) => return ask::run(ask).await,
        Command::Serve(serve) => serve::run(serve).await?,
        Command::Sample => sample::run()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns what an error says, and its causes as far as they say more.
fn with_causes(error: &anyhow::Error) -> String {
    let root = error.root_cause().to_string();
    let mut text = String::new();
    for cause in error.chain() {
        if text.contains(&root) {
            break;
        }
        let joint = if text.is_empty() { "" } else { ": " };
        text = format!("{text}{joint}{cause}");
    }
    text
}

/// What is logged unless `RUST_LOG` says otherwise. lapin calls every closed channel an error, also
/// where a queue is only looked for; what matters of it comes back as an error of agentbus.
const LOGGED: &str = "warn,lapin=off";

/// Logs to standard error what `RUST_LOG` asks for, as in `warn,agentbus=debug`.
fn log() -> anyhow::Result<()> {
    let wanted = env::var("RUST_LOG").ok().filter(|wanted| !wanted.trim().is_empty());
    let targets: Targets = wanted.as_deref().unwrap_or(LOGGED).parse().map_err(|error| {
        anyhow::anyhow!("`RUST_LOG` is not a list such as `warn,agentbus=debug`: {error}")
    })?;
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines).with(targets).init();
    Ok(())
}
