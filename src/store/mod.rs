//! The store ports: what agents remember between messages.
//!
//! | store | conversations, handled messages | survives | shared by |
//! |---|---|---|---|
//! | memory | [`MemoryConversations`], [`MemoryDeduplication`] | nothing | one process |
//! | SQLite (feature `sqlite`) | `sqlite::SqliteConversations`, `SqliteDeduplication` | processes, crashes of the machine | processes of one machine |
//! | Redis (feature `redis`) | `redis::RedisConversations`, `RedisDeduplication` | processes; Redis as far as that is persistent | everybody |
//!
//! A store that is down has not said no: its methods return [`StoreError::Unavailable`], and the
//! message waits or is tried again. One suite of tests holds all of them to the same behaviour;
//! `docs/stores.md` compares them.

mod conversations;
mod deduplication;
#[cfg(any(feature = "redis", feature = "sqlite"))]
mod handover;
mod memory;
mod memory_deduplication;
#[cfg(any(feature = "redis", feature = "sqlite"))]
mod record;

#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use self::{
    conversations::{Conversation, Conversations, Expiry, Scope, StoreError},
    deduplication::{Begun, Deduplication, MessageKey, Outcome},
    memory::MemoryConversations,
    memory_deduplication::MemoryDeduplication,
};
