//! Conversations kept in this process.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{Conversation, Conversations, Expiry, Scope, StoreError};
use crate::{
    contract::Name,
    message::{Id, Timestamp},
};

/// Keeps conversations in memory: bounded, expiring, and lost with the process.
#[derive(Debug)]
pub struct MemoryConversations {
    limit: usize,
    ttl: Duration,
    scope: Scope,
    // A std mutex: it is held for a few map operations and never across an await.
    waiting: Mutex<Waiting>,
    /// Told when an earlier deadline than all others was added.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    by_id: HashMap<(Name, Id), Conversation>,
    by_deadline: BTreeSet<(Name, Timestamp, Id)>,
}

impl Waiting {
    fn remove(&mut self, agent: &str, id: &Id) -> Option<Conversation> {
        let conversation = self.by_id.remove(&(agent.into(), id.clone()))?;
        self.by_deadline.remove(&key(&conversation));
        Some(conversation)
    }

    /// The conversation of `agent` with the earliest deadline.
    fn first(&self, agent: &str) -> Option<(Timestamp, Id)> {
        let start = (Name::from(agent), Timestamp::from_millis(0), Id::from(""));
        let (name, deadline, id) = self.by_deadline.range(start..).next()?;
        (name == agent).then(|| (*deadline, id.clone()))
    }
}

fn key(conversation: &Conversation) -> (Name, Timestamp, Id) {
    (conversation.agent.clone(), conversation.deadline, conversation.id.clone())
}

impl MemoryConversations {
    /// Makes a store for `limit` conversations, none of which waits longer than `ttl`.
    #[must_use]
    pub fn new(limit: usize, ttl: Duration) -> Self {
        let waiting = Mutex::default();
        Self { limit, ttl, scope: Scope::Process, waiting, earlier: Notify::new() }
    }

    /// Makes this the store of several replicas of an agent within one process, each started with
    /// a runtime of its own: an answer or a deadline then comes to any of them.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use agentbus::{Client, Runtime, broker::memory::Memory, store::MemoryConversations};
    /// let client = Client::new(Memory::default());
    /// let store = Arc::new(MemoryConversations::default().shared_by_replicas());
    /// let replicas = [1, 2].map(|_| Runtime::new(client.clone()).conversations(store.clone()));
    /// # drop(replicas);
    /// ```
    #[must_use]
    pub fn shared_by_replicas(mut self) -> Self {
        self.scope = Scope::Shared;
        self
    }

