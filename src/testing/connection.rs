//! One connection to a test bus: a broker that passes everything on, is watched, and has faults.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use super::{
    consumer::{Consumer, Hands},
    core::Core,
    fault::{Harm, Passing},
    history::Outcome,
    inbox::TestInbox,
    ledger::Sending,
};
use crate::{
    broker::{
        Broker, Deliveries, Destination, Health, Inbox, Product, PublishError, QueueError,
        QueueSpec, QueueStats, ReplySink, Stage, TopologyError,
    },
    config::Config,
    message::Envelope,
};

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) core: Arc<Core>,
    pub(super) inner: Arc<dyn Broker>,
    /// Others use the same broker.
    is_shared: bool,
    /// How long an operation waits for the end of an outage.
    patience: Duration,
    pub(super) closed: CancellationToken,
    health: watch::Sender<Health>,
    consumers: Mutex<Vec<Weak<Hands>>>,
    inboxes: Mutex<Vec<Weak<TestInbox>>>,
    this: Weak<Self>,
}

impl Connection {
    pub(super) fn new(
        core: Arc<Core>,
        inner: Arc<dyn Broker>,
        is_shared: bool,
        config: &Config,
    ) -> Arc<Self> {
        let health = inner.health();
        let connection = Arc::new_cyclic(|this| Self {
            core,
            inner,
            is_shared,
            patience: config.publish_timeout,
            closed: CancellationToken::new(),
            health: watch::Sender::new(health.borrow().clone()),
            consumers: Mutex::default(),
            inboxes: Mutex::default(),
            this: this.clone(),
        });
        connection.refresh_health();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(mirror(health, Arc::downgrade(&connection)));
        }
        connection
    }

    /// Cuts the connection: what is unsettled goes back, and replies on their way are lost.
    pub(super) fn cut(&self) {
        self.refresh_health();
        for inbox in there(&self.inboxes) {
            inbox.cut();
        }
        for hands in there(&self.consumers) {
            hands.give_back();
        }
    }

    /// Ends the connection at once, as the death of its process would.
    pub(super) async fn kill(&self) {
        self.closed.cancel();
        for hands in there(&self.consumers) {
            hands.give_back();
        }
        for inbox in there(&self.inboxes) {
            inbox.cut();
        }
        if !self.is_shared {
            self.inner.close().await;
        }
        self.refresh_health();
        self.core.ledger.touch();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    pub(super) fn refresh_health(&self) {
        let health = if self.is_closed() {
            Health::at(Stage::Closed)
        } else if self.core.outage.is_down() {
            let detail = "the test has cut the connection".to_owned();
            Health { stage: Stage::Dialling, detail }
        } else if there(&self.consumers).iter().any(|hands| hands.is_waiting()) {
            let detail = "consumers are being registered again".to_owned();
            Health { stage: Stage::Connected, detail }
        } else {
            self.inner.health().borrow().clone()
        };
        self.health.send_if_modified(|before| {
            let is_new = *before != health;
            *before = health;
            is_new
        });
    }

    /// Waits until the connection is up: not for ever.
    async fn up(&self) -> Result<(), Down> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(Down::Closed),
            up = self.core.outage.over_within(self.patience) => {
                if up { Ok(()) } else { Err(Down::Cut(self.patience)) }
            }
        }
    }

    /// Publishes by `send`, with the faults that there are.
    pub(super) async fn publish_by<F: Future<Output = Result<(), PublishError>>>(
        &self,
        to: Destination<'_>,
        envelope: Envelope,
        has_inbox: bool,
        send: impl FnOnce(Envelope) -> F,
    ) -> Result<(), PublishError> {
        if self.is_closed() {
            return Err(closed(to, envelope));
        }
        let ledger = &self.core.ledger;
        let begun = ledger.sending(to, &envelope, has_inbox);
        let mut sending = Ongoing { core: &self.core, begun, outcome: None };
        let fault = self.core.faults.hit(&Passing::Published { to, envelope: &envelope });
        let harm = fault.map(|(harm, text)| {
            ledger.note(format!("hit this with {text}"));
            harm
        });
        let copy = envelope.clone();
        let result = if let Some(harm) = harm.filter(|harm| harm.prevents()) {
            Err(harm.error(to, envelope))
        } else {
            if let Some(Harm::LatePublish(delay)) = harm {
                tokio::time::sleep(delay).await;
            }
            self.send(to, envelope, send).await
        };
        sending.outcome = Some(Outcome::from(&result));
        if harm == Some(Harm::Unconfirmed) && result.is_ok() {
            sending.outcome = Some(Outcome::TakenUnknown);
            return Err(Harm::Unconfirmed.error(to, copy));
        }
        result
    }

    async fn send<F: Future<Output = Result<(), PublishError>>>(
        &self,
        to: Destination<'_>,
        envelope: Envelope,
        send: impl FnOnce(Envelope) -> F,
    ) -> Result<(), PublishError> {
        if self.core.outage.is_down() {
            match self.up().await {
                Ok(()) => {}
                Err(Down::Closed) => return Err(closed(to, envelope)),
                Err(Down::Cut(patience)) => {
                    let reason =
                        format!("the connection was cut, and not back within {patience:?}");
                    return Err(unconfirmed(to, reason, envelope));
                }
            }
        }
        let (period, copy) = (self.core.outage.period(), envelope.clone());
        tokio::select! {
            biased;
            result = send(envelope) => result,
            () = self.core.outage.since(period) => {
                Err(unconfirmed(to, "the connection was cut".to_owned(), copy))
            }
            // An inner broker of this connection's own says by itself what was closed.
            () = self.closed.cancelled(), if self.is_shared => {
                Err(unconfirmed(to, "the connection was closed".to_owned(), copy))
            }
        }
    }
}

