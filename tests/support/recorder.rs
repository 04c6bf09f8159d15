//! A broker that remembers which queues it was told to declare.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use agentbus::{
    Envelope,
    broker::{
        Broker, Deliveries, Destination, Health, Inbox, PublishError, QueueError, QueueSpec,
        QueueStats, ReplySink, TopologyError,
    },
};
use async_trait::async_trait;
use tokio::sync::watch;

#[derive(Debug)]
pub struct Recorder {
    broker: Arc<dyn Broker>,
    queues: Mutex<BTreeSet<String>>,
}

impl Recorder {
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, queues: Mutex::default() }
    }

    /// Remembers a queue that may be declared by others.
    pub fn remember(&self, queue: &str) {
        self.queues.lock().unwrap().insert(queue.to_owned());
    }

    /// Returns what is remembered, and forgets it.
    pub fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.queues.lock().unwrap())
    }
}

#[async_trait]
impl Broker for Recorder {
    fn kind(&self) -> &'static str {
        self.broker.kind()
    }

    async fn publish(&self, to: Destination<'_>, envelope: Envelope) -> Result<(), PublishError> {
        self.broker.publish(to, envelope).await
    }

    async fn inbox(&self, sink: ReplySink) -> Result<Arc<dyn Inbox>, QueueError> {
        self.broker.inbox(sink).await
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<(), TopologyError> {
        self.remember(&queue.name);
        self.broker.declare(queue).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Deliveries, QueueError> {
        self.broker.consume(queue, prefetch).await
    }

    async fn stats(&self, queue: &str) -> Result<QueueStats, QueueError> {
        self.broker.stats(queue).await
    }

    async fn purge(&self, queue: &str) -> Result<u64, QueueError> {
        self.broker.purge(queue).await
    }

    async fn delete(&self, queue: &str) -> Result<(), QueueError> {
        self.broker.delete(queue).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.broker.health()
    }

    async fn close(&self) {
        self.broker.close().await;
    }
}
