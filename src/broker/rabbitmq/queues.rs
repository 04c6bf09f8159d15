//! Queues: counted, emptied and deleted, each with all its lanes.

use std::future::Future;

use lapin::{
    options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions},
    types::{FieldTable, ShortString},
};

use super::{Core, errands::Errand, fault::Fault, lane_queues};
use crate::broker::{QueueError, QueueStats};

impl Core {
    /// Gets a channel that may be closed by what goes wrong on it.
    async fn errand(&self, queue: &str) -> Result<Errand<'_>, QueueError> {
        if self.is_closed() {
            return Err(QueueError::Closed);
        }
        let limit = self.options.operation_timeout;
        let begun = async {
            let session = self.consume.session_within(limit).await?;
            self.errands.begin(&session).await
        };
        begun.await.map_err(|fault| self.queue_error(queue, fault))
    }

    /// Counts what is in a queue, without creating it.
    pub(super) async fn check(&self, queue: &str) -> Result<QueueStats, QueueError> {
        let name = queue_name(queue)?;
        let errand = self.errand(queue).await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let checked = errand.channel().queue_declare(name, options, FieldTable::default());
        let checked = self.answer(queue, checked).await?;
        errand.done().await;
        Ok(QueueStats {
            ready: checked.message_count().into(),
            unsettled: None,
            consumers: checked.consumer_count(),
        })
    }

    /// Counts what is in a queue with all its lanes.
    pub(super) async fn stats(&self, queue: &str) -> Result<QueueStats, QueueError> {
        let mut all = QueueStats::default();
        for part in self.topology.queues.parts(queue) {
            let stats = self.check(&part).await?;
            all.ready += stats.ready;
            // Each of ours consumes from all lanes.
            all.consumers = all.consumers.max(stats.consumers);
        }
        Ok(all)
    }

    pub(super) async fn purge(&self, queue: &str) -> Result<u64, QueueError> {
        let mut all = 0;
        for part in self.topology.queues.parts(queue) {
            let name = queue_name(&part)?;
            let errand = self.errand(&part).await?;
            let purged = errand.channel().queue_purge(name, QueuePurgeOptions::default());
            all += u64::from(self.answer(&part, purged).await?);
            errand.done().await;
        }
        Ok(all)
    }

    pub(super) async fn delete(&self, queue: &str) -> Result<(), QueueError> {
        let parts = self.topology.queues.parts(queue);
        // First, or its consumers would declare it again.
        let forgotten = self.topology.queues.forget(queue);
        let has_lanes = parts.len() > 1;
        let deleted = async {
            for part in &parts {
                self.delete_queue(part).await?;
            }
            if has_lanes { self.delete_lane_exchanges(queue).await } else { Ok(()) }
        };
        let outcome = deleted.await;
        // It may be there still, and is kept up as before.
        if outcome.is_err()
            && let Some(spec) = forgotten
        {
            self.topology.queues.remember(&spec);
        }
        outcome
    }

    /// Deletes one queue; one that does not exist is fine.
    async fn delete_queue(&self, queue: &str) -> Result<(), QueueError> {
        let Ok(name) = queue_name(queue) else { return Ok(()) };
        let errand = self.errand(queue).await?;
        let deleted = errand.channel().queue_delete(name, QueueDeleteOptions::default());
        match self.answer(queue, deleted).await {
            Ok(_) => errand.done().await,
            Err(QueueError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn delete_lane_exchanges(&self, queue: &str) -> Result<(), QueueError> {
        let errand = self.errand(queue).await?;
        for exchange in [lane_queues::exchange(queue), lane_queues::others(queue)] {
            let options = ExchangeDeleteOptions::default();
            self.answer(queue, errand.channel().exchange_delete(exchange, options)).await?;
        }
        errand.done().await;
        Ok(())
    }

    /// Waits for the broker's answer to a question about a queue.
    async fn answer<T>(
        &self,
        queue: &str,
        answer: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, QueueError> {
        let answer = self.consume.answers().within(answer).await;
        answer.map_err(|fault| self.queue_error(queue, fault))
    }

    /// Finds out what went wrong with a queue.
    pub(super) fn queue_error(&self, queue: &str, fault: Fault) -> QueueError {
        let reason = fault.to_string();
        match fault.code() {
            _ if self.is_closed() => QueueError::Closed,
            Some(404) => QueueError::NotFound { queue: queue.to_owned() },
            Some(403 | 405) => QueueError::Denied { queue: queue.to_owned(), reason },
            _ => {
                self.consume.answers().doubt.raise();
                QueueError::Unavailable { reason, source: fault.source() }
            }
        }
    }
}

/// Goes on with what is asked of the broker also where nobody waits for the answer any more.
///
/// A channel is closed where its last user drops it. If the broker closes it over the question at
/// that same moment, lapin takes the second close for a fault of the connection, and all consumers
/// lose what they have in work.
pub(super) async fn to_the_end<T: Send + 'static>(
    question: impl Future<Output = T> + Send + 'static,
) -> T {
    match tokio::spawn(question).await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and does not poll this again.
            Err(_) => std::future::pending().await,
        },
    }
}

fn queue_name(queue: &str) -> Result<ShortString, QueueError> {
    // No queue has such a name.
    ShortString::try_new(queue)
        .ok()
        .filter(|name| !name.as_str().is_empty())
        .ok_or_else(|| QueueError::NotFound { queue: queue.to_owned() })
}
