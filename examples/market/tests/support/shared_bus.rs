//! A RabbitMQ and a Redis that processes of one test share.

#[path = "../../../../tests/support/rabbitmq/mod.rs"]
mod rabbitmq;
#[path = "../../../../tests/support/redis.rs"]
mod redis;

use std::process::Command;

use agentbus::{Config, config::BusUrl};

use super::{Ran, Served, market};

/// Names on a broker that no other test has.
pub struct SharedBus(Config);

impl SharedBus {
    /// Returns a bus of each kind there is, after saying why there are no others.
    pub fn all() -> Vec<Self> {
        rabbitmq::config().into_iter().chain(redis::config()).map(Self).collect()
    }

    fn is_redis(&self) -> bool {
        matches!(self.0.bus, BusUrl::Redis(_))
    }

    /// The program, on this bus.
    pub fn market(&self, arguments: &[&str]) -> Command {
        let address = if self.is_redis() { redis::url() } else { rabbitmq::address(&self.0) };
        let mut command = market(arguments);
        command.args(["--bus", &address]);
        command.env("AGENTBUS_EXCHANGE", &self.0.exchange);
        command.env("AGENTBUS_QUEUE_PREFIX", &self.0.queue_prefix);
        command
    }

    pub fn ask(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.market(&[&["ask"], arguments].concat()))
    }

    pub fn serve(&self, arguments: &[&str]) -> Served {
        Served::start(self.market(&[&["serve"], arguments].concat()))
    }
}

impl Drop for SharedBus {
    /// Removes the queues; the processes have ended, as they were started after this was made.
    fn drop(&mut self) {
        if self.is_redis() {
            return redis::sweep(&self.0);
        }
        let agents = ["query", "data", "analysis"].map(|name| self.0.queue_prefix.clone() + name);
        let queues = agents.into_iter().flat_map(|name| [format!("{name}.dlq"), name]);
        rabbitmq::sweep(&self.0, queues.collect());
    }
}
