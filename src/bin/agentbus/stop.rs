//! Ctrl-C and SIGTERM.

use std::{io, process};

use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Interrupted};

/// Tells when the user has had enough. A second signal ends the process at once.
#[derive(Clone, Debug)]
pub(crate) struct Stop(CancellationToken);

impl Stop {
    /// Listens for Ctrl-C and, where there is such a thing, SIGTERM.
    pub(crate) fn on_signals() -> anyhow::Result<Self> {
        let stop = Self(CancellationToken::new());
        let first = stop.0.clone();
        let mut signals = Signals::listen()?;
        tokio::spawn(async move {
            loop {
                signals.next().await;
                if first.is_cancelled() {
                    process::exit(Exit::Interrupted as i32);
                }
                first.cancel();
            }
        });
        Ok(stop)
    }

    /// Waits for the first signal; for commands that then finish what they have begun.
    pub(crate) async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Whether the first signal has come.
    pub(crate) fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Does what may be dropped at any time, until it is done or a signal comes.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        self.0.run_until_cancelled(work).await.ok_or(Interrupted)
    }
}

/// The signals that ask a process to end.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The signals that ask a process to end.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // Without the signal there is nothing to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
