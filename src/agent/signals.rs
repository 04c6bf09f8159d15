//! What tells a process to stop.

use std::{fmt, io};

/// The signals by which a process is told to stop: SIGTERM and SIGINT on Unix, Ctrl-C and
/// Ctrl-Break on Windows.
///
/// From [`listen`](Self::listen) on, and for as long as the process lives, they no longer end it
/// by themselves. So listen before the process says that it is ready, and see to it that somebody
/// waits for them: [`Running::run_with`](super::Running::run_with) does.
pub struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(windows)]
    ctrl_c: tokio::signal::windows::CtrlC,
    #[cfg(windows)]
    ctrl_break: tokio::signal::windows::CtrlBreak,
}

impl Signals {
    /// Begins to listen. What comes from now on is not missed, though several that come before
    /// the next look count as one.
    ///
    /// # Errors
    ///
    /// Returns what the system said where it does not let the process listen.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime, and in one without I/O (`enable_all`, as `#[tokio::main]`
    /// has it).
    pub fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            })
        }
        #[cfg(windows)]
        {
            use tokio::signal::windows::{ctrl_break, ctrl_c};
            Ok(Self { ctrl_c: ctrl_c()?, ctrl_break: ctrl_break()? })
        }
        #[cfg(not(any(unix, windows)))]
        {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    ///
    /// A dropped future takes no signal with it.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(windows)]
        tokio::select! {
            _ = self.ctrl_c.recv() => {}
            _ = self.ctrl_break.recv() => {}
        }
        #[cfg(not(any(unix, windows)))]
        std::future::pending::<()>().await;
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}
