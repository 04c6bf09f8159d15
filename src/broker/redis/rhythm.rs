//! When a reader takes its turns.

use std::time::Duration;

use tokio::time::Instant;

use super::turn::{More, Presence, Turn};

/// How long a queue is not looked at, at most, while nothing is heard of it.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// When a reader does what.
#[derive(Debug)]
pub(super) struct Rhythm {
    /// Number of the next turn.
    pub(super) number: u64,
    /// How many consumers Redis knows of.
    pub(super) told: Option<usize>,
    /// When it is to be said again who is there, and what is held.
    pub(super) tell_at: Instant,
    pub(super) lease: Duration,
    /// When what was settled is told, at the latest.
    pub(super) settle_at: Option<Instant>,
    /// Something kept the queue from being read.
    pub(super) is_troubled: bool,
    /// There may be something in the queue.
    pub(super) look: bool,
    /// When there may be, at the latest.
    pub(super) look_at: Instant,
}

impl Rhythm {
    pub(super) fn new(lease: Duration) -> Self {
        let now = Instant::now();
        let (tell_at, look_at) = (now + lease / 3, now);
        Self {
            number: 0,
            told: None,
            tell_at,
            lease,
            settle_at: None,
            is_troubled: false,
            look: true,
            look_at,
        }
    }

    /// Goes on after a turn.
    pub(super) fn after(&mut self, turn: &Turn, more: More) {
        self.number += 1;
        match turn.presence {
            Presence::Known => {}
            Presence::Here => self.told = Some(turn.consumers),
            Presence::Leaves => self.told = Some(0),
        }
        let wait = match more {
            More::Perhaps | More::Nothing => LOOK_AGAIN,
            More::After(wait) => wait.min(LOOK_AGAIN),
        };
        self.look = more == More::Perhaps;
        self.look_at = Instant::now() + wait;
    }
}
