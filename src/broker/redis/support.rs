//! Servers and relays for the tests of the connections.

#[path = "../../../tests/support/port.rs"]
pub(super) mod port;
#[path = "../../../tests/support/redis_server.rs"]
pub(super) mod redis_server;
#[path = "../../../tests/support/relay.rs"]
pub(super) mod relay;
