//! The places where stores keep what they are given.

use std::{sync::Arc, time::Duration};

use agentbus::store::{Conversations, Deduplication, MemoryConversations, MemoryDeduplication};

/// Bounds of a store of handled messages.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) limit: usize,
    pub(crate) age: Duration,
    pub(crate) reply_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { limit: 1000, age: Duration::from_hours(1), reply_bytes: 1 << 20 }
    }
}

/// A place of one test's own.
pub(crate) enum Place {
    Memory,
    #[cfg(feature = "sqlite")]
    Sqlite(crate::sqlite::File),
    #[cfg(feature = "redis")]
    Redis(Box<crate::redis::Keys>),
}

impl Place {
    pub(crate) fn conversations(&self, limit: usize, ttl: Duration) -> Arc<dyn Conversations> {
        match self {
            Self::Memory => Arc::new(MemoryConversations::new(limit, ttl).shared_by_replicas()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(file.sqlite.conversations().limit(limit).ttl(ttl)),
            #[cfg(feature = "redis")]
            Self::Redis(keys) => Arc::new(keys.redis.conversations().limit(limit).ttl(ttl)),
        }
    }

    pub(crate) fn deduplication(&self, bounds: Bounds) -> Arc<dyn Deduplication> {
        let Bounds { limit, age, reply_bytes } = bounds;
        match self {
            Self::Memory => Arc::new(MemoryDeduplication::new(limit, age).reply_bytes(reply_bytes)),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => {
                let store = file.sqlite.deduplication().limit(limit).age(age);
                Arc::new(store.reply_bytes(reply_bytes))
            }
            #[cfg(feature = "redis")]
            Self::Redis(keys) => {
                let store = keys.redis.deduplication().limit(limit).age(age);
                Arc::new(store.reply_bytes(reply_bytes))
            }
        }
    }
}
