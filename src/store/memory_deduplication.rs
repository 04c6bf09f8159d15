//! Deduplication kept in this process.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lru::LruCache;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Begun, Deduplication, MessageKey, Outcome, StoreError};
use crate::message::Id;

/// Remembers handled messages in memory: bounded, expiring, and lost with the process.
///
/// Messages without a reply and those with one are bounded together by number and by age; replies
/// also by their size together. A reply that is larger than all may be together is not kept, and
/// its request is handled again when it is repeated.
#[derive(Debug)]
pub struct MemoryDeduplication {
    limit: usize,
    age: Duration,
    reply_bytes: usize,
    // A std mutex: it is held for a few map operations and never across an await.
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    claimed: HashMap<MessageKey, Claimed>,
    /// Handled, without a reply.
    silent: LruCache<MessageKey, Done>,
    /// Handled, with a reply: apart, so that large replies do not push out the others.
    replied: LruCache<MessageKey, Done>,
    /// How many bytes the replies have together.
    bytes: usize,
}

#[derive(Debug)]
struct Claimed {
    claim: Id,
    /// Made by the first who waits.
    over: Option<CancellationToken>,
}

#[derive(Debug)]
struct Done {
    outcome: Outcome,
    seen: Instant,
}

impl Known {
    /// Finds a handled message that is not too old, and notes that it was seen.
    fn see(&mut self, key: &MessageKey, age: Duration) -> Option<Outcome> {
        let now = Instant::now();
        self.drop_older(now, age);
        for done in [&mut self.silent, &mut self.replied] {
            if let Some(done) = done.get_mut(key) {
                done.seen = now;
                return Some(done.outcome.clone());
            }
        }
        None
    }

    fn drop_older(&mut self, now: Instant, age: Duration) {
        let old = |(_, done): (&MessageKey, &Done)| now.duration_since(done.seen) >= age;
        while self.silent.peek_lru().is_some_and(old) {
            self.silent.pop_lru();
        }
        while self.replied.peek_lru().is_some_and(old) {
            self.drop_reply();
        }
    }

    /// Drops the reply that was not seen for longest.
    fn drop_reply(&mut self) {
        if let Some((_, done)) = self.replied.pop_lru() {
            self.bytes -= done.outcome.payload.len();
        }
    }

    /// Drops the message that was not seen for longest.
    fn drop_one(&mut self) {
        let seen = |done: &LruCache<MessageKey, Done>| done.peek_lru().map(|(_, done)| done.seen);
        match (seen(&self.silent), seen(&self.replied)) {
            (Some(silent), Some(replied)) if replied < silent => self.drop_reply(),
            (None, _) => self.drop_reply(),
            _ => drop(self.silent.pop_lru()),
        }
    }

    fn release(&mut self, key: &MessageKey, claim: &Id) {
        if self.claimed.get(key).is_some_and(|claimed| claimed.claim == *claim)
            && let Some(Claimed { over: Some(over), .. }) = self.claimed.remove(key)
        {
            over.cancel();
        }
    }
}

impl MemoryDeduplication {
    /// Makes a store for `limit` messages, none of which is remembered for longer than `age` after
    /// it was seen last.
    #[must_use]
    pub fn new(limit: usize, age: Duration) -> Self {
        let known = Known {
            claimed: HashMap::new(),
            silent: LruCache::unbounded(),
            replied: LruCache::unbounded(),
            bytes: 0,
        };
        Self { limit, age, reply_bytes: 64 << 20, known: Mutex::new(known) }
    }

