//! The backend's health, put together from what its parts report.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::session::Role;
use crate::broker::{Health, Stage};

/// Where connections and consumers report how they are.
#[derive(Debug)]
pub(super) struct HealthBoard {
    parts: Mutex<Parts>,
    sum: watch::Sender<Health>,
}

#[derive(Debug, Default)]
struct Parts {
    closed: bool,
    /// Why each connection is down, if it is.
    down: [Option<String>; 2],
    /// Why the server takes nothing, if it does not.
    blocked: Option<String>,
    /// Consumers that should consume and do not, with the reason.
    idle: Vec<(u64, String)>,
}

impl HealthBoard {
    pub(super) fn new() -> Self {
        Self { parts: Mutex::default(), sum: watch::Sender::new(Health::at(Stage::Dialling)) }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Health> {
        self.sum.subscribe()
    }

    pub(super) fn connected(&self, role: Role) {
        self.update(|parts| parts.down[role as usize] = None);
    }

    pub(super) fn disconnected(&self, role: Role, reason: String) {
        self.update(|parts| parts.down[role as usize] = Some(reason));
    }

    /// Notes why the server takes no messages, or that it does.
    pub(super) fn blocked(&self, reason: Option<String>) {
        self.update(|parts| parts.blocked = reason);
    }

    /// Notes that consumer `id` consumes, or why it does not.
    pub(super) fn consumer(&self, id: u64, trouble: Option<String>) {
        self.update(|parts| {
            parts.idle.retain(|(known, _)| *known != id);
            parts.idle.extend(trouble.map(|reason| (id, reason)));
        });
    }

    pub(super) fn closed(&self) {
        self.update(|parts| parts.closed = true);
    }

    fn update(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        let health = parts.sum();
        self.sum.send_if_modified(|sum| {
            let changed = *sum != health;
            if sum.stage != health.stage {
                health.log("redis");
            }
            *sum = health;
            changed
        });
    }
}

impl Parts {
    fn sum(&self) -> Health {
        let down = self.down.iter().flatten().next();
        let (stage, detail) = if self.closed {
            (Stage::Closed, String::new())
        } else if let Some(reason) = down {
            (Stage::Dialling, reason.clone())
        } else if let Some(reason) = &self.blocked {
            (Stage::Blocked, reason.clone())
        } else if let Some((_, reason)) = self.idle.first() {
            (Stage::Connected, reason.clone())
        } else {
            (Stage::Consuming, String::new())
        };
        Health { stage, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_part_decides() {
        let board = HealthBoard::new();
        let health = board.watch();
        let stage = || health.borrow().stage;
        assert_eq!(stage(), Stage::Dialling);
        board.connected(Role::Calls);
        assert_eq!(stage(), Stage::Consuming);
        board.consumer(7, Some("no queue".to_owned()));
        assert_eq!(stage(), Stage::Connected);
        board.blocked(Some("out of memory".to_owned()));
        assert_eq!(stage(), Stage::Blocked);
        board.disconnected(Role::WakeUps, "cut".to_owned());
        assert_eq!(stage(), Stage::Dialling);
        assert_eq!(health.borrow().detail, "cut");
        board.connected(Role::WakeUps);
        board.blocked(None);
        board.consumer(7, None);
        assert!(health.borrow().is_healthy());
        board.closed();
        assert_eq!(stage(), Stage::Closed);
    }
}
