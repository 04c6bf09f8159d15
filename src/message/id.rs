//! Identifiers of messages, requests and conversations.

use std::{
    cell::RefCell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use fastrand::Rng;
use uuid::{Builder, Uuid};

/// Bits of the counter that keeps ids of one millisecond in order.
const COUNTER_BITS: u32 = 16;

/// An identifier: ours are UUIDs of version 7, a peer's may be any text.
///
/// Two ids are equal exactly if their texts are.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Uuid(Uuid),
    /// Never the canonical text of a UUID, or equality would depend on the origin.
    Text(Arc<str>),
}

impl Id {
    /// Makes a new id: a UUID of version 7, which sorts by time.
    #[must_use]
    #[allow(clippy::new_without_default)] // each call differs, which a default should not
    pub fn new() -> Self {
        Self(Repr::Uuid(next_uuid()))
    }

    /// Calls `f` with the id's text; a UUID is written into a buffer on the stack.
    pub fn with_str<T>(&self, f: impl FnOnce(&str) -> T) -> T {
        match &self.0 {
            Repr::Uuid(uuid) => f(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Repr::Text(text) => f(text),
        }
    }
}

/// Makes a UUID of version 7: later ones are greater within this process.
///
/// The operating system is asked for randomness once a thread, since asking it for every message
/// costs more than anything else that is done for one.
fn next_uuid() -> Uuid {
    thread_local! {
        static RANDOM: RefCell<Rng> =
            RefCell::new(Rng::with_seed(Uuid::now_v7().as_u64_pair().1));
    }
    static LAST: AtomicU64 = AtomicU64::new(0);

    let random = RANDOM.with_borrow_mut(|random| random.u64(..));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // A millisecond begins anywhere in the lower half of the counter; one that is used up
    // borrows from the next millisecond.
    let begin = u64::try_from(now.as_millis()).unwrap_or(u64::MAX) << COUNTER_BITS
        | random >> (u64::BITS - COUNTER_BITS + 1);
    let next = |last: u64| begin.max(last + 1);
    let mut last = LAST.load(Ordering::Relaxed);
    while let Err(found) =
        LAST.compare_exchange_weak(last, next(last), Ordering::Relaxed, Ordering::Relaxed)
    {
        last = found;
    }
    let [.., high, low] = next(last).to_be_bytes();
    let random = RANDOM.with_borrow_mut(|random| random.u64(..)).to_be_bytes();
    // Twelve bits of the counter stand before the variant, the other four behind it.
    let mut rest = [0; 10];
    rest[..2].copy_from_slice(&(u16::from_be_bytes([high, low]) >> 4).to_be_bytes());
    rest[2..].copy_from_slice(&random);
    rest[2] = (low & 0x0f) << 2 | random[0] & 0x03;
    Builder::from_unix_timestamp_millis(next(last) >> COUNTER_BITS, &rest).into_uuid()
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        match Uuid::try_parse(text) {
            // Upper case, braces and the like must come out as they went in.
            Ok(uuid) if Self(Repr::Uuid(uuid)).with_str(|canonical| canonical == text) => {
                Self(Repr::Uuid(uuid))
            }
            _ => Self(Repr::Text(text.into())),
        }
    }
}

impl From<String> for Id {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_str(|text| f.pad(text))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_str(|text| fmt::Debug::fmt(text, f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_out_as_it_went_in() {
        for text in ["", "order 17", "0198F2A0-0000-7000-8000-000000000000", "größe"] {
            assert_eq!(Id::from(text).to_string(), text);
        }
    }

    #[test]
    fn ids_are_of_version_7_in_order_and_never_the_same() {
        let make = || (0..10_000).map(|_| next_uuid()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(make)).collect();
        let made = threads.into_iter().map(|thread| thread.join().unwrap());
        let mut all = Vec::new();
        for ids in made {
            assert!(ids.is_sorted_by(|a, b| a < b), "in the order in which they were made");
            all.extend(ids);
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 40_000);
        assert_eq!(all[0].get_version_num(), 7);
        assert_eq!(all[0].get_variant(), uuid::Variant::RFC4122);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (seconds, _) = all[0].get_timestamp().unwrap().to_unix();
        assert!(now.abs_diff(seconds) < 60, "{now} {seconds}");
    }

    #[test]
    fn an_id_read_from_its_own_text_is_equal() {
        let id = Id::new();
        assert_eq!(Id::from(id.to_string()), id);
    }
}
