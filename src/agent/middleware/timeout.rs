//! A limit to how long a handler may take.

use std::time::Duration;

use async_trait::async_trait;

use super::{Middleware, Next, Reply};
use crate::agent::{Context, HandlerError, error::Fault};

/// Ends a handler that takes longer than allowed; the message is retried, then dead-lettered with
/// kind `timeout`.
///
/// The handler's future is dropped where it stands. The deadline a message travels with bounds
/// its handler without this.
#[derive(Clone, Copy, Debug)]
pub struct Timeout(Duration);

impl Timeout {
    /// Allows handlers `limit`.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self(limit)
    }
}

#[async_trait]
impl Middleware for Timeout {
    async fn handle(&self, context: &Context, next: Next<'_>) -> Result<Reply, HandlerError> {
        match tokio::time::timeout(self.0, next.run(context)).await {
            Ok(result) => result,
            Err(_) => Err(Fault::Timeout(self.0).into_error()),
        }
    }
}
