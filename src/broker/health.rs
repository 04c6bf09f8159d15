//! How the connection to an engine is.

use std::fmt;

/// The health of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// How far the connection is.
    pub stage: Stage,
    /// What keeps it from being further, in words; empty when all is well.
    pub detail: String,
}

/// How far the connection to the engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stage {
    /// Closed by this process.
    Closed,
    /// Not connected: dialling, or waiting to dial again.
    Dialling,
    /// Connected, but the engine takes no messages at present (an alarm).
    Blocked,
    /// Connected; a consumer that should consume does not.
    Connected,
    /// Connected, and every consumer consumes.
    Consuming,
}

impl Health {
    /// Returns the health of a backend at a stage, with nothing to add.
    #[must_use]
    pub fn at(stage: Stage) -> Self {
        Self { stage, detail: String::new() }
    }

    /// Logs that a backend has come to this stage: the target is `agentbus::health`, the fields are
    /// `backend`, `stage` and `detail`.
    pub(super) fn log(&self, backend: &'static str) {
        let Self { stage, detail } = self;
        match stage {
            Stage::Consuming | Stage::Closed => {
                tracing::info!(target: "agentbus::health", backend, %stage, "the bus is {stage}");
            }
            Stage::Dialling | Stage::Blocked | Stage::Connected => {
                tracing::warn!(target: "agentbus::health", backend, %stage, detail, "the bus is {stage}");
            }
        }
    }

    /// Tells whether messages flow in both directions.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.stage == Stage::Consuming
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => "closed",
            Self::Dialling => "dialling",
            Self::Blocked => "blocked",
            Self::Connected => "connected",
            Self::Consuming => "consuming",
        })
    }
}
