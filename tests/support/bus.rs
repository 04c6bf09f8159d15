//! The buses that agents are tested on.

use std::sync::Arc;

use agentbus::{
    Client, Config,
    broker::{Broker, connect, memory::Memory},
    config::BusUrl,
};

#[cfg(feature = "redis")]
use super::redis;
use super::{
    rabbitmq::{self, sweep},
    recorder::Recorder,
    relay::Relay,
};

/// A bus of one test, with names that no other test uses; its queues go with it.
///
/// Agents do not announce themselves, so that only what a test does passes; the tests of discovery
/// switch it on.
///
/// The test's runtime has one thread, which stands still while the queues are removed: no agent
/// that is still there can declare them again.
pub struct Bus {
    broker: Arc<dyn Broker>,
    pub config: Config,
    /// What is to be removed.
    left: Option<Arc<Recorder>>,
}

impl Bus {
    pub fn memory() -> Self {
        let mut config = Config::default();
        config.discovery = false;
        Self { broker: Arc::new(Memory::default()), config, left: None }
    }

    /// A bus on RabbitMQ; `None` where there is none, which has been said then.
    pub async fn rabbitmq() -> Option<Self> {
        let config = rabbitmq::config()?;
        let broker = connect(&config).await.expect("RabbitMQ accepts the tests");
        let recorder = Arc::new(Recorder::new(broker));
        Some(Self { broker: recorder.clone(), config, left: Some(recorder) })
    }

    /// A bus on Redis; `None` where there is none, which has been said then.
    #[cfg(feature = "redis")]
    pub async fn redis() -> Option<Self> {
        let config = redis::config()?;
        let broker = connect(&config).await.expect("Redis accepts the tests");
        Some(Self { broker, config, left: None })
    }

    /// Another connection to the same place, by way of a relay; none that this one is.
    pub async fn through(&self, relay: &Relay, change: impl FnOnce(&mut Config)) -> Client {
        let mut config = self.config.clone();
        let url = rabbitmq::address(&config);
        let (login, rest) = url.rsplit_once('@').expect("an address with a user");
        let (_, vhost) = rest.split_once('/').expect("an address with a virtual host");
        let url = format!("{login}@{}/{vhost}", relay.address());
        config.bus = url.parse().expect("an address like the one before");
        change(&mut config);
        Client::with_config(connect(&config).await.expect("the relay lets through"), config)
    }

    /// A relay to the broker that this one is at.
    pub async fn relay(&self) -> Relay {
        let BusUrl::Amqp(url) = &self.config.bus else { panic!("no relay leads into a process") };
        let (host, port) = url.hosts().next().expect("an address has a host");
        let host = host.trim_matches(['[', ']']);
        let mut found = tokio::net::lookup_host((host, port)).await.expect("the host is known");
        Relay::to(found.next().expect("the host has an address")).await
    }

    pub fn client(&self) -> Client {
        Client::with_config(Arc::clone(&self.broker), self.config.clone())
    }

    /// The name of a queue, as it is on the broker.
    pub fn queue(&self, name: &str) -> String {
        let name = format!("{}{name}", self.config.queue_prefix);
        if let Some(left) = &self.left {
            left.remember(&name);
        }
        name
    }

    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        #[cfg(feature = "redis")]
        redis::sweep(&self.config);
        if let Some(left) = &self.left {
            sweep(&self.config, left.take());
        }
    }
}

/// Makes a test of each function, once for each bus.
#[macro_export]
macro_rules! on_each_bus {
    ($($(#[$attribute:meta])* async fn $name:ident($bus:ident: Bus) $body:block)*) => {
        $($(#[$attribute])* async fn $name($bus: support::bus::Bus) $body)*

        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::support::bus::Bus::memory()).await;
            })*
        }

        #[cfg(feature = "rabbitmq")]
        mod rabbitmq {
            $(#[tokio::test]
            async fn $name() {
                let Some(bus) = super::support::bus::Bus::rabbitmq().await else { return };
                super::$name(bus).await;
            })*
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(#[tokio::test]
            async fn $name() {
                let Some(bus) = super::support::bus::Bus::redis().await else { return };
                super::$name(bus).await;
            })*
        }
    };
}
