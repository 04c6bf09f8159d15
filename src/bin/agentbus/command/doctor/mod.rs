//! `agentbus doctor`: looks for what is wrong with a bus, or soon will be.

mod check;
mod dead_letters;
mod engine;
mod queues;
mod redis;
mod timeouts;
mod topics;

use std::{collections::BTreeSet, time::Duration};

use agentbus::{Client, Config, config::BusUrl};
use clap::Args;

use self::check::{Check, Verdict};
use crate::{
    exit::Exit,
    management::{Management, Queue},
    session::Session,
    time,
};

const NOTES: &str = "\
Every check says `ok`, `warning`, or `cannot be checked` and why. Much of it needs RabbitMQ's management
API: set `AGENTBUS_MANAGEMENT_URL`, as in `http://user:password@host:15672`. With it, the agents are
found by themselves; without, name them by `--agent`. Arguments of queues are compared with those that
an agent with the configuration of this command would declare. A Redis tells itself (`INFO`, `CONFIG GET`)
whether it keeps what it was given.

No message is sent, and no queue of an agent is made or changed.";

/// Looks for what is wrong with a bus, or soon will be.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct Doctor {
    /// An agent to look after; may be given several times.
    #[arg(long = "agent", value_name = "NAME")]
    agents: Vec<String>,
    /// How long to wait between two looks at the dead letters.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time::timeout)]
    interval: Duration,
    /// The broker's `consumer_timeout`, which it does not tell itself; 30 minutes unless it was set.
    #[arg(long, value_name = "TIME", value_parser = time::timeout)]
    consumer_timeout: Option<Duration>,
    /// Ends with 1 where there is a warning.
    #[arg(long)]
    strict: bool,
}

/// What the checks work with.
struct Patient {
    client: Client,
    config: Config,
    management: Option<Management>,
    /// The queues of agents, without their dead letters.
    agents: BTreeSet<String>,
}

/// Examines.
pub(crate) async fn run(args: Doctor, session: &Session) -> anyhow::Result<Exit> {
    let contract = session.contract().await?;
    let config = session.config()?;
    let client = session.client().await?;
    let management = Management::of(&config);
    let mut checks = Vec::new();
    let known = match &management {
        Some(management) => match session.stop.or(management.queues()).await? {
            Ok(known) => known,
            Err(error) => {
                checks.push(Check::new("management", Verdict::warning(format!("{error:#}"))));
                Vec::new()
            }
        },
        None => Vec::new(),
    };
    let prefix = &config.queue_prefix;
    let named = args.agents.iter().map(|agent| format!("{prefix}{agent}"));
    let agents = named.chain(found(&known, &config)).collect();
    let patient = Patient { client, config, management, agents };
    let examined = async {
        checks.extend(match &patient.config.bus {
            BusUrl::Redis(url) => redis::checks(&patient.config, url).await,
            _ => engine::checks(&patient).await,
        });
        checks.extend(queues::checks(&patient).await);
        checks.extend(topics::checks(&patient, &contract).await);
        // On Redis, a message is lent for as long as its handler runs.
        if !matches!(patient.config.bus, BusUrl::Redis(_)) {
            checks.push(timeouts::check(&patient.config, args.consumer_timeout));
        }
        checks.extend(dead_letters::checks(&patient, args.interval).await);
    };
    session.stop.or(examined).await?;
    patient.client.close().await;
    let output = session.output();
    for check in &checks {
        output.result(check, || check.to_string())?;
    }
    let warned = checks.iter().any(Check::is_warning);
    Ok(if args.strict && warned { Exit::Failed } else { Exit::Ok })
}

/// Finds the queues of agents: those with dead letters of their own.
fn found(known: &[Queue], config: &Config) -> Vec<String> {
    let names: BTreeSet<&str> = known.iter().map(|queue| queue.name.as_str()).collect();
    let ours = names.iter().filter(|name| name.starts_with(&config.queue_prefix));
    let agents = ours.filter(|name| names.contains(format!("{name}.dlq").as_str()));
    agents.map(|name| (*name).to_owned()).collect()
}