/// A publish that has not ended; one that is dropped may or may not have been sent.
struct Ongoing<'a> {
    core: &'a Core,
    begun: Sending,
    outcome: Option<Outcome>,
}

impl Drop for Ongoing<'_> {
    fn drop(&mut self) {
        let gave_up = || Outcome::Failed("the publisher did not wait for the end".to_owned());
        self.core.ledger.sent(&self.begun, self.outcome.take().unwrap_or_else(gave_up));
    }
}

/// Why a connection is not up.
enum Down {
    Closed,
    Cut(Duration),
}

impl Down {
    fn reason(patience: Duration) -> String {
        format!("the test has cut the connection, and it was not back within {patience:?}")
    }
}

impl From<Down> for QueueError {
    fn from(down: Down) -> Self {
        match down {
            Down::Closed => Self::Closed,
            Down::Cut(patience) => {
                Self::Unavailable { reason: Down::reason(patience), source: None }
            }
        }
    }
}

#[async_trait]
impl Broker for Connection {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn product(&self) -> Option<Product> {
        self.inner.product()
    }

    async fn publish(&self, to: Destination<'_>, envelope: Envelope) -> Result<(), PublishError> {
        self.publish_by(to, envelope, false, |envelope| self.inner.publish(to, envelope)).await
    }

    async fn inbox(&self, sink: ReplySink) -> Result<Arc<dyn Inbox>, QueueError> {
        self.up().await?;
        let inbox = Arc::new(TestInbox::open(self.this.clone(), &self.inner, sink).await?);
        lock(&self.inboxes).push(Arc::downgrade(&inbox));
        Ok(inbox)
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<(), TopologyError> {
        let name = || queue.name.clone();
        self.up().await.map_err(|down| match down {
            Down::Closed => TopologyError::Closed { queue: name() },
            Down::Cut(patience) => {
                let (queue, reason) = (name(), Down::reason(patience));
                TopologyError::Unavailable { queue, reason, source: None }
            }
        })?;
        self.inner.declare(queue).await?;
        self.core.ledger.declared(queue);
        Ok(())
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Deliveries, QueueError> {
        self.up().await?;
        let period = self.core.outage.period();
        let deliveries = self.inner.consume(queue, prefetch).await?;
        // Never full: the broker hands out no more than `prefetch`, and faults double that.
        let (sender, receiver) = mpsc::channel(2 * usize::from(prefetch.max(1)));
        // The broker's own, so that it hands out no more from the moment of a cancel.
        let cancel = deliveries.token();
        let hands = Hands::new(Arc::clone(&self.core), queue.into(), sender);
        {
            let mut consumers = lock(&self.consumers);
            consumers.retain(|hands| hands.strong_count() > 0);
            consumers.push(Arc::downgrade(&hands));
        }
        let consumer = Consumer {
            hands,
            inner: Arc::clone(&self.inner),
            connection: self.this.clone(),
            closed: self.closed.clone(),
            cancelled: cancel.clone(),
            prefetch,
            period,
        };
        consumer.start(deliveries);
        Ok(Deliveries::new(receiver, cancel))
    }

    async fn stats(&self, queue: &str) -> Result<QueueStats, QueueError> {
        self.up().await?;
        self.inner.stats(queue).await
    }

    async fn purge(&self, queue: &str) -> Result<u64, QueueError> {
        self.up().await?;
        let purged = self.inner.purge(queue).await?;
        self.core.ledger.emptied(queue, false);
        Ok(purged)
    }

    async fn delete(&self, queue: &str) -> Result<(), QueueError> {
        self.up().await?;
        self.inner.delete(queue).await?;
        self.core.ledger.emptied(queue, true);
        Ok(())
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    async fn close(&self) {
        if self.is_shared {
            self.kill().await;
        } else {
            // The embedded bus settles first who has what, and what publishes end in.
            self.inner.close().await;
            self.kill().await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// Passes on what the broker says of its health, as long as the connection is there.
async fn mirror(mut health: watch::Receiver<Health>, connection: Weak<Connection>) {
    while health.changed().await.is_ok() {
        match connection.upgrade() {
            Some(connection) => connection.refresh_health(),
            None => break,
        }
    }
}

fn there<T>(list: &Mutex<Vec<Weak<T>>>) -> Vec<Arc<T>> {
    lock(list).iter().filter_map(Weak::upgrade).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed(to: Destination<'_>, envelope: Envelope) -> PublishError {
    PublishError::Closed { to: to.to_string(), envelope: envelope.into() }
}

fn unconfirmed(to: Destination<'_>, reason: String, envelope: Envelope) -> PublishError {
    let (to, envelope) = (to.to_string(), envelope.into());
    PublishError::Unconfirmed { to, reason, source: None, envelope }
}
