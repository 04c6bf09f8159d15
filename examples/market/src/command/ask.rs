//! `market ask`.

use std::{
    env,
    process::ExitCode,
    time::{Duration, Instant},
};

use agentbus::{Client, RequestError, RequestOptions, Schema, broker::QueueError, config::BusUrl};
use anyhow::{Context as _, anyhow, bail};
use prost::{Message as _, Name as _};
use tokio::time::sleep;

use super::{print, start};
use crate::{
    answer,
    cli::{AgentName, Ask},
    proto::{self, answer::Outcome, query_agent},
    report,
};

/// The columns of a terminal that does not tell.
const WIDTH: usize = 80;

/// The exit code of a question back; 2 is clap's, for a wrong command line.
const ASKED_BACK: u8 = 3;

/// How long an agent that has stopped is waited for, since it may be restarting or reconnecting.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked for meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Asks a question, shows the answer, and tells by the exit code how it ended.
///
/// # Errors
///
/// Fails where the bus, the agents or the answer cannot be had.
pub async fn run(ask: Ask) -> anyhow::Result<ExitCode> {
    let config = ask.bus.config()?;
    let brings_agents = ask.all || matches!(config.bus, BusUrl::Memory { .. });
    if !brings_agents && !ask.prices.sources.is_empty() {
        bail!(
            "`--prices` is for the agent that reads them: run `market serve data --prices …`, or \
             bring the agents along with `--all`"
        );
    }
    let client = Client::connect(config).await?;
    let agents = if brings_agents {
        Some(start(AgentName::All, client.clone(), ask.prices.sources.clone()).await?)
    } else {
        all_are_there(&client).await?;
        None
    };
    let answer = request(&client, &ask).await;
    match agents {
        Some(agents) if answer.is_ok() => agents.stop().await,
        // Whatever they are still at, nobody waits for it.
        agents => drop(agents),
    }
    client.close().await;

    let answer = answer?;
    let code = match answer.outcome {
        Some(Outcome::Clarification(_)) => ExitCode::from(ASKED_BACK),
        Some(Outcome::Results(_)) => ExitCode::SUCCESS,
        Some(Outcome::Failure(_)) | None => ExitCode::FAILURE,
    };
    print(shown(answer, ask.json)?.as_bytes())?;
    Ok(code)
}

/// Asks the question, for as long as the command line says.
async fn request(client: &Client, ask: &Ask) -> anyhow::Result<proto::Answer> {
    let question = proto::Question { text: ask.question() };
    let options = RequestOptions::default().timeout(ask.timeout);
    match client.request_with(query_agent::ASK, &question, options).await {
        Err(RequestError::NobodyListens { .. }) => Err(nobody_answers(client, &["query"])),
        Err(error @ RequestError::TimedOut { .. }) => {
            Err(anyhow!("{error}; large files take a while: wait longer with `--timeout 2m`"))
        }
        answer => Ok(answer?),
    }
}

/// Checks that every agent is at work, because the queue of one that has stopped keeps the question
/// until it is back, and nobody wants to wait long for that.
async fn all_are_there(client: &Client) -> anyhow::Result<()> {
    let patience = Instant::now() + PATIENCE;
    loop {
        let (mut absent, mut never_there) = (Vec::new(), false);
        for agent in ["query", "data", "analysis"] {
            let queue = format!("{}{agent}", client.config().queue_prefix);
            match client.broker().stats(&queue).await {
                Ok(stats) if stats.consumers == 0 => absent.push(agent),
                Err(QueueError::NotFound { .. }) => {
                    absent.push(agent);
                    never_there = true;
                }
                // Where it cannot be told, asking will.
                Ok(_) | Err(_) => {}
            }
        }
        if absent.is_empty() {
            return Ok(());
        }
        if never_there || Instant::now() >= patience {
            return Err(nobody_answers(client, &absent));
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn nobody_answers(client: &Client, absent: &[&str]) -> anyhow::Error {
    let which = match absent {
        [one] => format!("agent `{one}` does"),
        several => format!("agents `{}` do", several.join("`, `")),
    };
    anyhow!(
        "nobody answers on {}: the {which} not run there; start what is missing with \
         `market serve all --bus …` or one by one, or bring the agents along with `--all`",
        client.config().bus,
    )
}

/// Shows an answer, as text or as `ProtoJSON`.
fn shown(answer: proto::Answer, as_json: bool) -> anyhow::Result<String> {
    if as_json {
        let schema = Schema::decode(proto::FILE_DESCRIPTOR_SET)?;
        let json = schema.to_json_string(&proto::Answer::full_name(), &answer.encode_to_vec())?;
        return Ok(json + "\n");
    }
    let answer = answer::Answer::try_from(answer).context("the answer cannot be read")?;
    let columns = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    Ok(report::render(&answer, columns.unwrap_or(WIDTH)))
}
