//! A RabbitMQ that processes of one test share.

#[path = "../../../../tests/support/rabbitmq/mod.rs"]
mod rabbitmq;

use std::process::Command;

use agentbus::Config;

use super::{Ran, Served, market};

/// Names on a RabbitMQ that no other test has.
pub struct SharedBus(Config);

impl SharedBus {
    /// Returns a bus, or `None` after saying why there is none.
    pub fn find() -> Option<Self> {
        rabbitmq::config().map(Self)
    }

    /// The program, on this bus.
    pub fn market(&self, arguments: &[&str]) -> Command {
        let mut command = market(arguments);
        command.args(["--bus", &rabbitmq::address(&self.0)]);
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
        let agents = ["query", "data", "analysis"].map(|name| self.0.queue_prefix.clone() + name);
        let queues = agents.into_iter().flat_map(|name| [format!("{name}.dlq"), name]);
        rabbitmq::sweep(&self.0, queues.collect());
    }
}
