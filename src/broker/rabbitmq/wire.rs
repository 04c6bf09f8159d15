//! The sockets below a connection: what passes them, and the means to end them.
//!
//! lapin closes a connection by asking the peer, and so never ends one that is mute. Ours can be
//! cut from outside; lapin then sees an error, and gives up at once.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio_util::sync::CancellationToken;

/// How many bytes tell, once they are written, that somebody takes them.
const TAKEN: u64 = 64 << 10;

/// The sockets of one dial, of which one becomes the connection's.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire(Arc<Ends>);

#[derive(Debug, Default)]
struct Ends {
    cut: CancellationToken,
    /// Bytes that arrived, without heartbeats.
    heard: AtomicU64,
    sent: AtomicU64,
}

/// What has passed a wire at some time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    heard: u64,
    sent: u64,
}

impl Wire {
    /// Ends the sockets, those that are still being opened included.
    pub(super) fn cut(&self) {
        self.0.cut.cancel();
    }

    /// Returns what tells of the cut.
    pub(super) fn is_cut(&self) -> &CancellationToken {
        &self.0.cut
    }

    pub(super) fn hear(&self, bytes: usize) {
        self.0.heard.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn send(&self, bytes: usize) {
        self.0.sent.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn traffic(&self) -> Traffic {
        Traffic { heard: self.0.heard.load(Relaxed), sent: self.0.sent.load(Relaxed) }
    }
}

impl Traffic {
    /// Tells whether the peer has shown itself alive since `earlier`: by a word, or by taking much.
    ///
    /// Heartbeats do not count: a broker sends them whatever has become of the rest of it.
    pub(super) fn is_alive_since(self, earlier: Self) -> bool {
        self.heard > earlier.heard || self.sent - earlier.sent >= TAKEN
    }
}

/// The wire of the present dial, for whoever opens its sockets.
#[derive(Clone, Debug, Default)]
pub(super) struct Wires(Arc<Mutex<Wire>>);

impl Wires {
    /// Begins a dial.
    pub(super) fn renew(&self) -> Wire {
        let wire = Wire::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&wire);
        wire
    }

    pub(super) fn present(&self) -> Wire {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_or_much_that_is_taken_shows_life() {
        let wire = Wire::default();
        let start = wire.traffic();
        assert!(!wire.traffic().is_alive_since(start));
        wire.send(100);
        assert!(!wire.traffic().is_alive_since(start), "a socket takes a little from nobody");
        wire.send(64 << 10);
        assert!(wire.traffic().is_alive_since(start));
        let later = wire.traffic();
        wire.hear(1);
        assert!(wire.traffic().is_alive_since(later));
    }

    #[test]
    fn each_dial_has_a_wire_of_its_own() {
        let wires = Wires::default();
        let first = wires.renew();
        let second = wires.renew();
        first.cut();
        assert!(first.is_cut().is_cancelled() && !second.is_cut().is_cancelled());
        second.cut();
        assert!(wires.present().is_cut().is_cancelled());
    }
}
