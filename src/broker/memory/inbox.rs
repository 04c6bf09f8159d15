//! Addresses that replies come back to.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::connection::Connection;
use crate::{
    broker::{Destination, Inbox, PublishError, Publishing, ReplySink},
    contract::Name,
    message::Envelope,
};

/// An open inbox.
#[derive(Debug)]
pub(super) struct MemoryInbox {
    connection: Arc<Connection>,
    address: Name,
}

impl MemoryInbox {
    pub(super) fn open(connection: Arc<Connection>, sink: ReplySink) -> Self {
        let address = Name::from(format!("inbox.{}", Uuid::now_v7()));
        connection.engine().open_inbox(address.clone(), connection.id(), sink);
        Self { connection, address }
    }
}

#[async_trait]
impl Inbox for MemoryInbox {
    async fn publish(
        &self,
        to: Destination<'_>,
        mut envelope: Envelope,
    ) -> Result<(), PublishError> {
        envelope.metadata.reply_to = Some(self.address.clone());
        self.connection.publish(to, envelope).await
    }

    fn begin_publish<'a>(&'a self, to: Destination<'a>, mut envelope: Envelope) -> Publishing<'a> {
        envelope.metadata.reply_to = Some(self.address.clone());
        self.connection.begin_publish(to, envelope)
    }
}

impl Drop for MemoryInbox {
    fn drop(&mut self) {
        self.connection.engine().close_inbox(&self.address);
    }
}
