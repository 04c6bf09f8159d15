//! Stores on Redis: for agents of many machines, which go on where they were after every one of
//! them was restarted.
//!
//! ```no_run
//! use std::sync::Arc;
//! use agentbus::{Client, Config, Runtime, agent::middleware::Deduplicate, store::redis::Redis};
//!
//! # async fn run() -> Result<(), agentbus::Report> {
//! let redis = Redis::open("redis://localhost")?;
//! let client = Client::connect(Config::load()?).await?;
//! Runtime::new(client)
//!     .conversations(Arc::new(redis.conversations()))
//!     .layer(Deduplicate::in_store(Arc::new(redis.deduplication())));
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! Each call is one script, so that of several who ask one gets it. What was stored survives the
//! processes that use it, and Redis itself as far as that keeps its data: with `appendonly yes` and
//! `appendfsync always` all of it, with `everysec` all but the last second. The keys must not be
//! evicted: `maxmemory-policy` is to be `noeviction`.
//!
//! Where Redis cannot be reached, does not answer within two seconds, or refuses (out of memory, a
//! read-only replica), every call is [`StoreError::Unavailable`]: the message waits or is tried
//! again, and is never handled as if the store had said no. A conversation that was taken out with
//! the answer lost is given to whoever asked when it asks again.
//!
//! All keys begin with `agentbus:{stores}:`, or another [name](Redis::named); the braces keep them on
//! one node of a cluster. Redis 6 or later.

mod conversations;
mod deduplication;

use std::{fmt, time::Duration};

use redis::{
    FromRedisValue, Script, ScriptInvocation,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::sync::OnceCell;

pub use self::{conversations::RedisConversations, deduplication::RedisDeduplication};
use super::StoreError;

/// How long a connection or an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// A Redis with stores. A clone uses the same connection.
#[derive(Clone)]
pub struct Redis {
    client: redis::Client,
    /// Made by the first who needs it.
    connection: std::sync::Arc<OnceCell<ConnectionManager>>,
    name: String,
}

impl Redis {
    /// Reads an address such as `redis://user:password@host:6379/0`. The connection is made when it
    /// is first used, and made again by itself when it is lost.
    ///
    /// # Errors
    ///
    /// Returns an error where the address cannot be read; its text leaves the password out.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let client = redis::Client::open(url).map_err(|_| {
            let text =
                "the address of Redis cannot be read; write `redis://user:password@host:6379/0`";
            StoreError::Unavailable(text.into())
        })?;
        let connection = std::sync::Arc::default();
        Ok(Self { client, connection, name: "stores".to_owned() })
    }

    /// Sets the name that tells the keys of one system from those of another; `stores` by default.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Returns the store of conversations here; by default for 100 000 of at most an hour.
    #[must_use]
    pub fn conversations(&self) -> RedisConversations {
        RedisConversations::new(self.clone())
    }

    /// Returns the store of handled messages here; by default for 100 000 messages and an hour.
    #[must_use]
    pub fn deduplication(&self) -> RedisDeduplication {
        RedisDeduplication::new(self.clone())
    }

    fn key(&self, rest: &str) -> String {
        format!("agentbus:{{{}}}:{rest}", self.name)
    }

    /// Runs a script.
    async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        let connection = self.connection.get_or_try_init(async || {
            let config = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(PATIENCE))
                .set_response_timeout(Some(PATIENCE))
                .set_number_of_retries(1);
            ConnectionManager::new_lazy_with_config(self.client.clone(), config)
        });
        let mut connection = connection.await.map_err(unavailable)?.clone();
        script.invoke_async(&mut connection).await.map_err(unavailable)
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("name", &self.name).finish_non_exhaustive()
    }
}

fn unavailable(error: redis::RedisError) -> StoreError {
    StoreError::Unavailable(error.into())
}

/// A script, and its digest, which are made once.
type Lua = std::sync::LazyLock<Script>;

/// Redis takes whole milliseconds above zero.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 50)
}
