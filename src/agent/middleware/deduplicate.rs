//! Handling each message once.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::FutureExt;

use super::{
    Middleware, Next, Reply,
    hold::{self, Hold},
};
use crate::{
    agent::{Context, HandlerError, route::Audience},
    contract::{Name, full_name},
    message::{Envelope, ErrorReply, Id},
    proto::v1 as proto,
    store::{Begun, Deduplication, MemoryDeduplication, MessageKey, Outcome, StoreError},
};

/// How long to wait before a store that is down is asked again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// How often a store that is down is asked to take what a handler ended with.
const SETTLE_ATTEMPTS: u32 = 60;

/// Handles each message once: one that comes again ends as it did the first time, without a call of
/// the handler.
///
/// Messages come again when a connection was lost before they could be acked, and when a sender did
/// not learn that its publish was taken and published once more, with the same message id. They are
/// the same if agent, sender, topic and message id are; for [`on_each`](crate::Routes::on_each)
/// routes each replica counts for itself. What has no message id is handled every time, as are
/// batches ([`on_batch`](crate::Routes::on_batch)), whose handler sees in
/// [`Context::batch`](crate::Context::batch) what it gets; and answers to
/// [`request_later`](crate::Context::request_later) are handled once anyway.
///
/// ```
/// use agentbus::{Client, Runtime, agent::middleware::Deduplicate, broker::memory::Memory};
///
/// let runtime = Runtime::new(Client::new(Memory::default())).layer(Deduplicate::new());
/// ```
///
/// A message is marked once its handler has succeeded, or has answered with an
/// [`ErrorReply`], and before the reply is sent: where that fails, the message comes again and its
/// stored reply is sent. A request that is repeated gets the stored reply at the repeat's own
/// address. A handler that fails, panics or is dropped leaves no mark, so that retries run.
///
/// Of two that are the same and come at once, the second waits for the first: it is not handled
/// beside it, it does not fail, and it ends with the first's reply, or is handled if the first
/// failed. While the store is down, messages wait likewise: whether they were handled is not
/// guessed. What waits keeps its place in the prefetch, for 5 minutes unless
/// [`patience`](Self::patience) says otherwise; then it comes back later, without counting an
/// attempt. A deadline ends the wait, and a requester is told `UNAVAILABLE`.
///
/// It remembers 100 000 messages, each for an hour after it was seen last, with 64 MiB of replies;
/// what was not seen for longest goes first, and what is forgotten is handled again when it comes
/// again. By default it does so in this process: two processes, or one before and after a restart,
/// do not know of each other. It is not exactly once: a process that dies after its handler and
/// before the mark repeats the message.
#[derive(Clone, Debug)]
pub struct Deduplicate {
    store: Arc<dyn Deduplication>,
    patience: Duration,
}

impl Deduplicate {
    /// Remembers 100 000 messages in this process, for an hour.
    #[must_use]
    pub fn new() -> Self {
        Self::in_store(Arc::new(MemoryDeduplication::default()))
    }

    /// Remembers `messages` in this process, for `age` after they were seen last.
    #[must_use]
    pub fn within(messages: usize, age: Duration) -> Self {
        Self::in_store(Arc::new(MemoryDeduplication::new(messages, age)))
    }

    /// Remembers messages in a store.
    #[must_use]
    pub fn in_store(store: Arc<dyn Deduplication>) -> Self {
        Self { store, patience: hold::LONGEST }
    }

    /// Sets for how long a message is held while another that is the same is being handled, or the
    /// store is down.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Claims a message, or finds what it ended with before.
    async fn claim(&self, context: &Context, key: MessageKey) -> Result<Begin, HandlerError> {
        // Made before it is asked for, so that it is let go of wherever this future is dropped.
        let claim = Claim::new(&self.store, &key);
        let mut hold = None;
        loop {
            let asking = self.store.begin(&key, &claim.id);
            let begun = match &hold {
                None => asking.await,
                Some(hold) => Hold::until(hold, asking).await?,
            };
            match begun {
                Ok(Begun::New) => return Ok(Begin::Claimed(claim)),
                Ok(Begun::Done(outcome)) => return Ok(Begin::Ended(outcome)),
                Ok(Begun::InProgress) => {
                    let hold = hold.get_or_insert_with(|| {
                        Hold::begin(context, "another that is the same", self.patience)
                    });
                    hold.until(self.store.changed(&key)).await?;
                }
                Err(error) => {
                    tracing::error!(agent = %context.agent(), %error, "cannot look up whether a message was handled");
                    let hold = hold.get_or_insert_with(|| {
                        Hold::begin(context, "a store that is down", self.patience)
                    });
                    hold.sleep(STORE_RETRY).await?;
                }
            }
        }
    }
}

