//! A tracing span around every handler.

use async_trait::async_trait;
use tracing::{Instrument, field::Empty};

use super::{Middleware, Next, Reply};
use crate::agent::{Context, HandlerError};

/// Runs each handler in a span `process` that names topic, message, conversation and attempt, and
/// logs how it ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trace;

#[async_trait]
impl Middleware for Trace {
    async fn handle(&self, context: &Context, next: Next<'_>) -> Result<Reply, HandlerError> {
        let span = tracing::info_span!(
            "process",
            topic = context.topic().map(tracing::field::display),
            message_id = context.message_id().map(tracing::field::display),
            conversation_id = context.conversation_id().map(tracing::field::display),
            sender = context.sender().map(tracing::field::display),
            attempt = context.attempt(),
            error = Empty,
        );
        async {
            let start = tokio::time::Instant::now();
            let result = next.run(context).await;
            let elapsed = start.elapsed();
            match &result {
                Ok(_) => tracing::debug!(?elapsed, "handled"),
                Err(error) => {
                    tracing::Span::current().record("error", tracing::field::display(error));
                    tracing::warn!(?elapsed, %error, "handler failed");
                }
            }
            result
        }
        .instrument(span)
        .await
    }
}