    fn insert(&self, conversation: Conversation, limit: usize) -> Result<(), StoreError> {
        {
            let mut waiting = self.waiting();
            waiting.remove(&conversation.agent, &conversation.id);
            if waiting.by_id.len() >= limit {
                return Err(StoreError::Full { limit });
            }
            waiting.by_deadline.insert(key(&conversation));
            let id = (conversation.agent.clone(), conversation.id.clone());
            waiting.by_id.insert(id, conversation);
        }
        self.earlier.notify_waiters();
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryConversations {
    /// 100 000 conversations of at most an hour.
    fn default() -> Self {
        Self::new(100_000, Duration::from_hours(1))
    }
}

#[async_trait]
impl Conversations for MemoryConversations {
    fn scope(&self) -> Scope {
        self.scope
    }

    async fn save(&self, conversation: Conversation) -> Result<(), StoreError> {
        let asked = conversation.deadline.remaining();
        if asked > self.ttl {
            return Err(StoreError::TooLong { asked, kept: self.ttl });
        }
        self.insert(conversation, self.limit)
    }

    async fn put_back(&self, conversation: Conversation) -> Result<(), StoreError> {
        self.insert(conversation, usize::MAX)
    }

    async fn take(&self, agent: &str, id: &Id) -> Result<Option<Conversation>, StoreError> {
        Ok(self.waiting().remove(agent, id))
    }

    async fn take_expired(&self, agent: &str, id: &Id) -> Result<Expiry, StoreError> {
        let mut waiting = self.waiting();
        let Some(conversation) = waiting.by_id.get(&(agent.into(), id.clone())) else {
            return Ok(Expiry::Gone);
        };
        if !conversation.deadline.has_passed() {
            return Ok(Expiry::NotYet(conversation.deadline));
        }
        let expired = waiting.remove(agent, id).map(Box::new);
        Ok(expired.map_or(Expiry::Gone, Expiry::Expired))
    }

    async fn next_expired(&self, agent: &str) -> Result<Conversation, StoreError> {
        loop {
            let mut earlier = std::pin::pin!(self.earlier.notified());
            // Registered before looking, so that what is saved in between is not missed.
            earlier.as_mut().enable();
            // Looked at and taken out under one lock: in between it might be put back anew.
            let next = {
                let mut waiting = self.waiting();
                match waiting.first(agent) {
                    Some((deadline, id)) if deadline.has_passed() => {
                        if let Some(conversation) = waiting.remove(agent, &id) {
                            return Ok(conversation);
                        }
                        continue;
                    }
                    next => next,
                }
            };
            match next {
                Some((deadline, _)) => tokio::select! {
                    () = tokio::time::sleep(deadline.remaining()) => {}
                    () = earlier => {}
                },
                None => earlier.await,
            }
        }
    }

    async fn count(&self) -> Result<usize, StoreError> {
        Ok(self.waiting().by_id.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(id: &str, seconds: u64) -> Conversation {
        Conversation {
            id: id.into(),
            agent: "query".into(),
            follow_up: "with-news".into(),
            topic: "news.request".into(),
            state: "{}".into(),
            asked_at: Timestamp::now(),
            deadline: Timestamp::now().after(Duration::from_secs(seconds)),
            conversation_id: None,
            causation_id: None,
            traceparent: None,
            attempt: 1,
        }
    }

    #[tokio::test]
    async fn a_conversation_is_taken_once_and_by_its_agent() {
        let store = MemoryConversations::default();
        store.save(conversation("a", 30)).await.unwrap();
        assert_eq!(store.take("data", &"a".into()).await.unwrap(), None);
        assert!(store.take("query", &"a".into()).await.unwrap().is_some());
        assert_eq!(store.take("query", &"a".into()).await.unwrap(), None);
        assert_eq!(store.count().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn conversations_of_two_agents_do_not_meet() {
        let store = MemoryConversations::default();
        let other = Conversation { agent: "data".into(), ..conversation("a", 60) };
        store.save(other.clone()).await.unwrap();
        store.save(conversation("a", 30)).await.unwrap();
        let taken = store.take("query", &"a".into()).await.unwrap().unwrap();
        assert_eq!(taken.agent, "query");
        assert_eq!(store.take("data", &"a".into()).await.unwrap(), Some(other));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_expires_for_its_own_agent() {
        let store = MemoryConversations::default();
        let earlier = Conversation { agent: "data".into(), ..conversation("a", 5) };
        store.save(earlier).await.unwrap();
        store.save(conversation("a", 30)).await.unwrap();
        assert_eq!(store.next_expired("query").await.unwrap().agent, "query");
        assert_eq!(store.next_expired("data").await.unwrap().agent, "data");
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_is_taken_at_its_deadline_and_not_before() {
        let store = MemoryConversations::default();
        let saved = conversation("a", 30);
        store.save(saved.clone()).await.unwrap();
        let expiry = async || store.take_expired("query", &"a".into()).await.unwrap();
        assert_eq!(expiry().await, Expiry::NotYet(saved.deadline));
        assert_eq!(store.take_expired("data", &"a".into()).await.unwrap(), Expiry::Gone);
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(expiry().await, Expiry::Expired(saved.into()));
        assert_eq!(expiry().await, Expiry::Gone);
    }

    #[tokio::test]
    async fn what_was_taken_out_may_always_come_back() {
        let store = MemoryConversations::new(1, Duration::from_mins(1));
        store.save(conversation("a", 30)).await.unwrap();
        let late = conversation("b", 600);
        store.put_back(late.clone()).await.unwrap();
        assert_eq!(store.take("query", &"b".into()).await.unwrap(), Some(late));
    }

    #[tokio::test]
    async fn a_full_store_refuses_and_keeps_what_it_has() {
        let store = MemoryConversations::new(1, Duration::from_mins(1));
        store.save(conversation("a", 30)).await.unwrap();
        assert!(matches!(
            store.save(conversation("b", 30)).await,
            Err(StoreError::Full { limit: 1 })
        ));
        assert!(store.take("query", &"a".into()).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_conversation_longer_than_the_store_keeps_it_is_refused() {
        let store = MemoryConversations::new(1, Duration::from_mins(1));
        assert!(matches!(store.save(conversation("a", 90)).await, Err(StoreError::TooLong { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_deadline_expires_first_even_if_saved_last() {
        let store = std::sync::Arc::new(MemoryConversations::default());
        store.save(conversation("late", 30)).await.unwrap();
        let first = tokio::spawn({
            let store = store.clone();
            async move { store.next_expired("query").await.unwrap().id }
        });
        tokio::task::yield_now().await;
        store.save(conversation("early", 5)).await.unwrap();
        assert_eq!(first.await.unwrap(), "early".into());
        assert_eq!(store.next_expired("query").await.unwrap().id, "late".into());
    }
}
