//! Code that runs around every handler of a runtime, one file each.
//!
//! The first layer a [`Runtime`](crate::Runtime) gets is outermost. Where several are used, this
//! order does what is expected of each:
//!
//! 1. [`Deduplicate`]: what was handled before is answered whatever the state of those within, uses
//!    up none of their allowance, and tells them nothing about what handlers need.
//! 2. [`CircuitBreaker`]: what is held while it is open has not had its turn in the throttle yet,
//!    and so does not come in one burst when it closes.
//! 3. [`Throttle`]: nearest to the handler, it counts nothing but calls, and never lets more
//!    through than it says.
//! 4. [`Trace`], and your own: their spans and times are about the handler, without the wait.
//! 5. [`Timeout`]: limits the handler, not the time it had to wait for its turn. The
//!    configuration's `handler_timeout` is always innermost.

mod circuit;
mod circuit_breaker;
mod deduplicate;
mod hold;
mod keyed;
mod throttle;
mod timeout;
mod trace;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use async_trait::async_trait;
use futures::future::BoxFuture;

pub use self::{
    circuit_breaker::CircuitBreaker, deduplicate::Deduplicate, throttle::Throttle,
    timeout::Timeout, trace::Trace,
};
use super::{Context, HandlerError};
pub use crate::agent::endpoint::Reply;

/// Wraps the handling of a message: logging, time limits, and whatever all handlers share.
///
/// ```
/// use agentbus::{Context, HandlerError, agent::{Middleware, Next, middleware::Reply}};
///
/// struct OnlyFrom(&'static str);
///
/// #[async_trait::async_trait]
/// impl Middleware for OnlyFrom {
///     async fn handle(&self, ctx: &Context, next: Next<'_>) -> Result<Reply, HandlerError> {
///         if ctx.sender().is_some_and(|sender| sender == self.0) {
///             next.run(ctx).await
///         } else {
///             Err(HandlerError::reject("an unknown sender"))
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait Middleware: Send + Sync + 'static {
    /// Handles a message by doing something before, after or instead of `next`.
    ///
    /// Whoever waits before `next` waits until the message's deadline at most: one whose handler was
    /// not called by then is dropped and counted as expired.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at the deadline, and when the agent stops and its grace period is
    /// over; the message is then given back.
    ///
    /// # Errors
    ///
    /// An error decides the message's fate as a handler's own does.
    async fn handle(&self, context: &Context, next: Next<'_>) -> Result<Reply, HandlerError>;

    /// Tells why messages are held back at present instead of being handled; `None` where they are
    /// not. [`Running::health`](crate::Running::health) shows it.
    fn paused(&self) -> Option<String> {
        None
    }
}

/// The rest of the chain, ending in the handler.
pub struct Next<'a> {
    pub(super) chain: &'a [Arc<dyn Middleware>],
    pub(super) handler: &'a dyn Innermost,
}

/// The end of the chain: a route's handler, bound to its agent.
pub(super) trait Innermost: Send + Sync {
    fn call<'a>(&'a self, ctx: &'a Context) -> BoxFuture<'a, Result<Reply, HandlerError>>;
}

impl Next<'_> {
    /// Runs the rest of the chain.
    ///
    /// # Errors
    ///
    /// Returns what the handler, or middleware nearer to it, failed with.
    pub async fn run(self, context: &Context) -> Result<Reply, HandlerError> {
        if let Some((middleware, chain)) = self.chain.split_first() {
            middleware.handle(context, Next { chain, handler: self.handler }).await
        } else {
            context.begun.store(true, Ordering::Relaxed);
            self.handler.call(context).await
        }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("remaining", &self.chain.len()).finish_non_exhaustive()
    }
}
