//! Conversations on Redis.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use redis::Script;
use tokio::sync::oneshot;

use super::{Lua, Redis, millis};
use crate::{
    message::{Id, Timestamp},
    store::{Conversation, Conversations, Expiry, Scope, StoreError, handover::Handover, record},
};

/// How long it is kept who took a conversation out, for one who has not heard.
const REMEMBERED: Duration = Duration::from_mins(10);

/// How many takes whose answer was lost are remembered.
const MOST_UNHEARD: usize = 100_000;

/// How often, and how long apart, what was taken out for nobody is put back.
const PUT_BACK_ATTEMPTS: u32 = 60;
const PUT_BACK_AGAIN: Duration = Duration::from_secs(1);

/// How long [`Conversations::next_expired`] waits at most before it looks again: another process may
/// have added an earlier deadline.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

static SAVE: Lua = Lua::new(|| Script::new(include_str!("save.lua")));
static TAKE: Lua = Lua::new(|| Script::new(include_str!("take.lua")));
static COUNT: Lua = Lua::new(|| Script::new(include_str!("count.lua")));
static FIRST: Lua = Lua::new(|| Script::new(include_str!("first.lua")));

/// Keeps conversations on Redis, where they survive every process of ours; shared by all that use
/// it.
#[derive(Clone, Debug)]
pub struct RedisConversations {
    redis: Redis,
    limit: usize,
    ttl: Duration,
    /// Under which name a conversation was asked for, where the answer was not heard.
    unheard: Arc<Mutex<HashMap<(String, String), String>>>,
}

/// What the script for taking out answers: 0 for none, 1 for one that is not due and its deadline,
/// 2 for one and its record.
type Taken = (u8, String);

impl RedisConversations {
    pub(super) fn new(redis: Redis) -> Self {
        let ttl = Duration::from_hours(1);
        Self { redis, limit: 100_000, ttl, unheard: Arc::default() }
    }

    /// Sets how many conversations there may be, of all agents together.
    #[must_use]
    pub fn limit(mut self, conversations: usize) -> Self {
        self.limit = conversations;
        self
    }

    /// Sets how long a conversation may wait. One that nobody comes for is removed that long after
    /// its deadline.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Stores a conversation, unless there are `limit`; `false` then.
    async fn store(&self, conversation: &Conversation, limit: i64) -> Result<bool, StoreError> {
        let (agent, id) = (&*conversation.agent, conversation.id.to_string());
        let kept = conversation.deadline.after(self.ttl);
        let mut script = SAVE.key(self.of(agent, &id));
        script
            .key(self.redis.key("conversations"))
            .arg(record::write(conversation))
            .arg(conversation.deadline.as_millis())
            .arg(millis(kept.remaining()))
            .arg(kept.as_millis())
            .arg(limit)
            .arg(member(agent, &id))
            .arg(Timestamp::now().as_millis());
        self.redis.run(&script).await
    }

    async fn ask(&self, agent: String, id: String, due: u64) -> Result<Taken, StoreError> {
        let asked = (agent, id);
        // Under the same name as before, where that was not heard.
        let before = self.unheard().get(&asked).cloned();
        let name = before.unwrap_or_else(|| Id::new().to_string());
        let (agent, id) = &asked;
        let mut script = TAKE.key(self.of(agent, id));
        script
            .key(self.redis.key("conversations"))
            .arg(&name)
            .arg(millis(REMEMBERED))
            .arg(member(agent, id))
            .arg(due);
        let taken = self.redis.run(&script).await;
        let mut unheard = self.unheard();
        if taken.is_ok() {
            unheard.remove(&asked);
        } else if unheard.len() < MOST_UNHEARD {
            unheard.insert(asked, name);
        }
        taken
    }

