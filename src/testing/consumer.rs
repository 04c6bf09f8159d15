//! Consumers: what is delivered is noted, held up or doubled, and goes back when a connection is
//! cut.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    connection::Connection,
    core::Core,
    fault::{Harm, Passing},
};
use crate::{
    broker::{Broker, Deliveries, Delivery, QueueError, Settle, Verdict},
    contract::Name,
};

/// How long to wait before a consumer that could not be registered again is tried once more.
const CONSUME_RETRY: Duration = Duration::from_millis(100);

/// What a consumer has been handed and has not settled.
#[derive(Debug)]
pub(super) struct Hands {
    core: Arc<Core>,
    queue: Name,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    /// By the number the ledger knows them by; a doubled delivery has nothing to settle.
    deliveries: HashMap<u64, Option<Delivery>>,
    /// Gone once the consumer has ended.
    sender: Option<mpsc::Sender<Delivery>>,
    /// The connection was cut, and the consumer is not registered again yet.
    waits: bool,
}

impl Hands {
    pub(super) fn new(core: Arc<Core>, queue: Name, sender: mpsc::Sender<Delivery>) -> Arc<Self> {
        core.ledger.consumes(&queue);
        let held = Held { deliveries: HashMap::new(), sender: Some(sender), waits: false };
        Arc::new(Self { core, queue, held: Mutex::new(held) })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.held().waits
    }

    /// Tells whether somebody takes what is handed on.
    fn is_open(&self) -> bool {
        self.held().sender.as_ref().is_some_and(|sender| !sender.is_closed())
    }

    /// Gives all of it back: whoever has it can no longer settle it.
    pub(super) fn give_back(&self) {
        let mut held = self.held();
        held.waits = held.sender.is_some();
        let mut deliveries: Vec<_> = held.deliveries.drain().collect();
        drop(held);
        deliveries.sort_by_key(|(id, _)| *id);
        for (id, _) in &deliveries {
            self.core.ledger.taken_back(*id);
        }
        // Dropped, and so released.
        drop(deliveries);
        self.core.ledger.touch();
    }

    /// Hands a delivery on, with the faults that there are.
    fn take(self: &Arc<Self>, delivery: Delivery) {
        let envelope = delivery.envelope().clone();
        let passing = Passing::Delivered { queue: &self.queue, envelope: &envelope };
        let harm = self.core.faults.hit(&passing);
        if let Some((_, text)) = &harm {
            self.core.ledger.note(format!("hit this with {text}"));
        }
        let (redelivered, returns) = (delivery.is_redelivered(), delivery.returns());
        match harm {
            Some((Harm::LateDelivery(delay), _)) => {
                let id = self.hold(&delivery, redelivered);
                self.held().deliveries.insert(id, Some(delivery));
                let hands = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    // Unless it has gone back meanwhile.
                    if hands.held().deliveries.contains_key(&id) {
                        hands.hand_on(id, envelope, redelivered, returns);
                    }
                });
            }
            Some((Harm::Duplicate, _)) => {
                let copy = self.hold(&delivery, redelivered);
                let twin = self.hold(&delivery, true);
                {
                    let mut held = self.held();
                    held.deliveries.insert(copy, Some(delivery));
                    held.deliveries.insert(twin, None);
                }
                self.hand_on(copy, envelope.clone(), redelivered, returns);
                self.hand_on(twin, envelope, true, None);
            }
            _ => {
                let id = self.hold(&delivery, redelivered);
                self.held().deliveries.insert(id, Some(delivery));
                self.hand_on(id, envelope, redelivered, returns);
            }
        }
    }

    fn hold(&self, delivery: &Delivery, redelivered: bool) -> u64 {
        self.core.ledger.delivered(&self.queue, delivery.envelope(), redelivered)
    }

    fn hand_on(
        self: &Arc<Self>,
        id: u64,
        envelope: crate::Envelope,
        redelivered: bool,
        returns: Option<u32>,
    ) {
        let settle = Arc::clone(self) as Arc<dyn Settle>;
        let mut delivery = Delivery::new(envelope, redelivered, settle, id);
        if let Some(returns) = returns {
            delivery = delivery.with_returns(returns);
        }
        let sender = self.held().sender.clone();
        // Where nobody takes it, it is dropped, and so released.
        if let Some(sender) = sender {
            drop(sender.try_send(delivery));
        }
    }

    fn end(&self) {
        let sender = {
            let mut held = self.held();
            held.waits = false;
            held.sender.take()
        };
        // With what nobody took, which is released.
        drop(sender);
    }
}

