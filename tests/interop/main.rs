//! Messages of clients that know nothing of agentbus, on a real RabbitMQ.

#[path = "../support/mod.rs"]
mod support;

mod cloud_events;
mod foreign_exchange;
mod headers;
mod listener;
mod metadata;
mod types;
mod worked_example;
