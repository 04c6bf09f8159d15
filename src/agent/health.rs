//! How agents are: the bus, and what else keeps them from their work.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Middleware;
use crate::{
    broker::{Health, Stage},
    contract::Name,
};

/// How often middleware is asked whether it holds messages back.
const LOOK: Duration = Duration::from_secs(1);

/// Where the agents of a runtime report what keeps them from their work.
pub(super) struct HealthBoard {
    bus: watch::Receiver<Health>,
    chain: Arc<[Arc<dyn Middleware>]>,
    parts: Mutex<Parts>,
    sum: watch::Sender<Health>,
    _follow: DropGuard,
}

#[derive(Debug, Default)]
struct Parts {
    /// What is the matter, and with how many messages.
    troubles: BTreeMap<Trouble, usize>,
    /// Each agent's queues.
    queues: Vec<(Name, Name)>,
}

/// What keeps an agent from its work, beside the bus.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// Its queue is gone, or cannot be consumed from.
    Idle {
        /// Name of the agent.
        agent: Name,
        /// Name of the queue.
        queue: Name,
        /// What the bus said.
        reason: String,
    },
    /// It holds a message, because the bus does not take the copy.
    Held {
        /// Name of the agent.
        agent: Name,
    },
    /// It waits for the store of its conversations.
    Store {
        /// Name of the agent.
        agent: Name,
    },
}

/// A trouble, as long as it lasts.
pub(super) struct Noted {
    board: Arc<HealthBoard>,
    trouble: Trouble,
}

impl HealthBoard {
    /// Makes a board, which follows the health of the bus and of middleware.
    pub(super) fn new(
        bus: watch::Receiver<Health>,
        chain: Arc<[Arc<dyn Middleware>]>,
    ) -> Arc<Self> {
        let follow = CancellationToken::new();
        let mut changes = bus.clone();
        let health = changes.borrow_and_update().clone();
        let board = Arc::new(Self {
            bus,
            chain,
            parts: Mutex::default(),
            sum: watch::Sender::new(health),
            _follow: follow.clone().drop_guard(),
        });
        let following = Arc::downgrade(&board);
        tokio::spawn(follow.run_until_cancelled_owned(async move {
            loop {
                let asks = following.upgrade().is_some_and(|board| !board.chain.is_empty());
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { break },
                    () = tokio::time::sleep(LOOK) , if asks => {}
                }
                let Some(board) = following.upgrade() else { break };
                board.update(|_| {});
            }
        }));
        board
    }

    /// Returns the present health.
    pub(super) fn health(&self) -> Health {
        self.sum(&self.parts())
    }

    fn sum(&self, parts: &Parts) -> Health {
        let health = parts.sum(self.bus.borrow().clone());
        if !health.is_healthy() {
            return health;
        }
        match self.chain.iter().find_map(|middleware| middleware.paused()) {
            None => health,
            Some(detail) => Health { stage: Stage::Connected, detail },
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Health> {
        self.sum.subscribe()
    }

    /// Remembers whose queue it is that the bus may have trouble with.
    pub(super) fn queue_of(&self, agent: &Name, queue: &Name) {
        self.parts().queues.push((queue.clone(), agent.clone()));
    }

    /// Notes a trouble until the guard is dropped.
    pub(super) fn note(self: &Arc<Self>, trouble: Trouble) -> Noted {
        self.update(|parts| *parts.troubles.entry(trouble.clone()).or_default() += 1);
        Noted { board: Arc::clone(self), trouble }
    }

    fn update(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts();
        change(&mut parts);
        // Under the lock, so that what is older does not come later.
        let health = self.sum(&parts);
        self.sum.send_if_modified(|sum| {
            let changed = *sum != health;
            *sum = health;
            changed
        });
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parts {
    fn sum(&self, mut health: Health) -> Health {
        match health.stage {
            Stage::Consuming => {}
            Stage::Connected => {
                let named =
                    |(queue, _): &&(Name, Name)| health.detail.contains(&format!("`{queue}`"));
                if let Some((_, agent)) = self.queues.iter().find(named) {
                    health.detail = format!("agent `{agent}`: {}", health.detail);
                }
                return health;
            }
            _ => return health,
        }
        match self.troubles.keys().next() {
            None => health,
            Some(trouble) => Health { stage: Stage::Connected, detail: trouble.to_string() },
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.board.update(|parts| {
            if let Some(count) = parts.troubles.get_mut(&self.trouble) {
                *count -= 1;
                if *count == 0 {
                    parts.troubles.remove(&self.trouble);
                }
            }
        });
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle { agent, queue, reason } => {
                write!(f, "agent `{agent}`: nothing consumes from `{queue}`: {reason}")
            }
            Self::Held { agent } => write!(
                f,
                "agent `{agent}` is paused: the bus does not take its retries or dead letters"
            ),
            Self::Store { agent } => {
                write!(f, "agent `{agent}` waits for the store of its conversations, which is down")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_bus_comes_first_and_then_what_is_the_matter_with_an_agent() {
        let bus = watch::Sender::new(Health::at(Stage::Consuming));
        let board = HealthBoard::new(bus.subscribe(), Arc::new([]));
        board.queue_of(&"data".into(), &"app.data".into());
        let mut watch = board.watch();
        let held = || board.note(Trouble::Held { agent: "data".into() });
        let both = (held(), held());
        assert!(watch.borrow_and_update().detail.starts_with("agent `data` is paused"));
        drop(both.0);
        assert!(!watch.has_changed().unwrap(), "one is held still");
        assert_eq!(board.health().stage, Stage::Connected);

        bus.send_replace(Health::at(Stage::Dialling));
        watch.wait_for(|health| health.stage == Stage::Dialling).await.unwrap();
        drop(both.1);
        let detail = "nothing consumes from `app.data`: gone".to_owned();
        bus.send_replace(Health { stage: Stage::Connected, detail });
        let health = watch.wait_for(|health| health.stage == Stage::Connected).await.unwrap();
        assert_eq!(health.detail, "agent `data`: nothing consumes from `app.data`: gone");
        drop(health);
        bus.send_replace(Health::at(Stage::Consuming));
        watch.wait_for(Health::is_healthy).await.unwrap();
        drop(board);
        assert!(watch.changed().await.is_err(), "nobody follows the bus any more");
    }
}
