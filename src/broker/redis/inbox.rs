//! Addresses that replies come back to: private queues of this process.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::{bus::Bus, reader::Reader};
use crate::{
    broker::{
        Destination, Inbox, PublishError, QueueError, QueueRole, QueueSpec, ReplySink,
        TopologyError,
    },
    contract::Name,
    message::Envelope,
};

/// How many replies may wait; a requester allows itself no more requests by default.
const MAX_LENGTH: u64 = 100_000;

/// How long it outlives its process.
const EXPIRES: Duration = Duration::from_mins(1);

/// How many replies are on their way at once.
const PREFETCH: u16 = 256;

/// An open inbox.
#[derive(Debug)]
pub(super) struct RedisInbox {
    bus: Weak<Bus>,
    address: Name,
    losses: watch::Receiver<u64>,
    _guard: DropGuard,
}

impl RedisInbox {
    pub(super) async fn open(bus: &Arc<Bus>, sink: ReplySink) -> Result<Self, QueueError> {
        let address = Name::from(format!("inbox.{}", Uuid::now_v7()));
        let role = QueueRole::Private { max_length: MAX_LENGTH, expires: EXPIRES };
        let spec = QueueSpec::new(address.clone(), role);
        let losses = watch::Sender::new(0);
        let seen = losses.subscribe();
        bus.inboxes().insert(address.clone(), losses);
        let closed = CancellationToken::new();
        let guard = closed.clone().drop_guard();
        let inbox = Self {
            bus: Arc::downgrade(bus),
            address: address.clone(),
            losses: seen,
            _guard: guard,
        };
        bus.make(&spec).await.map_err(|error| match error {
            TopologyError::Closed { .. } => QueueError::Closed,
            error => QueueError::Unavailable { reason: error.to_string(), source: None },
        })?;
        let mut replies = Reader::consume(bus, &address, PREFETCH).await?;
        tokio::spawn(async move {
            loop {
                let reply = tokio::select! {
                    biased;
                    () = closed.cancelled() => return,
                    reply = replies.next() => reply,
                };
                let Some(reply) = reply else { return };
                sink(reply.envelope().clone());
                reply.ack();
            }
        });
        Ok(inbox)
    }
}

#[async_trait]
impl Inbox for RedisInbox {
    async fn publish(
        &self,
        to: Destination<'_>,
        mut envelope: Envelope,
    ) -> Result<(), PublishError> {
        envelope.metadata.reply_to = Some(self.address.clone());
        match self.bus.upgrade() {
            Some(bus) => bus.publish(to, envelope).await,
            None => Err(PublishError::Closed { to: to.to_string(), envelope: envelope.into() }),
        }
    }

    fn losses(&self) -> watch::Receiver<u64> {
        self.losses.clone()
    }
}

impl Drop for RedisInbox {
    fn drop(&mut self) {
        let Some(bus) = self.bus.upgrade() else { return };
        bus.inboxes().remove(&self.address);
        bus.declared().remove(&self.address);
        let address = self.address.clone();
        // Where there is no runtime any more, its time runs out.
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && !bus.is_closed()
        {
            runtime.spawn(async move { drop(bus.delete(&address).await) });
        }
    }
}
