//! A publish that has begun.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;

use super::PublishError;

/// A publish that has begun, and may have ended as well; made by
/// [`Broker::begin_publish`](super::Broker::begin_publish).
#[must_use = "a publish goes on only as long as it is awaited"]
pub struct Publishing<'a>(Stage<'a>);

enum Stage<'a> {
    /// None once it was told.
    Ended(Option<Result<(), PublishError>>),
    Waits(BoxFuture<'a, Result<(), PublishError>>),
}

impl<'a> Publishing<'a> {
    /// Makes one that has ended; for backends.
    pub fn ended(result: Result<(), PublishError>) -> Self {
        Self(Stage::Ended(Some(result)))
    }

    /// Makes one that goes on; for backends.
    pub fn waits(rest: impl Future<Output = Result<(), PublishError>> + Send + 'a) -> Self {
        Self(Stage::Waits(Box::pin(rest)))
    }
}

impl Future for Publishing<'_> {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Stage::Ended(result) => {
                Poll::Ready(result.take().expect("a future is not polled after its end"))
            }
            Stage::Waits(rest) => rest.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Publishing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = matches!(self.0, Stage::Ended(_));
        f.debug_struct("Publishing").field("ended", &ended).finish()
    }
}
