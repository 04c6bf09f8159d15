//! What the connections of one test bus share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use super::{connection::Connection, injected::Faults, ledger::Ledger, outage::Outage};
use crate::{
    broker::{
        Broker,
        memory::{Memory, MemoryOptions},
    },
    config::Config,
};

#[derive(Debug)]
pub(super) struct Core {
    source: Source,
    /// Asks about queues, past all faults.
    pub(super) observer: Arc<dyn Broker>,
    pub(super) ledger: Ledger,
    pub(super) faults: Faults,
    pub(super) outage: Outage,
    connections: Mutex<Vec<Weak<Connection>>>,
}

/// Where connections come from.
#[derive(Debug)]
enum Source {
    /// Each is one of its own.
    Memory(Memory),
    /// All use this one.
    Shared(Arc<dyn Broker>),
}

impl Core {
    pub(super) fn memory(config: &Config) -> Arc<Self> {
        let memory = Memory::new(options(config));
        let observer = Arc::new(memory.connect(options(config)));
        Self::new(Source::Memory(memory), observer, config)
    }

    pub(super) fn over(broker: Arc<dyn Broker>, config: &Config) -> Arc<Self> {
        Self::new(Source::Shared(Arc::clone(&broker)), broker, config)
    }

    fn new(source: Source, observer: Arc<dyn Broker>, config: &Config) -> Arc<Self> {
        Arc::new(Self {
            source,
            observer,
            ledger: Ledger::new(&config.queue_prefix),
            faults: Faults::default(),
            outage: Outage::new(),
            connections: Mutex::default(),
        })
    }

    /// Makes another connection, with the limits of `config`.
    pub(super) fn connect(self: &Arc<Self>, config: &Config) -> Arc<Connection> {
        let (inner, is_shared): (Arc<dyn Broker>, _) = match &self.source {
            Source::Memory(memory) => (Arc::new(memory.connect(options(config))), false),
            Source::Shared(broker) => (Arc::clone(broker), true),
        };
        let connection = Connection::new(Arc::clone(self), inner, is_shared, config);
        let mut connections = self.connections();
        connections.retain(|connection| connection.strong_count() > 0);
        connections.push(Arc::downgrade(&connection));
        connection
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Weak<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the connection that is this broker.
    pub(super) fn connection(&self, broker: &Arc<dyn Broker>) -> Option<Arc<Connection>> {
        let address = Arc::as_ptr(broker).cast::<()>();
        let connections = self.connections();
        let mut there = connections.iter().filter_map(Weak::upgrade);
        there.find(|connection| std::ptr::addr_eq(Arc::as_ptr(connection), address))
    }

    /// Cuts all connections; returns which outage it is, or nothing if they are cut already.
    pub(super) fn cut(&self) -> Option<u64> {
        let outage = self.outage.begin()?;
        self.ledger.note("cut all connections");
        for connection in self.open() {
            connection.cut();
        }
        Some(outage)
    }

    /// Ends an outage, or whichever there is.
    pub(super) fn mend(&self, outage: Option<u64>) {
        if self.outage.end(outage) {
            self.ledger.note("the connections are back");
            for connection in self.open() {
                connection.refresh_health();
            }
        }
    }

    fn open(&self) -> Vec<Arc<Connection>> {
        self.connections().iter().filter_map(Weak::upgrade).collect()
    }

    /// Tells what there is to do yet; nothing if all is done for now.
    pub(super) async fn busy(&self) -> Option<Busy> {
        /// How late the broker may be with what is due.
        const TARDINESS: Duration = Duration::from_millis(20);
        let work = self.ledger.work();
        let mut reasons = work.held;
        if work.in_flight > 0 {
            reasons.push(format!("{} publishes have not ended", work.in_flight));
        }
        let mut counts_all = true;
        for (queue, owed) in work.consumed {
            let Ok(stats) = self.observer.stats(&queue).await else { continue };
            counts_all &= stats.unsettled.is_some();
            let unsettled = stats.unsettled.unwrap_or(0);
            if stats.ready > 0 || unsettled > 0 {
                reasons.push(format!(
                    "queue `{queue}` has {} ready, {unsettled} handed out",
                    stats.ready
                ));
            } else if owed > 0 {
                // A broker that counts all of its messages knows which are gone for good.
                if stats.unsettled.is_some() {
                    self.ledger.is_empty(&queue, work.version, TARDINESS);
                }
                reasons.push(format!("{owed} messages for queue `{queue}` are on their way"));
            }
        }
        if self.outage.is_down() && !reasons.is_empty() {
            reasons.push("the connections are cut".to_owned());
        }
        let is_stable = *self.ledger.changes().borrow() == work.version;
        (!reasons.is_empty() || !is_stable).then_some(Busy { reasons, counts_all })
    }
}

/// Why a bus is not settled.
#[derive(Debug)]
pub(super) struct Busy {
    pub(super) reasons: Vec<String>,
    /// The broker counts all its messages, so that what is not seen does not exist.
    pub(super) counts_all: bool,
}

fn options(config: &Config) -> MemoryOptions {
    MemoryOptions {
        publish_timeout: config.publish_timeout,
        max_message_bytes: config.max_message_bytes,
    }
}
