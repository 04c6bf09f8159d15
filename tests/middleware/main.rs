//! What comes between the bus and a handler: each message once, not too many at a time, and none
//! while what they need does not work.

#[path = "../support/mod.rs"]
mod support;

mod circuit_breaker;
mod deduplicate;
mod throttle;
mod worker;