    /// Takes a conversation out if its deadline is at most `due`; where nobody waits for it any
    /// more, it is put back.
    async fn take_out(&self, agent: &str, id: &Id, due: u64) -> Result<Taken, StoreError> {
        let (answer, answered) = oneshot::channel();
        let (this, agent, id) = (self.clone(), agent.to_owned(), id.to_string());
        tokio::spawn(async move {
            let taken = this.ask(agent, id, due).await;
            let runtime = tokio::runtime::Handle::current();
            let undo = move |(found, text): Taken| {
                if found == 2 {
                    runtime.spawn(async move { this.return_unwanted(&text).await });
                }
            };
            drop(answer.send(taken.map(|taken| Handover::new(taken, undo))));
        });
        let gone = || StoreError::Unavailable("the runtime is shutting down".into());
        let taken = answered.await.map_err(|_| gone())??;
        taken.accept().ok_or_else(gone)
    }

    async fn return_unwanted(&self, text: &str) {
        let Ok(conversation) = record::read(text) else { return };
        for _ in 0..PUT_BACK_ATTEMPTS {
            match self.put_back(conversation.clone()).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(id = %conversation.id, %error, "cannot put a conversation back");
                }
            }
            tokio::time::sleep(PUT_BACK_AGAIN).await;
        }
    }

    fn of(&self, agent: &str, id: &str) -> String {
        self.redis.key(&format!("conversation:{}", member(agent, id)))
    }

    fn unheard(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), String>> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Conversations for RedisConversations {
    fn scope(&self) -> Scope {
        Scope::Shared
    }

    async fn save(&self, conversation: Conversation) -> Result<(), StoreError> {
        let asked = conversation.deadline.remaining();
        if asked > self.ttl {
            return Err(StoreError::TooLong { asked, kept: self.ttl });
        }
        let limit = i64::try_from(self.limit).unwrap_or(i64::MAX);
        let stored = self.store(&conversation, limit).await?;
        if stored { Ok(()) } else { Err(StoreError::Full { limit: self.limit }) }
    }

    async fn put_back(&self, conversation: Conversation) -> Result<(), StoreError> {
        self.store(&conversation, -1).await.map(drop)
    }

    async fn take(&self, agent: &str, id: &Id) -> Result<Option<Conversation>, StoreError> {
        match self.take_out(agent, id, u64::MAX >> 12).await? {
            (2, text) => record::read(&text).map(Some),
            _ => Ok(None),
        }
    }

    async fn take_expired(&self, agent: &str, id: &Id) -> Result<Expiry, StoreError> {
        match self.take_out(agent, id, Timestamp::now().as_millis()).await? {
            (2, text) => Ok(Expiry::Expired(record::read(&text)?.into())),
            (1, deadline) => {
                Ok(Expiry::NotYet(Timestamp::from_millis(deadline.parse().unwrap_or_default())))
            }
            _ => Ok(Expiry::Gone),
        }
    }

    async fn next_expired(&self, agent: &str) -> Result<Conversation, StoreError> {
        loop {
            let mut script = FIRST.key(self.redis.key("conversations"));
            script.arg(prefix(agent));
            let members: Vec<(String, u64)> = self.redis.run(&script).await?;
            let ttl = millis(self.ttl);
            let mut wait = LOOK_AGAIN;
            for (id, kept) in members {
                let deadline = Timestamp::from_millis(kept.saturating_sub(ttl));
                if !deadline.has_passed() {
                    wait = wait.min(deadline.remaining());
                    break;
                }
                let id = id.as_str().into();
                if let Expiry::Expired(conversation) = self.take_expired(agent, &id).await? {
                    return Ok(*conversation);
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn count(&self) -> Result<usize, StoreError> {
        let mut script = COUNT.key(self.redis.key("conversations"));
        script.arg(Timestamp::now().as_millis());
        self.redis.run(&script).await
    }
}

/// What the members of an agent's conversations begin with in the index. An agent's name has no
/// white space.
fn prefix(agent: &str) -> String {
    format!("{agent} ")
}

fn member(agent: &str, id: &str) -> String {
    format!("{}{id}", prefix(agent))
}