impl Settle for Hands {
    fn settle(&self, tag: u64, verdict: Verdict) {
        let settled = self.held().deliveries.remove(&tag);
        // What has gone back can no longer be settled.
        let Some(delivery) = settled else { return };
        self.core.ledger.settled(tag, verdict);
        match (delivery, verdict) {
            (Some(delivery), Verdict::Ack) => delivery.ack(),
            (Some(delivery), Verdict::Release) => delivery.release(),
            (None, _) => {}
        }
        self.core.ledger.touch();
    }
}

/// Moves deliveries from the broker into the hands of whoever consumes.
pub(super) struct Consumer {
    pub(super) hands: Arc<Hands>,
    pub(super) inner: Arc<dyn Broker>,
    pub(super) connection: Weak<Connection>,
    pub(super) closed: CancellationToken,
    pub(super) cancelled: CancellationToken,
    pub(super) prefetch: u16,
    /// Since when the connection is up.
    pub(super) period: u64,
}

impl Consumer {
    pub(super) fn start(self, deliveries: Deliveries) {
        tokio::spawn(async move {
            let hands = Arc::clone(&self.hands);
            self.run(deliveries).await;
            hands.end();
            hands.core.ledger.consumes_no_more(&hands.queue);
        });
    }

    async fn run(mut self, mut deliveries: Deliveries) {
        let mut is_cancelled = false;
        loop {
            let core = &self.hands.core;
            tokio::select! {
                biased;
                () = self.closed.cancelled() => return,
                () = core.outage.since(self.period) => {
                    drop(deliveries);
                    match self.register_again().await {
                        Some(renewed) => deliveries = renewed,
                        None => return,
                    }
                }
                () = self.cancelled.cancelled(), if !is_cancelled => {
                    deliveries.cancel();
                    is_cancelled = true;
                }
                delivery = deliveries.next() => match delivery {
                    Some(delivery) if self.hands.is_open() => self.hands.take(delivery),
                    Some(delivery) => {
                        // Nobody takes it. It must not come back here, time and again.
                        drop(deliveries);
                        return delivery.release();
                    }
                    None => return,
                },
            }
        }
    }

    /// Waits for the end of an outage and consumes again; `None` where that is over for good.
    async fn register_again(&mut self) -> Option<Deliveries> {
        let again = async {
            loop {
                self.hands.core.outage.over().await;
                let period = self.hands.core.outage.period();
                match self.inner.consume(&self.hands.queue, self.prefetch).await {
                    Ok(deliveries) => break Some((deliveries, period)),
                    Err(QueueError::NotFound { .. } | QueueError::Closed) => break None,
                    Err(_) => tokio::time::sleep(CONSUME_RETRY).await,
                }
            }
        };
        let renewed = tokio::select! {
            biased;
            () = self.closed.cancelled() => None,
            () = self.cancelled.cancelled() => None,
            renewed = again => renewed,
        };
        let (deliveries, period) = renewed?;
        self.period = period;
        if self.hands.core.outage.period() == period && !self.hands.core.outage.is_down() {
            self.hands.held().waits = false;
        }
        if let Some(connection) = self.connection.upgrade() {
            connection.refresh_health();
        }
        Some(deliveries)
    }
}
