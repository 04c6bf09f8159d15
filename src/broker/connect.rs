//! Chooses the backend by the configuration's address.

use std::sync::Arc;

use super::{
    Broker, DualPublish,
    memory::{Memory, MemoryOptions},
};
use crate::config::{BusUrl, Config, ConfigError};

/// The bus of a configuration could not be connected to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The configuration cannot be used.
    #[error("the configuration cannot be used: {0}")]
    Config(#[from] ConfigError),
    /// This program has no backend for the address.
    #[error("`{scheme}://` cannot be used: {reason}")]
    Unsupported {
        /// The scheme of the address.
        scheme: String,
        /// Why not, and the way out.
        reason: &'static str,
    },
    /// RabbitMQ cannot be connected to.
    #[cfg(feature = "rabbitmq")]
    #[error(transparent)]
    RabbitMq(#[from] super::rabbitmq::ConnectError),
    /// Redis cannot be connected to.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Redis(#[from] super::redis::ConnectError),
}

/// Connects to the bus that `config` names: `memory:`, RabbitMQ at `amqp://…`, or Redis at `redis://…`.
///
/// Where `also_publish_to` names a second one, events go to both; see [`DualPublish`].
///
/// An embedded bus is the same one for all of this process, as long as anybody is connected to it:
/// `memory:` one, `memory://name` others. [`Memory::default`] makes one that nobody else can find.
///
/// # Errors
///
/// Returns why the bus cannot be connected to; passwords are never shown.
pub async fn connect(config: &Config) -> Result<Arc<dyn Broker>, ConnectError> {
    config.validate()?;
    let first = Box::pin(connect_one(config)).await?;
    let Some(second) = &config.also_publish_to else { return Ok(first) };
    let config = config.clone().with_bus(second.clone());
    let second = Box::pin(connect_one(&config)).await?;
    Ok(Arc::new(DualPublish::new(first, second)))
}

async fn connect_one(config: &Config) -> Result<Arc<dyn Broker>, ConnectError> {
    match &config.bus {
        BusUrl::Memory { name } => {
            let options = MemoryOptions {
                publish_timeout: config.publish_timeout,
                max_message_bytes: config.max_message_bytes,
            };
            let name = name.as_deref().unwrap_or_default();
            Ok(Arc::new(Memory::named(name).connect(options)))
        }
        #[cfg(feature = "rabbitmq")]
        BusUrl::Amqp(url) => {
            let options = rabbitmq_options(config, url);
            Ok(Arc::new(super::rabbitmq::RabbitMq::connect(options).await?))
        }
        #[cfg(feature = "redis")]
        BusUrl::Redis(url) => {
            let options = redis_options(config, url);
            Ok(Arc::new(super::redis::Redis::connect(options).await?))
        }
        #[cfg(not(all(feature = "rabbitmq", feature = "redis")))]
        bus => Err(ConnectError::Unsupported {
            scheme: bus.scheme().to_owned(),
            reason: match bus {
                BusUrl::Redis(_) => "this program is built without the feature `redis`",
                _ => "this program is built without the feature `rabbitmq`",
            },
        }),
    }
}

#[cfg(feature = "redis")]
fn redis_options(config: &Config, url: &crate::config::RedisUrl) -> super::redis::RedisOptions {
    super::redis::RedisOptions {
        exchange: config.exchange.clone().into(),
        passive: config.declare == crate::config::Declare::Passive,
        heartbeat: config.effective_heartbeat(),
        confirm_window: config.confirm_window.into(),
        publish_timeout: config.publish_timeout,
        connect_timeout: config.effective_connect_timeout(),
        max_message_bytes: config.max_message_bytes,
        longest_wait_refused: config.reconnect.refused_max,
        longest_wait_unreachable: config.reconnect.unreachable_max,
        ..super::redis::RedisOptions::from(url)
    }
}

#[cfg(feature = "rabbitmq")]
fn rabbitmq_options(
    config: &Config,
    url: &crate::config::AmqpUrl,
) -> super::rabbitmq::RabbitOptions {
    use super::rabbitmq::{Declare, Host, RabbitOptions};
    let host = |(name, port): (&str, u16)| {
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        Host { name, port }
    };
    RabbitOptions {
        hosts: url.hosts().map(host).collect(),
        user: url.username().to_owned(),
        password: url.password().to_owned(),
        vhost: url.vhost().to_owned(),
        tls: config.bus.is_tls(),
        heartbeat: config.effective_heartbeat(),
        exchange: config.exchange.clone().into(),
        declare: match config.declare {
            crate::config::Declare::Active => Declare::Active,
            crate::config::Declare::Queues => Declare::Queues,
            crate::config::Declare::Passive => Declare::Passive,
        },
        cloud_events: config.cloud_events,
        confirm_window: config.confirm_window.into(),
        publish_timeout: config.publish_timeout,
        connect_timeout: config.effective_connect_timeout(),
        max_message_bytes: config.max_message_bytes,
        longest_wait_refused: config.reconnect.refused_max,
        longest_wait_unreachable: config.reconnect.unreachable_max,
        ..RabbitOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_named_embedded_bus_is_the_same_for_the_whole_process() {
        let config = Config::default().with_bus("memory://connect-test".parse().unwrap());
        let (first, second) = (connect(&config).await.unwrap(), connect(&config).await.unwrap());
        let spec = super::super::QueueSpec::new(
            "q",
            super::super::QueueRole::Work { dead_letters: "q.dlq".into(), max_length: 10 },
        );
        first.declare(&spec).await.unwrap();
        assert!(second.stats("q").await.is_ok());
    }

    #[tokio::test]
    async fn a_second_bus_gets_the_events_too() {
        let bus = |name: &str| format!("memory://{name}").parse().unwrap();
        let mut config = Config::default().with_bus(bus("connect-first"));
        config.also_publish_to = Some(bus("connect-second"));
        let both = connect(&config).await.unwrap();
        let second = connect(&Config::default().with_bus(bus("connect-second"))).await.unwrap();
        let role = crate::broker::QueueRole::Work { dead_letters: "q.dlq".into(), max_length: 10 };
        let pattern = crate::contract::Pattern::parse("a").unwrap();
        second.declare(&crate::broker::QueueSpec::new("q", role).bind(pattern)).await.unwrap();
        let topic = crate::contract::Name::from_static("a");
        let event = crate::message::Envelope::encode(&());
        both.publish(crate::broker::Destination::Topic(&topic), event).await.unwrap();
        assert_eq!(second.stats("q").await.unwrap().ready, 1);
    }

    #[cfg(not(feature = "redis"))]
    #[tokio::test]
    async fn an_address_without_a_backend_is_an_error_that_says_so() {
        let config = Config::default().with_bus("redis://localhost".parse().unwrap());
        let error = connect(&config).await.unwrap_err();
        assert!(error.to_string().starts_with("`redis://` cannot be used"), "{error}");
    }
}
