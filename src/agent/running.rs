//! Agents at work, until they are stopped.

use std::{collections::HashMap, fmt, future::pending, io, pin::pin, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::sync::watch;
use tokio_util::{sync::DropGuard, task::TaskTracker};

use super::{
    Counts, Signals, counts::Counters, health::HealthBoard, launch::OnStop, worker::Lifecycle,
};
use crate::{broker::Health, client::Client, contract::Name, proto::v1::StopReason};

/// What is left of the grace period when handlers are told to hurry.
const HURRY: f64 = 0.2;

/// How long what was abandoned may take to notice.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Agents at work.
///
/// Dropping it stops the agents from taking messages, without waiting for those being handled.
#[must_use = "dropping this stops the agents"]
pub struct Running {
    client: Client,
    lifecycle: Lifecycle,
    on_stop: Vec<OnStop>,
    counters: HashMap<Name, Arc<Counters>>,
    board: Arc<HealthBoard>,
    guard: DropGuard,
}

/// How agents came to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// What was being handled was finished or given back, and the bus is closed.
    InOrder,
    /// A second signal cut that short. What was being handled will be handled again.
    AtOnce,
}

impl Running {
    pub(super) fn new(
        client: Client,
        lifecycle: Lifecycle,
        on_stop: Vec<OnStop>,
        counters: HashMap<Name, Arc<Counters>>,
        board: Arc<HealthBoard>,
        guard: DropGuard,
    ) -> Self {
        Self { client, lifecycle, on_stop, counters, board, guard }
    }

    /// Returns a client of the same bus.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Tells what became of the messages an agent took; `None` for one that does not run here.
    #[must_use]
    pub fn counts(&self, agent: &str) -> Option<Counts> {
        self.counters.get(agent).map(|counters| counters.read())
    }

    /// Tells how the connection to the bus is; not healthy either while an agent does not consume
    /// that should, or is paused because the bus does not take its retries or dead letters, the
    /// store of its conversations is down, or a
    /// [`CircuitBreaker`](super::middleware::CircuitBreaker) is open.
    ///
    /// What becomes of the bus is logged, too, under the target `agentbus::health`.
    #[must_use]
    pub fn health(&self) -> Health {
        self.board.health()
    }

    /// Watches [`health`](Self::health); what middleware says of itself comes up to a second late.
    ///
    /// After the agents have stopped, the receiver's `changed` is an error.
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.board.watch()
    }

    /// Runs until the process is told to stop (see [`Signals`]), then shuts down
    /// [unless](Self::shutdown_unless) it is told so twice.
    ///
    /// A signal that comes before this is called ends the process, as always; to begin to listen
    /// earlier, use [`run_with`](Self::run_with).
    ///
    /// ```no_run
    /// # use agentbus::{Client, Config, Runtime};
    /// # async fn run() -> Result<(), agentbus::Report> {
    /// let client = Client::connect(Config::load()?).await?;
    /// let agents = Runtime::new(client).start().await?;
    /// agents.run_until_signal().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns what the system said where it does not let the process listen for signals; then
    /// the agents stop as if this were dropped.
    pub async fn run_until_signal(self) -> io::Result<Ended> {
        Ok(self.run_with(Signals::listen()?).await)
    }

    /// Runs until the first of `signals`, then shuts down [unless](Self::shutdown_unless) there is
    /// a second.
    pub async fn run_with(self, mut signals: Signals) -> Ended {
        signals.next().await;
        let _ = self.lifecycle.why.set(StopReason::Signal);
        tracing::info!("told to stop; once more ends it at once");
        self.shutdown_unless(signals.next()).await
    }

    /// Runs until `end` is, then [shuts down](Self::shutdown), and returns what `end` came to.
    ///
    /// No signal is listened for. An `end` that panics, or a future that is dropped, stops the
    /// agents from taking messages.
    pub async fn run_until<T>(self, end: impl Future<Output = T>) -> T {
        let outcome = end.await;
        self.shutdown().await;
        outcome
    }

    /// [Stops](Self::stop) the agents, then flushes and closes the bus for all clones of the
    /// client.
    ///
    /// # Cancel safety
    ///
    /// As [`stop`](Self::stop); the bus may stay open.
    pub async fn shutdown(self) {
        self.shutdown_unless(pending()).await;
    }

    /// [Shuts down](Self::shutdown), unless `at_once` comes first: then it ends at once, whatever is
    /// still being handled.
    ///
    /// At once means within two seconds: handlers are dropped and their messages given back,
    /// `on_stop` is not called, and the replicas' own queues expire by themselves. A handler that
    /// blocks its thread can be left behind only together with the process.
    ///
    /// # Cancel safety
    ///
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_unless(self, at_once: impl Future<Output = ()>) -> Ended {
        let (client, lifecycle) = (self.client.clone(), self.lifecycle.clone());
        {
            let in_order = pin!(async {
                self.stop().await;
                client.close().await;
            });
            tokio::select! {
                () = in_order => return Ended::InOrder,
                () = at_once => {}
            }
        }
        tracing::warn!("ending at once; what is being handled will be handled again");
        lifecycle.hurry.cancel();
        lifecycle.abandon.cancel();
        wait(&lifecycle.tasks, LAST_WAIT).await;
        // For what was given back to arrive; with the connection, the bus takes back the rest.
        drop(tokio::time::timeout(LAST_WAIT, client.close()).await);
        Ended::AtOnce
    }

    /// Stops taking messages and waits for those being handled, at most the configuration's
    /// `shutdown_grace`.
    ///
    /// Shortly before that is over, [`Context::cancelled`](super::Context::cancelled) resolves;
    /// what still runs at the end is dropped, and its message given back to be handled again with
    /// its attempt number unchanged. Then each agent's `on_stop` is called, and has as long again.
    /// The replicas' own queues are deleted. The client stays open: close it with
    /// [`Client::close`], or do both by [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// A dropped future stops the agents from taking messages, and `on_stop` may not be called.
    pub async fn stop(self) {
        let grace = self.client.config().shutdown_grace;
        let _ = self.lifecycle.why.set(StopReason::Requested);
        let Self { lifecycle, on_stop, guard, .. } = self;
        drop(guard);
        lifecycle.tasks.close();
        let patience = grace.mul_f64(1.0 - HURRY);
        if !wait(&lifecycle.tasks, patience).await {
            lifecycle.hurry.cancel();
            if !wait(&lifecycle.tasks, grace.saturating_sub(patience)).await {
                tracing::warn!(?grace, "gave messages back that were still being handled");
                lifecycle.abandon.cancel();
                if !wait(&lifecycle.tasks, LAST_WAIT).await {
                    tracing::error!("left handlers behind that block their threads");
                }
            }
        }
        let ended = tokio::time::timeout(grace.max(LAST_WAIT), join_all(on_stop)).await;
        if ended.is_err() {
            tracing::error!(?grace, "left an `on_stop` behind that did not end");
        }
    }
}

#[cfg(feature = "testing")]
impl Running {
    /// Ends the agents as the death of their process would: handlers are dropped where they wait.
    pub(crate) async fn kill(self) {
        let Self { lifecycle, guard, .. } = self;
        drop(guard);
        lifecycle.tasks.close();
        lifecycle.abandon.cancel();
        wait(&lifecycle.tasks, LAST_WAIT).await;
    }
}

async fn wait(tasks: &TaskTracker, limit: Duration) -> bool {
    tokio::time::timeout(limit, tasks.wait()).await.is_ok()
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("client", &self.client)
            .field("agents", &self.counters.keys())
            .finish_non_exhaustive()
    }
}
