//! `agentbus queues delete`: deletes a queue.

use clap::Args;
use serde_json::json;

use crate::{exit::Exit, output, session::Session};

/// Deletes a queue with all its messages. An agent that runs makes its own again, empty.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Name of the queue, as it is on the broker.
    queue: String,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
}

/// Deletes.
pub(crate) async fn run(args: Delete, session: &Session) -> anyhow::Result<Exit> {
    let queue = &args.queue;
    let client = session.observer().await?;
    let stats = session.stop.or(client.broker().stats(queue)).await??;
    let (ready, consumers) = (stats.ready, stats.consumers);
    if let Some(owner) = queue.strip_suffix(".dlq")
        && let Ok(work) = session.stop.or(client.broker().stats(owner)).await?
        && work.consumers > 0
    {
        output::note(format_args!(
            "`{queue}` keeps the dead letters of `{owner}`, whose consumers ({}) run: they are gone with it, and the next failure makes it again, empty",
            work.consumers
        ));
    }
    let question = format!(
        "Delete `{queue}`, which has {ready} messages ready and {consumers} consumers, for good?"
    );
    session.confirm(question, args.yes).await?;
    session.stop.or(client.broker().delete(queue)).await??;
    let value = json!({ "queue": queue, "deleted": ready });
    session.output().result(&value, || format!("deleted `{queue}` with {ready} messages"))?;
    client.close().await;
    Ok(Exit::Ok)
}
