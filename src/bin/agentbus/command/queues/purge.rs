//! `agentbus queues purge`: empties a queue.

use clap::Args;
use serde_json::json;

use crate::{exit::Exit, session::Session};

/// Removes all messages of a queue that are not being handled. They are gone for good.
#[derive(Debug, Args)]
pub(crate) struct Purge {
    /// Name of the queue, as it is on the broker.
    queue: String,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
}

/// Purges.
pub(crate) async fn run(args: Purge, session: &Session) -> anyhow::Result<Exit> {
    let queue = &args.queue;
    let client = session.observer().await?;
    let ready = session.stop.or(client.broker().stats(queue)).await??.ready;
    session.confirm(format!("Remove {ready} messages of `{queue}` for good?"), args.yes).await?;
    let purged = session.stop.or(client.broker().purge(queue)).await??;
    let value = json!({ "queue": queue, "purged": purged });
    session.output().result(&value, || format!("purged {purged} messages of `{queue}`"))?;
    client.close().await;
    Ok(Exit::Ok)
}
