//! `agentbus publish`: sends one message, or one a line.

use agentbus::{Client, Envelope, Id, PublishError};
use anyhow::Context as _;
use clap::Args;
use futures::{StreamExt as _, stream::FuturesOrdered};
use serde::Serialize;
use tokio::{sync::mpsc, task::unconstrained};

use crate::{
    contract::Contract,
    draft::{Draft, DraftArgs},
    exit::{Exit, Interrupted},
    input::{Input, Line},
    output::Output,
    progress::Progress,
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  agentbus publish price.moved --proto market.proto --data '{\"asset\": \"ZEC\"}'
  agentbus publish price.moved --type market.v1.PriceMoved --descriptor-set market.bin < price.json
  agentbus publish price.moved --proto market.proto --lines --file prices.jsonl
  agentbus publish report.due --proto market.proto --data '{}' --at 2030-01-31T08:00:00Z
  agentbus publish price.moved --raw --type market.v1.PriceMoved --file body.bin

Prints the message id once a queue has taken the message. Ends with 3 where no queue is bound to the
topic: the message is nowhere.";

/// Publishes a message, read as `ProtoJSON`, and waits until the bus has taken it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Publish {
    #[command(flatten)]
    draft: DraftArgs,
    #[command(flatten)]
    input: Input,
    /// Message id, by which receivers can tell a message that is sent again.
    #[arg(long, value_name = "ID", conflicts_with = "lines")]
    message_id: Option<String>,
    /// Reads a message from each line, and sends many at a time. Stops at the first that is wrong or
    /// not taken, and says which line that is.
    #[arg(long, conflicts_with = "raw")]
    lines: bool,
}

/// A message that was taken.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Published<'a> {
    topic: &'a str,
    message_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
}

/// Publishes.
pub(crate) async fn run(args: Publish, session: &Session) -> anyhow::Result<Exit> {
    let contract = session.contract().await?;
    let draft = Draft::new(&args.draft, &contract)?;
    if args.lines {
        return publish_lines(&args.input, &draft, &contract, session).await;
    }
    let input = session.stop.or(args.input.read()).await??;
    let mut envelope = draft.envelope(input, &contract)?;
    envelope.metadata.message_id = args.message_id.map(Id::from);
    let client = session.client().await?;
    let id = session.stop.or(publish(&client, &draft, envelope)).await??;
    print(&session.output(), &draft, &id, None)?;
    client.close().await;
    Ok(Exit::Ok)
}

async fn publish(client: &Client, draft: &Draft, envelope: Envelope) -> Result<Id, PublishError> {
    client.publish_envelope_with(envelope, draft.options()).await
}

async fn publish_lines(
    input: &Input,
    draft: &Draft,
    contract: &Contract,
    session: &Session,
) -> anyhow::Result<Exit> {
    let mut lines = input.lines()?;
    let client = session.client().await?;
    let output = session.output();
    let progress = Progress::new("published", None);
    let window = usize::from(client.config().confirm_window);
    let mut sending = FuturesOrdered::new();
    let (mut published, mut failed, mut open) = (0_u64, None, true);
    // What is on its way is waited for in any case, so that the count is true.
    while open || !sending.is_empty() {
        tokio::select! {
                    Some((line, sent)) = sending.next() => match sent {
                        Ok(id) => {
                            published += 1;
                            progress.advance();
                            if output.is_json() {
                                print(&output, draft, &id, Some(line))?;
                            }
                        }
                        Err(error) => {
                            open = false;
                            failed.get_or_insert(anyhow::Error::from(error).context(at(line)));
                        }
                    },
                    next = next(&mut lines, draft, contract), if open && sending.len() < window => match next {
                        Ok(Some((line, envelope))) => {
                            let client = &client;
                            sending.push_back(async move {
        // Outside tokio's budget, which would make one publish give way to the next and
        // so change their order.
        (line, unconstrained(publish(client, draft, envelope)).await) });
                        }
                        Ok(None) => open = false,
                        Err(error) => {
                            open = false;
                            failed.get_or_insert(error);
                        }
                    },
                    () = session.stop.requested(), if open => {
                        open = false;
                        failed.get_or_insert(Interrupted.into());
                    }
                }
    }
    drop(progress);
    client.close().await;
    match failed {
        None => {
            if !output.is_json() {
                output.text(format_args!("published {published}"))?;
            }
            Ok(Exit::Ok)
        }
        Some(error) => Err(error.context(format!("stopped after {published} published"))),
    }
}

async fn next(
    lines: &mut mpsc::Receiver<Line>,
    draft: &Draft,
    contract: &Contract,
) -> anyhow::Result<Option<(u64, Envelope)>> {
    let Some((number, line)) = lines.recv().await.transpose()? else { return Ok(None) };
    let envelope = draft.envelope(line, contract).with_context(|| at(number))?;
    Ok(Some((number, envelope)))
}

fn at(line: u64) -> String {
    format!("line {line}")
}

fn print(output: &Output, draft: &Draft, id: &Id, line: Option<u64>) -> anyhow::Result<()> {
    let message_id = id.to_string();
    let result = Published { topic: &draft.topic, message_id, line };
    output.result(&result, || result.message_id.clone())
}
