//! What became of an agent's messages, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What became of the messages an agent took, since it started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn read(&self) -> Counts {
                Counts { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counts! {
    /// Messages whose handler returned `Ok`, or an error as the answer.
    handled,
    /// Copies published for another attempt.
    retried,
    /// Copies published because a handler asked to be called later.
    snoozed,
    /// Messages moved to the dead letters.
    dead_lettered,
    /// Messages dropped because they came, or would have been tried again, after they had expired,
    /// or came after their deadline. Those that a route keeps are counted as dead letters.
    expired,
    /// Messages that are being handled at present, those that are held or wait included, but not those
    /// that have been collected for a batch.
    in_flight,
    /// Messages that are held at present, because the bus does not take their retry copy or dead
    /// letter; as long as there are any, the agent takes fewer others or none.
    held,
    /// Messages that wait at present in middleware: for a [`Throttle`](super::middleware::Throttle),
    /// an open [`CircuitBreaker`](super::middleware::CircuitBreaker), or the first of two that are
    /// the same ([`Deduplicate`](super::middleware::Deduplicate)).
    waiting,
    /// Of those handled, the ones that had been before, and were ended as then without calling the
    /// handler ([`Deduplicate`](super::middleware::Deduplicate)).
    duplicates,
    /// Replies that could not be delivered, since nobody waits for them any more.
    undeliverable_replies,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one more until the guard is dropped.
    pub(super) fn hold(&self) -> Held<'_> {
        self.add_one();
        Held(self)
    }
}

/// One of those that a counter counts at present.
pub(super) struct Held<'a>(&'a Counter);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