    /// Sets how many bytes the replies may have together; by default 64 MiB.
    #[must_use]
    pub fn reply_bytes(mut self, bytes: usize) -> Self {
        self.reply_bytes = bytes;
        self
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryDeduplication {
    /// 100 000 messages, for an hour after they were seen last, with 64 MiB of replies.
    fn default() -> Self {
        Self::new(100_000, Duration::from_hours(1))
    }
}

#[async_trait]
impl Deduplication for MemoryDeduplication {
    async fn begin(&self, key: &MessageKey, claim: &Id) -> Result<Begun, StoreError> {
        let mut known = self.known();
        if let Some(claimed) = known.claimed.get(key) {
            let again = claimed.claim == *claim;
            return Ok(if again { Begun::New } else { Begun::InProgress });
        }
        if let Some(outcome) = known.see(key, self.age) {
            return Ok(Begun::Done(outcome));
        }
        known.claimed.insert(key.clone(), Claimed { claim: claim.clone(), over: None });
        Ok(Begun::New)
    }

    async fn done(&self, key: &MessageKey, claim: &Id, outcome: Outcome) -> Result<(), StoreError> {
        let mut known = self.known();
        let now = Instant::now();
        known.drop_older(now, self.age);
        known.release(key, claim);
        let bytes = outcome.payload.len();
        if self.limit == 0 {
            return Ok(());
        }
        if bytes > self.reply_bytes {
            tracing::warn!(id = %key.id, topic = %key.topic, bytes, "a reply is too large to be kept");
            return Ok(());
        }
        known.silent.pop(key);
        if let Some(before) = known.replied.pop(key) {
            known.bytes -= before.outcome.payload.len();
        }
        while known.silent.len() + known.replied.len() >= self.limit {
            known.drop_one();
        }
        while known.bytes + bytes > self.reply_bytes {
            known.drop_reply();
        }
        known.bytes += bytes;
        let kept = if bytes == 0 { &mut known.silent } else { &mut known.replied };
        kept.put(key.clone(), Done { outcome, seen: now });
        Ok(())
    }

    async fn forget(&self, key: &MessageKey, claim: &Id) -> Result<(), StoreError> {
        self.known().release(key, claim);
        Ok(())
    }

    async fn changed(&self, key: &MessageKey) {
        let over = {
            let mut known = self.known();
            let Some(claimed) = known.claimed.get_mut(key) else { return };
            claimed.over.get_or_insert_default().clone()
        };
        over.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> MessageKey {
        MessageKey {
            agent: "data".into(),
            replica: None,
            sender: Some("query".into()),
            topic: "data.request".into(),
            id: id.into(),
        }
    }

    fn reply(bytes: usize) -> Outcome {
        Outcome { message_type: "test.v1.Answer".into(), payload: vec![7; bytes].into() }
    }

    async fn begin(store: &MemoryDeduplication, id: &str) -> Begun {
        store.begin(&key(id), &"claim".into()).await.unwrap()
    }

    async fn repeat(store: &MemoryDeduplication, id: &str) -> Begun {
        store.begin(&key(id), &"another".into()).await.unwrap()
    }

    /// Handles a message; `false` where it was handled before.
    async fn handle(store: &MemoryDeduplication, id: &str, bytes: usize) -> bool {
        match begin(store, id).await {
            Begun::New => {
                store.done(&key(id), &"claim".into(), reply(bytes)).await.unwrap();
                true
            }
            Begun::Done(outcome) => {
                assert_eq!(outcome, reply(bytes));
                false
            }
            Begun::InProgress => panic!("nobody handles `{id}`"),
        }
    }

    #[tokio::test]
    async fn one_claims_and_the_others_get_its_outcome() {
        let store = MemoryDeduplication::default();
        assert_eq!(begin(&store, "a").await, Begun::New);
        assert_eq!(begin(&store, "a").await, Begun::New, "it may not have got the answer");
        assert_eq!(repeat(&store, "a").await, Begun::InProgress);
        store.done(&key("a"), &"claim".into(), reply(3)).await.unwrap();
        assert_eq!(begin(&store, "a").await, Begun::Done(reply(3)));
    }

    #[tokio::test]
    async fn a_key_is_all_of_its_parts() {
        let store = MemoryDeduplication::default();
        assert!(handle(&store, "a", 0).await);
        for other in [
            MessageKey { agent: "news".into(), ..key("a") },
            MessageKey { replica: Some("1".into()), ..key("a") },
            MessageKey { sender: None, ..key("a") },
            MessageKey { topic: "data.other".into(), ..key("a") },
            key("b"),
        ] {
            assert_eq!(store.begin(&other, &"x".into()).await.unwrap(), Begun::New, "{other:?}");
        }
    }

    #[tokio::test]
    async fn what_is_forgotten_is_new_and_only_the_claimant_forgets() {
        let store = MemoryDeduplication::default();
        assert_eq!(begin(&store, "a").await, Begun::New);
        store.forget(&key("a"), &"another".into()).await.unwrap();
        assert_eq!(repeat(&store, "a").await, Begun::InProgress);
        store.forget(&key("a"), &"claim".into()).await.unwrap();
        assert!(handle(&store, "a", 1).await);
        store.forget(&key("a"), &"claim".into()).await.unwrap();
        assert!(!handle(&store, "a", 1).await, "what was handled stays so");
    }

    #[tokio::test]
    async fn those_who_wait_learn_of_either_end() {
        let store = std::sync::Arc::new(MemoryDeduplication::default());
        store.changed(&key("a")).await; // nobody has claimed it
        for done in [true, false] {
            assert_eq!(begin(&store, "a").await, Begun::New);
            let waiting = tokio::spawn({
                let store = store.clone();
                async move { store.changed(&key("a")).await }
            });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            store.forget(&key("a"), &"claim".into()).await.unwrap();
            if done {
                assert!(handle(&store, "b", 0).await);
            }
            waiting.await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_least_recently_seen_goes_first() {
        let store = MemoryDeduplication::new(3, Duration::from_hours(1));
        for (id, bytes) in [("a", 0), ("b", 1), ("c", 0)] {
            assert!(handle(&store, id, bytes).await);
        }
        assert!(!handle(&store, "a", 0).await, "seen again");
        assert!(handle(&store, "d", 0).await);
        assert!(!handle(&store, "a", 0).await);
        assert!(!handle(&store, "c", 0).await);
        assert!(handle(&store, "b", 1).await, "it was not seen for longest");
    }

    #[tokio::test]
    async fn replies_are_bounded_together_and_leave_the_silent_alone() {
        let store = MemoryDeduplication::default().reply_bytes(100);
        assert!(handle(&store, "silent", 0).await);
        for id in ["a", "b", "c"] {
            assert!(handle(&store, id, 40).await);
        }
        assert_eq!(store.known().bytes, 80);
        assert!(!handle(&store, "b", 40).await);
        assert!(!handle(&store, "silent", 0).await);
        assert!(handle(&store, "a", 40).await, "dropped for the third");
        for _ in 0..2 {
            assert!(handle(&store, "large", 101).await, "never kept");
        }
        let known = store.known();
        assert_eq!((known.bytes, known.replied.len(), known.claimed.len()), (80, 2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_seen_for_an_hour_is_new() {
        let store = MemoryDeduplication::default();
        assert!(handle(&store, "a", 0).await);
        assert!(handle(&store, "b", 9).await);
        tokio::time::advance(Duration::from_mins(59)).await;
        assert!(!handle(&store, "a", 0).await);
        tokio::time::advance(Duration::from_mins(59)).await;
        assert!(!handle(&store, "a", 0).await);
        assert_eq!(store.known().bytes, 0, "what is too old takes no room");
        assert!(handle(&store, "b", 9).await);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(handle(&store, "a", 0).await);
    }

    #[tokio::test]
    async fn a_store_for_nothing_keeps_nothing() {
        let store = MemoryDeduplication::new(0, Duration::from_hours(1));
        for _ in 0..2 {
            assert!(handle(&store, "a", 0).await);
        }
    }
}
