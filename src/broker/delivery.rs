//! Deliveries: envelopes handed out by a queue, to be settled.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::Stream;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::message::Envelope;

/// An envelope received from a queue, unsettled.
///
/// Settling takes the delivery, so that it happens once:
///
/// ```compile_fail,E0382
/// # fn settle(delivery: agentbus::broker::Delivery) {
/// delivery.ack();
/// delivery.release();
/// # }
/// ```
///
/// One that is dropped unsettled is released.
#[must_use = "an unsettled delivery is delivered again"]
pub struct Delivery {
    /// Shared with a queue that keeps it to hand it out again.
    envelope: Arc<Envelope>,
    redelivered: bool,
    /// How often it has come back, where that is known.
    returns: Option<u32>,
    /// Taken by settling.
    settle: Option<(Arc<dyn Settle>, u64)>,
}

/// How a delivery ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The queue forgets the envelope.
    Ack,
    /// The queue hands the envelope out again, marked as redelivered.
    Release,
}

/// Tells a queue how its deliveries ended; for backends.
///
/// Settling neither waits nor fails: where the connection is gone, the queue has already taken
/// the envelope back and will hand it out again.
pub trait Settle: fmt::Debug + Send + Sync {
    /// Settles the delivery that the backend knows by `tag`.
    fn settle(&self, tag: u64, verdict: Verdict);
}

impl Delivery {
    /// Assembles a delivery; for backends.
    pub fn new(
        envelope: impl Into<Arc<Envelope>>,
        redelivered: bool,
        settle: Arc<dyn Settle>,
        tag: u64,
    ) -> Self {
        let returns = (!redelivered).then_some(0);
        Self { envelope: envelope.into(), redelivered, returns, settle: Some((settle, tag)) }
    }

    /// Says how often the envelope has come back; for backends that know.
    pub fn with_returns(mut self, returns: u32) -> Self {
        self.returns = Some(returns);
        self
    }

    /// Lets something else settle the delivery, which gets what would have.
    #[cfg(feature = "rabbitmq")]
    pub(crate) fn settled_by(
        mut self,
        by: impl FnOnce(Arc<dyn Settle>) -> Arc<dyn Settle>,
    ) -> Self {
        self.settle = self.settle.take().map(|(settle, tag)| (by(settle), tag));
        self
    }

    /// Returns what was delivered.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Returns what was delivered, to be changed in place.
    pub fn envelope_mut(&mut self) -> &mut Envelope {
        Arc::make_mut(&mut self.envelope)
    }

    /// Tells whether the envelope may have been handed out before. `false` is certain.
    #[must_use]
    pub fn is_redelivered(&self) -> bool {
        self.redelivered
    }

    /// Tells how often the envelope was handed out before and came back: released, or held by
    /// somebody who vanished. `None` where the engine does not tell.
    ///
    /// A queue gives up on a message that has come back too often ([`QueueRole::Work`]: more than
    /// 100 times), and looking at it by releasing it again counts.
    ///
    /// [`QueueRole::Work`]: super::QueueRole::Work
    #[must_use]
    pub fn returns(&self) -> Option<u32> {
        self.returns
    }

    /// Removes the envelope from the queue.
    ///
    /// Returns at once; the engine learns of it soon after. If the connection is lost before, the
    /// envelope is delivered again.
    pub fn ack(mut self) {
        self.end(Verdict::Ack);
    }

    /// Gives the envelope back, to be handed out again at once.
    pub fn release(mut self) {
        self.end(Verdict::Release);
    }

    /// Takes the envelope out, so that the delivery can be held without it.
    pub(crate) fn into_parts(mut self) -> (Arc<Envelope>, Held) {
        let held = Held { settle: self.settle.take(), redelivered: self.redelivered };
        (Arc::clone(&self.envelope), held)
    }

    fn end(&mut self, verdict: Verdict) {
        if let Some((settle, tag)) = self.settle.take() {
            settle.settle(tag, verdict);
        }
    }
}

/// A delivery without its envelope. One that is dropped is released.
pub(crate) struct Held {
    /// Taken by settling.
    settle: Option<(Arc<dyn Settle>, u64)>,
    redelivered: bool,
}

impl Held {
    /// Tells whether the envelope may have been handed out before.
    pub(crate) fn is_redelivered(&self) -> bool {
        self.redelivered
    }

    /// Removes the envelope from the queue; see [`Delivery::ack`].
    pub(crate) fn ack(mut self) {
        if let Some((settle, tag)) = self.settle.take() {
            settle.settle(tag, Verdict::Ack);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((settle, tag)) = self.settle.take() {
            settle.settle(tag, Verdict::Release);
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.end(Verdict::Release);
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("envelope", &self.envelope)
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}

/// The deliveries of one consumer, in the order the queue hands them out.
///
/// The stream ends once it was cancelled or the bus was closed. Dropping it cancels the consumer
/// and releases what was not yet taken from it.
#[derive(Debug)]
pub struct Deliveries {
    receiver: mpsc::Receiver<Delivery>,
    cancel: CancellationToken,
    _guard: DropGuard,
}

impl Deliveries {
    /// Assembles the stream; for backends, which stop delivering and drop the sender when
    /// `cancel` is cancelled.
    #[must_use]
    pub fn new(receiver: mpsc::Receiver<Delivery>, cancel: CancellationToken) -> Self {
        Self { receiver, _guard: cancel.clone().drop_guard(), cancel }
    }

    /// Waits for the next delivery; `None` once the consumer has ended.
    ///
    /// # Cancel safety
    ///
    /// A dropped future takes no delivery with it.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.receiver.recv().await
    }

    /// Returns what cancels the consumer.
    #[cfg(feature = "testing")]
    pub(crate) fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Asks the engine to deliver no more. What was sent before still comes, then the end.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Stream for Deliveries {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.receiver.poll_recv(cx)
    }
}
