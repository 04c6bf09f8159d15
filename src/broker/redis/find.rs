//! Finds the server that has the bus, and connects to it.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::{
    ConnectError, Deployment, RedisOptions, dial,
    session::{Role, Session},
    wake_up::Bells,
};

/// Connects to whichever server has the bus at present.
#[derive(Debug)]
pub(super) struct Finder {
    options: Arc<RedisOptions>,
    bells: Bells,
    reached: Notify,
}

impl Finder {
    pub(super) fn new(options: Arc<RedisOptions>, bells: Bells) -> Self {
        Self { options, bells, reached: Notify::new() }
    }

    /// Tries each host once.
    pub(super) async fn connect(
        &self,
        role: Role,
        number: u64,
        patience: Duration,
    ) -> Result<Session, ConnectError> {
        let mut errors = Vec::new();
        for host in &self.options.hosts {
            let (options, bells) = (&self.options, &self.bells);
            match Session::open(role, number, host, options, bells, patience).await {
                Ok(session) => {
                    self.reached.notify_waiters();
                    return Ok(session);
                }
                Err(error) => errors.push(error),
            }
        }
        Err(dial::sum_up(errors, &self.options))
    }

    /// Waits until a connection comes about.
    pub(super) async fn reached(&self) {
        self.reached.notified().await;
    }

    pub(super) fn is_single(&self) -> bool {
        self.options.deployment == Deployment::Single
    }
}
