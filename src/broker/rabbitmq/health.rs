//! The backend's health, put together from what its parts report.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::pool::Role;
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
    /// Why the broker takes nothing from each connection, if it does not.
    blocked: [Option<String>; 2],
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
        self.update(|parts| {
            parts.down[role as usize] = None;
            parts.blocked[role as usize] = None;
        });
    }

    pub(super) fn disconnected(&self, role: Role, reason: String) {
        self.update(|parts| parts.down[role as usize] = Some(reason));
    }

    pub(super) fn blocked(&self, role: Role, reason: Option<String>) {
        self.update(|parts| parts.blocked[role as usize] = reason);
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
                health.log("rabbitmq");
            }
            *sum = health;
            changed
        });
    }
}

impl Parts {
    fn sum(&self) -> Health {
        let first = |reasons: &[Option<String>; 2]| reasons.iter().flatten().next().cloned();
        let (stage, detail) = if self.closed {
            (Stage::Closed, String::new())
        } else if let Some(reason) = first(&self.down) {
            (Stage::Dialling, reason)
        } else if let Some(reason) = first(&self.blocked) {
            (Stage::Blocked, reason)
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
    use std::{io, sync::Arc};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn each_change_of_stage_is_logged_once() {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false);
        tracing::subscriber::with_default(subscriber.without_time().finish(), || {
            let board = HealthBoard::new();
            board.connected(Role::Publish);
            board.disconnected(Role::Publish, "cut".to_owned());
            board.disconnected(Role::Consume, "cut, too".to_owned());
            board.closed();
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().map(str::trim_start).collect();
        assert_eq!(
            lines,
            [
                "INFO agentbus::health: the bus is consuming backend=\"rabbitmq\" stage=consuming",
                "WARN agentbus::health: the bus is dialling backend=\"rabbitmq\" stage=dialling detail=\"cut\"",
                "INFO agentbus::health: the bus is closed backend=\"rabbitmq\" stage=closed",
            ]
        );
    }

    #[test]
    fn the_worst_part_decides() {
        let board = HealthBoard::new();
        let health = board.watch();
        let stage = || health.borrow().stage;
        board.connected(Role::Publish);
        assert_eq!(stage(), Stage::Consuming);
        board.consumer(7, Some("no queue".to_owned()));
        assert_eq!(stage(), Stage::Connected);
        board.blocked(Role::Publish, Some("disk".to_owned()));
        assert_eq!(stage(), Stage::Blocked);
        board.disconnected(Role::Consume, "cut".to_owned());
        assert_eq!(stage(), Stage::Dialling);
        assert_eq!(health.borrow().detail, "cut");
        board.connected(Role::Consume);
        board.connected(Role::Publish);
        board.consumer(7, None);
        assert!(health.borrow().is_healthy());
        board.closed();
        assert_eq!(stage(), Stage::Closed);
    }
}
