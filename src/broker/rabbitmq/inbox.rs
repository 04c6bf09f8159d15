//! The inbox: replies by direct reply-to.
//!
//! The broker ties replies to the channel that consumes them, and wants the requests published on
//! that same channel. So an inbox is a publisher of its own, whose channels consume first. Replies
//! to requests sent on an earlier channel are lost; the requester's deadline covers that.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::StreamExt;
use lapin::{
    Channel,
    options::BasicConsumeOptions,
    types::{FieldTable, ShortString},
};
use tokio::sync::watch;

use super::{
    Core,
    fault::{Answers, Fault},
    properties,
    publisher::Publisher,
    reply_address::REPLY_TO,
};
use crate::{
    broker::{Destination, Inbox, PublishError, ReplySink},
    contract::Name,
    message::Envelope,
};

/// Where the replies that arrive on a channel go.
#[derive(Clone)]
pub(super) struct Replies {
    sink: ReplySink,
    /// How many channels were lost.
    losses: Arc<watch::Sender<u64>>,
}

impl Replies {
    pub(super) fn new(sink: ReplySink) -> Self {
        Self { sink, losses: Arc::new(watch::Sender::new(0)) }
    }

    /// Starts to receive replies on a channel, until it is closed.
    pub(super) async fn receive_on(
        &self,
        channel: &Channel,
        answers: &Answers,
    ) -> Result<(), Fault> {
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consume = channel.basic_consume(
            ShortString::from(REPLY_TO),
            ShortString::from(""),
            options,
            FieldTable::default(),
        );
        let mut replies = answers.within(consume).await?;
        let Self { sink, losses } = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(reply)) = replies.next().await {
                sink(properties::read(None, &reply.properties, reply.data));
            }
            losses.send_modify(|losses| *losses += 1);
        });
        Ok(())
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replies")
    }
}

/// An inbox on a channel of its own.
#[derive(Debug)]
pub(super) struct ReplyInbox {
    core: Arc<Core>,
    publisher: Publisher,
    losses: watch::Receiver<u64>,
}

impl ReplyInbox {
    pub(super) fn open(core: Arc<Core>, sink: ReplySink) -> Self {
        let replies = Replies::new(sink);
        let losses = replies.losses.subscribe();
        let (link, shutdown) = (core.publish.clone(), core.shutdown.clone());
        let publisher = Publisher::start(link, &core.options, Some(replies), shutdown);
        Self { core, publisher, losses }
    }
}

#[async_trait]
impl Inbox for ReplyInbox {
    async fn publish(
        &self,
        to: Destination<'_>,
        mut envelope: Envelope,
    ) -> Result<(), PublishError> {
        envelope.metadata.reply_to = Some(Name::from_static(REPLY_TO));
        self.core.publish(&self.publisher, to, envelope).await
    }

    fn losses(&self) -> watch::Receiver<u64> {
        self.losses.clone()
    }
}
