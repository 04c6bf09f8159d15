//! Where a measurement takes place: names of its own on a broker, which go with it.

use std::env;

use agentbus::{Client, Config, config::BusUrl};
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};

/// Where RabbitMQ is when nobody says.
const HERE: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

#[derive(Debug)]
pub struct Bed {
    config: Config,
    url: Option<String>,
    name: String,
}

impl Bed {
    pub fn memory() -> Self {
        Self { config: Config::default(), url: None, name: String::new() }
    }

    pub fn rabbitmq() -> Self {
        let url = url();
        let bus: BusUrl = url.parse().expect("RABBITMQ_URL is an address");
        let name = format!("agentbus-bench-{}", std::process::id());
        let config = Config::default()
            .with_bus(bus)
            .with_exchange(name.clone())
            .with_queue_prefix(format!("{name}."))
            .with_prefetch(256);
        Self { config, url: Some(url), name }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.config.clone()).await.expect("the bus can be connected to")
    }

    /// Another connection, by the bare client.
    pub async fn connection(&self) -> Connection {
        let url = self.url.as_deref().expect("a server");
        let properties = ConnectionProperties::default();
        Connection::connect(url, properties).await.expect("RabbitMQ can be connected to")
    }

    pub async fn channel(&self) -> Channel {
        self.connection().await.create_channel().await.expect("a channel")
    }

    pub fn exchange(&self) -> &str {
        &self.name
    }

    /// The name of a queue, as it is on the broker.
    pub fn queue(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    /// Removes what was made under the bed's name.
    pub async fn remove(&self) {
        let connection = self.connection().await;
        let channel = connection.create_channel().await.expect("a channel");
        let agents = (0..1000).map(|agent| self.queue(&format!("agent-{agent}")));
        for queue in agents.chain([self.queue("bench")]) {
            // Deleting what is not there succeeds.
            for queue in [format!("{queue}.dlq"), queue] {
                let _ = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
            }
        }
        let undeliverable = format!("{}.delay.v1.undeliverable", self.name);
        let _ =
            channel.queue_delete(undeliverable.clone().into(), QueueDeleteOptions::default()).await;
        let delivery = format!("{}.delay.v1.delivery", self.name);
        for exchange in [self.name.clone(), delivery, undeliverable] {
            let _ =
                channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await;
        }
        let _ = connection.close(200, "".into()).await;
    }
}

fn url() -> String {
    env::var("RABBITMQ_URL").unwrap_or_else(|_| HERE.to_owned())
}

/// Tells whether there is a RabbitMQ to measure on, or why not.
pub async fn there_is_rabbitmq() -> Result<(), String> {
    let connected = Connection::connect(&url(), ConnectionProperties::default()).await;
    let connection = connected.map_err(|error| error.to_string())?;
    let _ = connection.close(200, "".into()).await;
    Ok(())
}
