//! The dead letters, read off their queue.

use std::sync::Arc;

use agentbus::{Client, Envelope};
use tokio::task::JoinHandle;

use super::{history::DeadLetter, ledger::Ledger, messages::Job};

/// Takes what is in the queue, and what comes, into the ledger, until it is aborted.
pub async fn read(client: &Client, queue: &str, ledger: Arc<Ledger>) -> JoinHandle<()> {
    let letters = client.broker().consume(queue, 100).await;
    let mut letters = letters.expect("the dead letters are there");
    tokio::spawn(async move {
        while let Some(letter) = letters.next().await {
            ledger.buried(understood(letter.envelope()));
            letter.ack();
        }
    })
}

fn understood(envelope: &Envelope) -> DeadLetter {
    let failure = envelope.metadata.failure.as_deref();
    DeadLetter {
        job: envelope.decode::<Job>().map_or(u64::MAX, |job| job.number),
        topic: envelope.topic.as_ref().map(ToString::to_string).unwrap_or_default(),
        kind: failure.map_or_else(|| "none".to_owned(), |failure| failure.kind.to_string()),
        attempts: failure.map_or(0, |failure| failure.attempts),
    }
}
