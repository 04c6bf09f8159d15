//! Inboxes: replies reach them unless the connection was cut after the request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use tokio::sync::watch;

use super::connection::Connection;
use crate::{
    broker::{Broker, Destination, Inbox, PublishError, QueueError, ReplySink},
    message::Envelope,
};

pub(super) struct TestInbox {
    connection: Weak<Connection>,
    sink: ReplySink,
    /// None once the connection was cut, until the next request: nobody finds the old address.
    inner: Mutex<Option<Arc<dyn Inbox>>>,
    /// How often the connection was cut.
    losses: watch::Sender<u64>,
}

impl TestInbox {
    pub(super) async fn open(
        connection: Weak<Connection>,
        broker: &Arc<dyn Broker>,
        sink: ReplySink,
    ) -> Result<Self, QueueError> {
        let inner = broker.inbox(Arc::clone(&sink)).await?;
        let losses = watch::Sender::new(0);
        Ok(Self { connection, sink, inner: Mutex::new(Some(inner)), losses })
    }

    fn inner(&self) -> MutexGuard<'_, Option<Arc<dyn Inbox>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cut(&self) {
        *self.inner() = None;
        self.losses.send_modify(|losses| *losses += 1);
    }

    /// Returns where replies come in, opened anew after an outage.
    async fn opened(&self, connection: &Connection) -> Result<Arc<dyn Inbox>, QueueError> {
        let open = self.inner().clone();
        if let Some(open) = open {
            return Ok(open);
        }
        let opened = connection.inner.inbox(Arc::clone(&self.sink)).await?;
        // Of several that open one at once, the first decides.
        Ok(Arc::clone(self.inner().get_or_insert(opened)))
    }
}

#[async_trait]
impl Inbox for TestInbox {
    async fn publish(&self, to: Destination<'_>, envelope: Envelope) -> Result<(), PublishError> {
        let Some(connection) = self.connection.upgrade() else {
            let (to, envelope) = (to.to_string(), envelope.into());
            return Err(PublishError::Closed { to, envelope });
        };
        let send = async |envelope: Envelope| match self.opened(&connection).await {
            Ok(inbox) => inbox.publish(to, envelope).await,
            Err(QueueError::Closed) => {
                Err(PublishError::Closed { to: to.to_string(), envelope: envelope.into() })
            }
            Err(error) => Err(PublishError::Unconfirmed {
                to: to.to_string(),
                reason: error.to_string(),
                source: None,
                envelope: envelope.into(),
            }),
        };
        connection.publish_by(to, envelope, true, send).await
    }

    fn losses(&self) -> watch::Receiver<u64> {
        self.losses.subscribe()
    }
}

impl std::fmt::Debug for TestInbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestInbox").field("inner", &self.inner).finish_non_exhaustive()
    }
}
