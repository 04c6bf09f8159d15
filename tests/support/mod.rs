//! What the tests of agents share: messages, buses, and ways to wait.

#![allow(dead_code, missing_docs, unreachable_pub)] // each test uses a part

pub mod bus;
pub mod curious;
#[cfg(feature = "rabbitmq")]
pub mod foreign;
pub mod garbage;
pub mod messages;
pub mod rabbitmq;
pub mod recorder;
#[cfg(feature = "redis")]
pub mod redis;
pub mod redis_server;
pub mod relay;

use std::time::Duration;

pub use self::rabbitmq::port;

/// Waits until `check` yields something, at most a minute.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "still waiting for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
