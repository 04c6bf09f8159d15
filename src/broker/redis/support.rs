//! Servers and relays for the tests of the connections.
#![allow(dead_code, missing_docs, unreachable_pub)] // they are also for others

#[path = "../../../tests/support/rabbitmq/port.rs"]
pub(crate) mod port;
#[path = "../../../tests/support/redis_server.rs"]
pub(crate) mod redis_server;
#[path = "../../../tests/support/relay.rs"]
pub(crate) mod relay;

/// Where the relay looks for ports.
pub(crate) mod rabbitmq {
    pub(crate) use super::port;
}