impl Default for Deduplicate {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Middleware for Deduplicate {
    async fn handle(&self, context: &Context, next: Next<'_>) -> Result<Reply, HandlerError> {
        let Some(key) = key(context) else { return next.run(context).await };
        let claim = match self.claim(context, key).await? {
            Begin::Claimed(claim) => claim,
            Begin::Ended(outcome) => {
                context.duty.counters.duplicates.add_one();
                tracing::debug!(agent = %context.agent(), id = ?context.message_id(), "a message came again");
                return replay(outcome);
            }
        };
        let result = next.run(context).await;
        match &result {
            Ok(reply) => {
                let Reply { message_type, payload } = reply.clone();
                claim.done(Outcome { message_type, payload }).await;
            }
            // On a route that does not reply it becomes a dead letter, and may be replayed.
            Err(HandlerError::Reply(error)) if context.replies => {
                let Envelope { metadata, payload, .. } = error.clone().into_envelope();
                let message_type = metadata.message_type.unwrap_or(Name::from_static(""));
                claim.done(Outcome { message_type, payload }).await;
            }
            Err(_) => claim.forget().await,
        }
        result
    }
}

/// Returns what tells a message from others; `None` where nothing does.
fn key(context: &Context) -> Option<MessageKey> {
    if !context.batch().is_empty() {
        return None;
    }
    let replica = context.audience == Audience::Each;
    Some(MessageKey {
        agent: context.agent().clone(),
        replica: replica.then(|| context.duty.instance.clone()),
        sender: context.sender().cloned(),
        topic: context.topic()?.clone(),
        id: context.message_id()?.clone(),
    })
}

/// Ends as a message did that was handled before.
fn replay(outcome: Outcome) -> Result<Reply, HandlerError> {
    let Outcome { message_type, payload } = outcome;
    if message_type == full_name::<proto::ErrorReply>() {
        let mut envelope = Envelope { payload, ..Envelope::default() };
        envelope.metadata.message_type = Some(message_type);
        if let Some(error) = ErrorReply::from_envelope(&envelope) {
            return Err(HandlerError::Reply(error));
        }
        return Ok(Reply::default());
    }
    Ok(Reply::new(message_type, payload))
}

enum Begin {
    Claimed(Claim),
    Ended(Outcome),
}

/// A claim to a message, let go of when it is dropped.
struct Claim {
    store: Arc<dyn Deduplication>,
    key: MessageKey,
    id: Id,
    /// What the handler ended with, once it has.
    outcome: Option<Outcome>,
    settled: bool,
}

impl Claim {
    fn new(store: &Arc<dyn Deduplication>, key: &MessageKey) -> Self {
        let (store, key) = (Arc::clone(store), key.clone());
        Self { store, key, id: Id::new(), outcome: None, settled: false }
    }

    /// Marks the message as handled.
    async fn done(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        self.settle().await;
    }

    async fn forget(mut self) {
        self.settle().await;
    }

    /// Tells the store. Where that is down it is told in the background: the outcome is not held
    /// up, and at worst a repeat waits until the store knows.
    async fn settle(&mut self) {
        self.settled = tell(&*self.store, &self.key, &self.id, self.outcome.as_ref()).await.is_ok();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        // A store in this process needs no waiting.
        let telling = tell(&*self.store, &self.key, &self.id, self.outcome.as_ref());
        if let Some(Ok(())) = telling.now_or_never() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (store, key, id) = (Arc::clone(&self.store), self.key.clone(), self.id.clone());
        let outcome = self.outcome.take();
        runtime.spawn(async move {
            for _ in 0..SETTLE_ATTEMPTS {
                match tell(&*store, &key, &id, outcome.as_ref()).await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::error!(id = %key.id, %error, "cannot note how a message ended");
                    }
                }
                tokio::time::sleep(STORE_RETRY).await;
            }
        });
    }
}

/// Notes how a message ended: with an outcome, or as if it had never come.
async fn tell(
    store: &dyn Deduplication,
    key: &MessageKey,
    claim: &Id,
    outcome: Option<&Outcome>,
) -> Result<(), StoreError> {
    match outcome {
        Some(outcome) => store.done(key, claim, outcome.clone()).await,
        None => store.forget(key, claim).await,
    }
}
