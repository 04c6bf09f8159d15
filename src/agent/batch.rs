//! Collects messages into batches and handles each as a whole.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, timeout_at},
};

use super::{
    Agent, Context, HandlerError,
    endpoint::{BatchEndpoint, Item, Reply},
    error::OneOf,
    middleware::Innermost,
    worker::{Source, Worker},
};
use crate::{
    broker::Held,
    message::{Envelope, Metadata, Timestamp},
};

/// `Duration::MAX` means no limit; clocks do not go that far.
const LONGEST_WAIT: Duration = Duration::from_hours(24 * 365);

/// A message on its way into a batch.
pub(super) struct BatchItem {
    delivery: Held,
    envelope: Arc<Envelope>,
    source: Source,
    item: Item,
}

impl<A: Agent> Worker<A> {
    /// Decodes a message and puts it into the batch of its route.
    pub(super) async fn collect(
        &self,
        route: usize,
        endpoint: &Arc<dyn BatchEndpoint<A>>,
        delivery: Held,
        envelope: Arc<Envelope>,
        source: Source,
    ) {
        match endpoint.decode(&envelope) {
            Ok(item) => {
                if let Some(batch) = &self.batches[route] {
                    // When the batch was closed, the delivery is dropped with it and given back.
                    let _ = batch.send(BatchItem { delivery, envelope, source, item }).await;
                }
            }
            Err(error) => {
                let error = HandlerError::reject(error);
                let envelope = Arc::unwrap_or_clone(envelope);
                self.fail(&source, delivery, envelope, error, None).await;
            }
        }
    }

    /// Fills batches and handles them one after the other, until told to stop.
    pub(super) async fn run_batches(
        self: Arc<Self>,
        route: usize,
        endpoint: Arc<dyn BatchEndpoint<A>>,
        mut items: mpsc::Receiver<BatchItem>,
        max: usize,
        within: Duration,
    ) {
        let stop = self.lifecycle.stop.clone();
        while let Some(Some(first)) = stop.run_until_cancelled(items.recv()).await {
            let until = Instant::now() + within.min(LONGEST_WAIT);
            let mut batch = vec![first];
            while batch.len() < max {
                let next = stop.run_until_cancelled(timeout_at(until, items.recv())).await;
                let Some(Ok(Some(item))) = next else { break };
                batch.push(item);
            }
            let abandon = &self.lifecycle.abandon;
            let handling =
                AssertUnwindSafe(self.handle_batch(route, &*endpoint, batch)).catch_unwind();
            match abandon.run_until_cancelled(handling).await {
                None => break,
                Some(Ok(())) => {}
                Some(Err(_)) => {
                    tracing::error!(agent = %self.name, "gave a batch back: settling it panicked");
                }
            }
        }
        // What was collected and not begun goes back with the channel.
    }

    async fn handle_batch(
        &self,
        route: usize,
        endpoint: &dyn BatchEndpoint<A>,
        batch: Vec<BatchItem>,
    ) {
        let route = self.routes.routes.get(route);
        let mut settle = Vec::with_capacity(batch.len());
        let mut items = Vec::with_capacity(batch.len());
        let mut metadata = Vec::with_capacity(batch.len());
        let mut redelivered = false;
        let mut late = Vec::new();
        for BatchItem { delivery, envelope, source, item } in batch {
            let Metadata { expires_at, deadline, .. } = envelope.metadata;
            if expires_at.is_some_and(Timestamp::has_passed) {
                late.push((delivery, envelope, source));
                continue;
            }
            if deadline.is_some_and(Timestamp::has_passed) {
                self.past_deadline(delivery, &envelope);
                continue;
            }
            redelivered |= delivery.is_redelivered();
            metadata.push(envelope.metadata.clone());
            items.push(item);
            settle.push((delivery, envelope, source));
        }
        if !late.is_empty() {
            let expire = |(delivery, envelope, source): (_, Arc<Envelope>, Source)| async move {
                self.expired(&source, delivery, Arc::unwrap_or_clone(envelope)).await;
            };
            Box::pin(join_all(late.into_iter().map(expire))).await;
        }
        if settle.is_empty() {
            return;
        }
        // The first message stands for the batch; its deadline does not bound the others.
        let first = settle.first().map(|(_, first, _)| Envelope::clone(first));
        let mut first = first.unwrap_or_default();
        first.metadata.deadline = None;
        let mut ctx = self.context(first, redelivered);
        ctx.batch = metadata;
        let call = BatchCall { agent: &self.agent, endpoint, items: Mutex::new(items) };
        match self.run(&ctx, &call).await {
            Ok(_) => {
                for (delivery, envelope, source) in settle {
                    self.succeed(&source, delivery, envelope, None, route).await;
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                // All at once: one by one, each would wait for what became of those before.
                let fail = |(delivery, envelope, source): (_, Arc<Envelope>, Source)| {
                    let (error, envelope) = (error.for_one(), Arc::unwrap_or_clone(envelope));
                    async move { self.fail(&source, delivery, envelope, error, route).await }
                };
                Box::pin(join_all(settle.into_iter().map(fail))).await;
            }
        }
    }
}

/// A batch route's handler, with what it is called with.
struct BatchCall<'a, A> {
    agent: &'a A,
    endpoint: &'a dyn BatchEndpoint<A>,
    /// Taken by the call.
    items: Mutex<Vec<Item>>,
}

impl<A: Agent> Innermost for BatchCall<'_, A> {
    fn call<'a>(&'a self, ctx: &'a Context) -> BoxFuture<'a, Result<Reply, HandlerError>> {
        Box::pin(async move {
            let items = std::mem::take(&mut *self.items.lock().await);
            self.endpoint.call(self.agent, items, ctx).await?;
            Ok(Reply::default())
        })
    }
}

impl HandlerError {
    /// Repeats the error of a batch for one of its messages.
    fn for_one(self: &Arc<Self>) -> Self {
        match &**self {
            Self::Snooze(delay) => Self::Snooze(*delay),
            Self::Reply(reply) => Self::Reply(reply.clone()),
            Self::RetryAfter(delay, _) => Self::RetryAfter(*delay, OneOf(self.clone()).into()),
            Self::Retry(_) => Self::Retry(OneOf(self.clone()).into()),
            Self::Reject(_) => Self::Reject(OneOf(self.clone()).into()),
        }
    }
}
