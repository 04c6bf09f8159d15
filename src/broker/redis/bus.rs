//! What all parts of the backend share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::Script;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    RedisOptions,
    bindings::Bindings,
    call::Call,
    health::HealthBoard,
    link::Link,
    reader::Reader,
    sender::{self, Outgoing},
};
use crate::{broker::QueueSpec, contract::Name};

/// The two keys that every script gets.
#[derive(Debug)]
pub(super) struct Keys([String; 2]);

impl Keys {
    pub(super) fn of(options: &RedisOptions) -> Self {
        Self([options.key("epoch"), options.wake_channel()])
    }

    /// Begins a call of a script.
    pub(super) fn call<'a>(&self, script: &'a Script) -> Call<'a> {
        Call::new(script, &self.0)
    }
}

/// A connected bus.
#[derive(Debug)]
pub(super) struct Bus {
    pub(super) options: RedisOptions,
    pub(super) keys: Arc<Keys>,
    pub(super) link: Arc<Link>,
    pub(super) health: Arc<HealthBoard>,
    pub(super) bindings: Bindings,
    /// How many more publishes may be sent.
    pub(super) window: Semaphore,
    /// Where they are sent; there is room for as many.
    pub(super) outgoing: mpsc::Sender<Outgoing>,
    /// Who consumes here, by queue.
    readers: Mutex<HashMap<Name, Arc<Reader>>>,
    /// What was declared here, to be declared again where it is gone.
    declared: Mutex<HashMap<Name, QueueSpec>>,
    /// The inboxes, and how often what was on its way to each was lost.
    inboxes: Mutex<HashMap<Name, watch::Sender<u64>>>,
    /// Nothing new is taken.
    pub(super) closing: CancellationToken,
}

impl Bus {
    pub(super) fn new(options: RedisOptions, link: Link, health: Arc<HealthBoard>) -> Self {
        let (keys, link) = (Arc::new(Keys::of(&options)), Arc::new(link));
        let (outgoing, received) = mpsc::channel(options.confirm_window);
        tokio::spawn(sender::run(link.clone(), keys.clone(), received));
        Self {
            keys,
            link,
            outgoing,
            health,
            bindings: Bindings::default(),
            window: Semaphore::new(options.confirm_window),
            readers: Mutex::default(),
            declared: Mutex::default(),
            inboxes: Mutex::default(),
            closing: CancellationToken::new(),
            options,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// How long any other answer than a publish's is waited for.
    pub(super) fn patience(&self) -> Duration {
        self.options.operation_timeout
    }

    /// How long a message is a consumer's that says nothing more.
    pub(super) fn lease(&self) -> Duration {
        self.options.lease
    }

    /// Name of the queue that keeps what has nowhere to go.
    pub(super) fn undeliverable(&self) -> Name {
        format!("{}.delay.v1.undeliverable", self.options.exchange).into()
    }

    pub(super) fn readers(&self) -> MutexGuard<'_, HashMap<Name, Arc<Reader>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn declared(&self) -> MutexGuard<'_, HashMap<Name, QueueSpec>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn inboxes(&self) -> MutexGuard<'_, HashMap<Name, watch::Sender<u64>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
