//! `market serve`.

use agentbus::{
    Client,
    agent::{Ended, Signals},
    config::BusUrl,
};
use anyhow::bail;
use clap::ValueEnum as _;

use super::{print, start};
use crate::cli::{AgentName, Serve};

/// Runs agents until the process is told to stop; told twice, it does not wait for what they are at.
///
/// # Errors
///
/// Fails where the agents cannot be started, or are cut short.
pub async fn run(serve: Serve) -> anyhow::Result<()> {
    let name = serve.agent.to_possible_value().map(|value| value.get_name().to_owned());
    let name = name.unwrap_or_default();
    if !serve.prices.sources.is_empty() && !serve.agent.reads_prices() {
        bail!("agent `{name}` reads no prices: give `--prices` to `market serve data`");
    }
    let config = serve.bus.config()?;
    if matches!(config.bus, BusUrl::Memory { .. }) {
        bail!(
            "nobody else can reach an embedded bus: name a shared one with \
             `--bus amqp://localhost`, or ask with `market ask`, which brings its agents along"
        );
    }
    let bus = config.bus.to_string();
    // From here on, what tells the process to stop waits for its turn.
    let mut signals = Signals::listen()?;
    let client = Client::connect(config).await?;
    let agents = start(serve.agent, client.clone(), serve.prices.sources).await?;
    let which = if serve.agent == AgentName::All { "query, data, analysis" } else { &name };
    print(format!("ready on {bus}: {which}\n").as_bytes())?;

    signals.next().await;
    eprintln!("market: stopping; once more to stop at once");
    match agents.shutdown_unless(signals.next()).await {
        Ended::AtOnce => bail!("stopped at once; what was being handled will be handled again"),
        _ => Ok(()),
    }
}
