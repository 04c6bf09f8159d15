//! Which messages were handled, on Redis.

use std::time::Duration;

use async_trait::async_trait;
use redis::Script;

use super::{Lua, Redis, millis};
use crate::{
    message::Id,
    store::{Begun, Deduplication, MessageKey, Outcome, StoreError, record},
};

/// How long whoever waits for another's claim waits before it asks again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

static BEGIN: Lua = Lua::new(|| Script::new(include_str!("begin.lua")));
static DONE: Lua = Lua::new(|| Script::new(include_str!("done.lua")));
static FORGET: Lua = Lua::new(|| Script::new(include_str!("forget.lua")));

/// Remembers handled messages on Redis, with the replies: bounded, expiring, and shared by all that
/// use it. Ages go by the clock of Redis.
///
/// A claim whose process died is let go of after 35 minutes, or what
/// [`claims_for`](Self::claims_for) says: until then the message waits.
#[derive(Clone, Debug)]
pub struct RedisDeduplication {
    redis: Redis,
    limit: usize,
    age: Duration,
    reply_bytes: usize,
    claims: Duration,
}

impl RedisDeduplication {
    pub(super) fn new(redis: Redis) -> Self {
        Self {
            redis,
            limit: 100_000,
            age: Duration::from_hours(1),
            reply_bytes: 64 << 20,
            claims: Duration::from_mins(35),
        }
    }

    /// Sets how many messages are remembered; those not seen for longest go first.
    #[must_use]
    pub fn limit(mut self, messages: usize) -> Self {
        self.limit = messages;
        self
    }

    /// Sets how long a message is remembered after it was seen last.
    #[must_use]
    pub fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// Sets how many bytes the replies may have together; by default 64 MiB.
    #[must_use]
    pub fn reply_bytes(mut self, bytes: usize) -> Self {
        self.reply_bytes = bytes;
        self
    }

    /// Sets after what time a claim is let go of. It must be longer than any handler runs, or a
    /// message is handled a second time meanwhile.
    #[must_use]
    pub fn claims_for(mut self, time: Duration) -> Self {
        self.claims = time;
        self
    }

    fn claim(&self, message: &str) -> String {
        self.redis.key(&format!("claim:{message}"))
    }

    /// What outcomes' keys begin with.
    fn outcomes(&self) -> String {
        self.redis.key("outcome:")
    }
}

#[async_trait]
impl Deduplication for RedisDeduplication {
    async fn begin(&self, key: &MessageKey, claim: &Id) -> Result<Begun, StoreError> {
        let message = record::key(key);
        let mut script = BEGIN.key(self.claim(&message));
        script
            .key(format!("{}{message}", self.outcomes()))
            .key(self.redis.key("outcomes"))
            .key(self.redis.key("replies"))
            .key(self.redis.key("sizes"))
            .key(self.redis.key("bytes"))
            .arg(claim.to_string())
            .arg(millis(self.claims))
            .arg(millis(self.age))
            .arg(&message);
        let (found, message_type, payload): (u8, String, Vec<u8>) = self.redis.run(&script).await?;
        Ok(match found {
            0 => Begun::New,
            1 => Begun::InProgress,
            _ => {
                Begun::Done(Outcome { message_type: message_type.into(), payload: payload.into() })
            }
        })
    }

    async fn done(&self, key: &MessageKey, claim: &Id, outcome: Outcome) -> Result<(), StoreError> {
        let bytes = outcome.payload.len();
        if self.limit == 0 {
            return self.forget(key, claim).await;
        }
        if bytes > self.reply_bytes {
            tracing::warn!(id = %key.id, topic = %key.topic, bytes, "a reply is too large to be kept");
            return self.forget(key, claim).await;
        }
        let message = record::key(key);
        let mut script = DONE.key(self.claim(&message));
        script
            .key(format!("{}{message}", self.outcomes()))
            .key(self.redis.key("outcomes"))
            .key(self.redis.key("replies"))
            .key(self.redis.key("sizes"))
            .key(self.redis.key("bytes"))
            .arg(claim.to_string())
            .arg(millis(self.age))
            .arg(&message)
            .arg(self.outcomes())
            .arg(&*outcome.message_type)
            .arg(&outcome.payload[..])
            .arg(self.limit)
            .arg(self.reply_bytes);
        self.redis.run(&script).await
    }

    async fn forget(&self, key: &MessageKey, claim: &Id) -> Result<(), StoreError> {
        let mut script = FORGET.key(self.claim(&record::key(key)));
        script.arg(claim.to_string());
        self.redis.run(&script).await
    }

    async fn changed(&self, _: &MessageKey) {
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
