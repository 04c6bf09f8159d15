//! A message that is held before its handler is called.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    agent::{Context, HandlerError, counts::Held, error::Fault},
    message::Metadata,
};

/// How long a message is held by default: a fraction of the half hour after which RabbitMQ, by
/// default, takes a message for lost whose consumer has not settled it.
pub(super) const LONGEST: Duration = Duration::from_mins(5);

/// After what time a message comes back that was held for as long as it may be.
const BACK_IN: Duration = Duration::from_secs(30);

/// A message that is held before its handler is called.
///
/// Meanwhile it keeps its place in the prefetch, so that an agent whose messages are all held takes
/// no more. However it ends, no attempt is counted: it is given back as it came when the agent
/// stops, and published again, to come back later, when it was held for too long; that one is a new
/// delivery to the broker, whose patience with messages that are never settled starts anew. A
/// message whose deadline or expiry comes first is not handled: a requester is told, and it is acked
/// (or kept, where the route keeps what expires).
pub(super) struct Hold<'a> {
    context: &'a Context,
    by: &'static str,
    until: Instant,
    _counted: Held<'a>,
}

impl<'a> Hold<'a> {
    /// Begins to hold a message, for `longest` at most; `by` tells people what holds it.
    pub(super) fn begin(context: &'a Context, by: &'static str, longest: Duration) -> Self {
        let until = Instant::now() + longest.min(Duration::from_hours(24 * 365));
        Self { context, by, until, _counted: context.duty.counters.waiting.hold() }
    }

    /// Waits for `ready`, for as long as the message can be held.
    pub(super) async fn until<T>(&self, ready: impl Future<Output = T>) -> Result<T, HandlerError> {
        let deadline = async {
            match self.time_left() {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // What was not begun when the agent stops is not begun any more, ready or not.
            biased;
            () = self.context.duty.stop.cancelled() => Err(Fault::Stopping.into_error()),
            ready = ready => Ok(ready),
            () = deadline => Err(self.too_late()),
            () = tokio::time::sleep_until(self.until) => Err(self.give_up()),
        }
    }

    /// Waits for a time to pass; ends at once if the deadline comes before.
    pub(super) async fn sleep(&self, time: Duration) -> Result<(), HandlerError> {
        if self.time_left().is_some_and(|left| left <= time) {
            return Err(self.too_late());
        }
        self.until(tokio::time::sleep(time)).await
    }

    /// Returns how long the message is of use.
    fn time_left(&self) -> Option<Duration> {
        let Metadata { deadline, expires_at, .. } = self.context.metadata();
        // The first message of a batch does not speak for the others, and an answer is handled
        // however late.
        if self.context.topic().is_none() || !self.context.batch().is_empty() {
            return None;
        }
        let first = deadline.iter().chain(expires_at).min();
        first.map(|first| first.remaining())
    }

    fn give_up(&self) -> HandlerError {
        // What would come back after its deadline need not.
        if self.time_left().is_some_and(|left| left <= BACK_IN) {
            return self.too_late();
        }
        HandlerError::Snooze(BACK_IN)
    }

    fn too_late(&self) -> HandlerError {
        Fault::TooLate(self.by).into_error()
    }
}
