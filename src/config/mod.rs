//! One configuration: from code, from a file, from the environment.
//!
//! ```
//! use agentbus::config::Config;
//!
//! // In code:
//! let mut config = Config::default().with_bus("amqp://app:secret@rabbit/prod".parse()?);
//! config.prefetch = 64;
//!
//! // From variables, as `Config::from_env` reads them from the process:
//! let config = Config::from_vars([("QUEUE_PROVIDER", "rabbitmq"), ("RABBITMQ_HOST", "rabbit")])?;
//! assert_eq!(config.bus.to_string(), "amqp://rabbit/");
//!
//! // A bad value says what is allowed:
//! let error = Config::from_vars([("AGENTBUS_PREFETCH", "1")]).unwrap_err();
//! assert!(error.to_string().starts_with("`AGENTBUS_PREFETCH` is `1`; allowed: a number from 2 to 65535"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod amqp_url;
mod bus_url;
mod chosen_bus;
mod dead_letters;
mod environment;
mod error;
mod file;
mod management_url;
mod nearest;
mod rabbitmq_parts;
mod reconnect;
mod redis_parts;
mod redis_url;
mod setting;
mod value;

pub use amqp_url::AmqpUrl;
pub use bus_url::{BusUrl, BusUrlError};
pub use dead_letters::{DeadLetters, Overflow};
pub use error::ConfigError;
pub use management_url::{InvalidManagementUrl, ManagementUrl};
pub use reconnect::Reconnect;
pub use redis_url::RedisUrl;

use std::time::Duration;

use crate::message::Priorities;

/// Everything that can be set, with defaults that suit a single machine and a small cluster alike.
///
/// [`Config::load`] reads it as a program should: defaults, then the file that `AGENTBUS_CONFIG` names, then the
/// environment. Each field is a key of the same name in the file (`dead_letters.ttl`, or `ttl` under `[dead_letters]`) and
/// a variable in the environment (`AGENTBUS_DEAD_LETTERS_TTL`); the bus is `bus.url` and `AGENTBUS_URL`. Times are written
/// `250ms`, `5s`, `2m`, `1h`, `1d`, or as a bare number of seconds; sizes `64KiB`, `16MiB`, `1GiB`, or as a bare number of
/// bytes.
///
/// Fields that code sets are checked by [`validate`](Self::validate), which whatever takes a configuration calls.
/// `Debug` shows no password.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Where the bus is. Default `memory:`, embedded in this process.
    pub bus: BusUrl,
    /// A second bus that events are also published to, while one moves from bus to bus without a stop; see
    /// [`DualPublish`](crate::broker::DualPublish). Default `None`.
    pub also_publish_to: Option<BusUrl>,
    /// The topic exchange that all agents of a system share. Default `agentbus.events`. At most 127 bytes of letters,
    /// digits, `-`, `_`, `.`, `:` (the names of the delay topology are built upon it), not beginning with `amq.`.
    pub exchange: String,
    /// What comes before the name of every queue. Default empty. At most 64 bytes of the same characters.
    pub queue_prefix: String,
    /// Whether queues and exchanges are made, or only expected to be there. Default [`Declare::Active`].
    pub declare: Declare,
    /// Whether messages carry the headers of CloudEvents (`ce-id`, `ce-type`, …) beside agentbus's own, for receivers that
    /// know those. Up to nine of the 64 headers that a message may carry then go to them. They are understood on receipt in
    /// any case. Only on RabbitMQ. Default `false`.
    pub cloud_events: bool,
    /// How many messages of an agent are handled at once, on each replica. Default 32, 2–65535; never 1, since two agents
    /// that ask each other would then wait for each other.
    pub prefetch: u16,
    /// How many published messages may wait for their confirm; further publishes wait. Default 256, 1–65535.
    pub confirm_window: u16,
    /// How long a publish may take, confirm included, before it ends as unconfirmed (or refused, where a full queue kept it
    /// waiting). Default 10 s: longer than a RabbitMQ cluster takes to choose a new leader for a queue, well within the
    /// default deadline of a request. 1 ms–10 min.
    pub publish_timeout: Duration,
    /// How long connecting to one host may take, the handshake included. Default 10 s, 1 ms–10 min. The address's
    /// `connection_timeout` takes precedence: see [`effective_connect_timeout`](Self::effective_connect_timeout).
    pub connect_timeout: Duration,
    /// The deadline of a request that names none. Default 30 s, 1 ms–30 days.
    pub request_timeout: Duration,
    /// How long a handler may run before it counts as failed. Default `None`: until the message's deadline, if it has one.
    /// 1 ms–24 h. Keep it under RabbitMQ's `consumer_timeout` (30 min), after which the broker closes the channel.
    pub handler_timeout: Option<Duration>,
    /// How long a stop waits for handlers to finish before it gives their messages back. Default 30 s, 0–1 h.
    pub shutdown_grace: Duration,
    /// How often RabbitMQ and we make sure of each other; a dead connection is noticed after about twice that. Default
    /// 10 s, whole seconds, 1 s–5 min. The address's `heartbeat` takes precedence: see
    /// [`effective_heartbeat`](Self::effective_heartbeat).
    pub heartbeat: Duration,
    /// The largest message body; a larger one is refused before it is sent, and dead-lettered when it is received. Default
    /// 16 MiB (RabbitMQ 4's own default), 1 KiB–128 MiB.
    pub max_message_bytes: usize,
    /// Whether messages and replies say which contract their sender was built with, by its hash in the header
    /// `agentbus-contract` ([`Metadata::contract`](crate::message::Metadata::contract)). Messages of topics that were not
    /// generated from a contract never do. Default `false`.
    pub send_contract: bool,
    /// How many requests may wait for their reply; further ones are refused. Default 10 000, 1–10 000 000.
    pub max_pending_replies: usize,
    /// How many conversations (`request_later`) may be open; further ones are refused. Default 100 000, 1–10 000 000.
    pub max_conversations: usize,
    /// How long the state of a conversation without a deadline of its own is kept. Default 1 h, 1 s–30 days.
    pub conversation_ttl: Duration,
    /// How many messages an agent's queue holds; further publishes to it are refused. Default 1 000 000, 1–10⁹. An
    /// argument of the queue: changing it for a queue that exists is an error of declaring.
    pub max_queue_length: u64,
    /// How the queues of agents that do not say ([`Agent::priorities`](crate::Agent::priorities)) order messages by their
    /// priority. Default [`Priorities::Off`]. An argument of the queue, as the length is.
    pub priorities: Priorities,
    /// What is kept of messages that could not be handled.
    pub dead_letters: DeadLetters,
    /// How long the queue of a replica outlives its last consumer. Default 60 s, 1 s–1 day.
    pub replica_queue_expiry: Duration,
    /// How soon a lost connection is dialled again.
    pub reconnect: Reconnect,
    /// Whether agents tell [who they are](crate::Client::discover) to whoever asks, and when they start and stop. Default
    /// `true`: one more queue and consumer for each runtime. With `declare = "passive"` they do not, since nothing is made; with
    /// `"queues"` only where [`Runtime::discovery`](crate::Runtime::discovery) says so, since the exchange is not ours to announce on.
    pub discovery: bool,
    /// Where RabbitMQ's management API is, for tools that ask it; agents do not. Default `None`.
    pub management_url: Option<ManagementUrl>,
}

/// Whether the topology is made or only checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Declare {
    /// Makes what is missing; what is there must have the same arguments.
    #[default]
    Active,
    /// Makes queues and what delays need, and takes the exchange as it is; it must be there. For an exchange that belongs
    /// to another system.
    Queues,
    /// Makes nothing; whatever is missing is an error. For brokers where an operator owns the topology.
    Passive,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bus: BusUrl::default(),
            also_publish_to: None,
            exchange: "agentbus.events".to_owned(),
            queue_prefix: String::new(),
            declare: Declare::Active,
            cloud_events: false,
            prefetch: 32,
            confirm_window: 256,
            publish_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            handler_timeout: None,
            shutdown_grace: Duration::from_secs(30),
            heartbeat: Duration::from_secs(10),
            max_message_bytes: 16 << 20,
            send_contract: false,
            max_pending_replies: 10_000,
            max_conversations: 100_000,
            conversation_ttl: Duration::from_hours(1),
            max_queue_length: 1_000_000,
            priorities: Priorities::Off,
            dead_letters: DeadLetters::default(),
            replica_queue_expiry: Duration::from_mins(1),
            reconnect: Reconnect::default(),
            discovery: true,
            management_url: None,
        }
    }
}

impl Config {
    /// Reads defaults, then the file that `AGENTBUS_CONFIG` names (if it names one), then the environment; the later wins.
    ///
    /// # Errors
    /// Those of [`from_file`](Self::from_file) and [`from_env`](Self::from_env).
    pub fn load() -> Result<Self, ConfigError> {
        Self::load_with_bus(None)
    }

    /// As [`load`](Self::load), with the bus that the user named elsewhere (`--bus`). Where there is one, it replaces the
    /// file's, and the environment's addresses are not looked at, so they cannot contradict it.
    ///
    /// # Errors
    /// Those of [`from_file`](Self::from_file) and [`from_env`](Self::from_env).
    pub fn load_with_bus(bus: Option<BusUrl>) -> Result<Self, ConfigError> {
        Self::load_with(None, bus)
    }

    /// As [`load_with_bus`](Self::load_with_bus), with the file that the user named elsewhere (`--config`) in place of the
    /// one that `AGENTBUS_CONFIG` names.
    ///
    /// # Errors
    /// Those of [`from_file`](Self::from_file) and [`from_env`](Self::from_env).
    pub fn load_with(
        file: Option<&std::path::Path>,
        bus: Option<BusUrl>,
    ) -> Result<Self, ConfigError> {
        let vars = environment::of_process()?;
        let Some(file) = file else { return Self::load_from(vars, bus) };
        let mut config = Self::default();
        file::read(&mut config, file)?;
        config.overlay(vars, bus)
    }

    fn load_from(vars: environment::Variables, bus: Option<BusUrl>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = vars.config_file() {
            file::read(&mut config, path.as_ref())?;
        }
        config.overlay(vars, bus)
    }

    /// Reads the environment, and the bus that was named elsewhere, over what a file says.
    fn overlay(
        mut self,
        vars: environment::Variables,
        bus: Option<BusUrl>,
    ) -> Result<Self, ConfigError> {
        let config = &mut self;
        let warnings = vars.read_settings(config)?;
        config.bus = match bus {
            Some(bus) => bus,
            None => vars.bus(&config.bus)?,
        };
        for warning in warnings {
            tracing::warn!(
                variable = warning.variable,
                nearest = warning.nearest,
                "unknown variable ignored"
            );
        }
        self.validate()?;
        Ok(self)
    }

    /// Reads the process's environment over the defaults. The file that `AGENTBUS_CONFIG` names is not read;
    /// [`load`](Self::load) does that.
    ///
    /// The address is `AGENTBUS_URL`, or what deployments already have:
    ///
    /// - `RABBITMQ_URL`, or its parts: `RABBITMQ__HOST`, `__PORT`, `__USERNAME`, `__PASSWORD`, `__VHOST`, or the same with
    ///   one underscore. Parts fill what an address leaves out. Any of them selects RabbitMQ.
    /// - `QUEUE_PROVIDER` or `MESSAGE_QUEUE_PROVIDER`: `memory`, `rabbitmq` (on localhost, where nothing says otherwise) or
    ///   `redis` (at `REDIS_URL`, or on localhost; `REDIS_HOST`, `_PORT`, `_PASSWORD` and `_DB` fill what the address leaves
    ///   out). `REDIS_…` alone selects nothing: it may well be there for a cache.
    /// - `RABBITMQ_DEFAULT_USER`, `_PASS` and `_VHOST`, which configure the broker, fill what is still left out; they never
    ///   select RabbitMQ and never contradict.
    ///
    /// Two of them that disagree are an error; an empty variable counts as unset. `RABBITMQ_PORT=tcp://…`, which Kubernetes
    /// sets for a service named `rabbitmq`, is ignored. An unknown variable `AGENTBUS_…` is logged as a warning with the
    /// nearest known name, as it may belong to somebody else.
    ///
    /// # Errors
    /// [`ConfigError`] names the variable, or the two that disagree.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::load_from(environment::of_process()?.without_config_file(), None)
    }

    /// As [`from_env`](Self::from_env), from these variables instead of the process's.
    ///
    /// # Errors
    /// [`ConfigError`] names the variable, or the two that disagree.
    pub fn from_vars<K: Into<String>, V: Into<String>>(
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError> {
        Self::load_from(environment::Variables::new(vars).without_config_file(), None)
    }

    /// Reads a TOML file over the defaults.
    ///
    /// ```toml
    /// exchange = "agentbus.events"
    /// prefetch = 64
    ///
    /// [bus]
    /// url = "amqp://app:secret@rabbit-1,rabbit-2/prod"   # or a list of addresses
    ///
    /// [dead_letters]
    /// ttl = "48h"
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] names the file and the line. An unknown key is an error here, since the file is ours alone.
    pub fn from_file(path: impl AsRef<std::path::Path>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        file::read(&mut config, path.as_ref())?;
        config.validate()?;
        Ok(config)
    }

    /// Checks every bound, and that this build can reach the bus.
    ///
    /// # Errors
    /// [`ConfigError::BadValue`] names the first field out of bounds; [`ConfigError::TlsUnavailable`] is an address that
    /// takes TLS in a build without it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for bus in [Some(&self.bus), self.also_publish_to.as_ref()].into_iter().flatten() {
            if bus.is_tls() && !BusUrl::tls_is_built_in() {
                return Err(ConfigError::TlsUnavailable { scheme: bus.scheme() });
            }
        }
        setting::SETTINGS.iter().try_for_each(|setting| setting.validate(self))
    }

    /// Returns this configuration with another bus.
    #[must_use]
    pub fn with_bus(mut self, bus: BusUrl) -> Self {
        self.bus = bus;
        self
    }

    /// Returns this configuration with another exchange.
    #[must_use]
    pub fn with_exchange(mut self, exchange: impl Into<String>) -> Self {
        self.exchange = exchange.into();
        self
    }

    /// Returns this configuration with another prefix of queue names.
    #[must_use]
    pub fn with_queue_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.queue_prefix = prefix.into();
        self
    }

    /// Returns this configuration with another prefetch.
    #[must_use]
    pub fn with_prefetch(mut self, prefetch: u16) -> Self {
        self.prefetch = prefetch;
        self
    }

    /// Returns this configuration with another default deadline of requests.
    #[must_use]
    pub fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Returns the heartbeat to ask of RabbitMQ: the address's parameter, else [`heartbeat`](Self::heartbeat).
    #[must_use]
    pub fn effective_heartbeat(&self) -> Duration {
        match &self.bus {
            BusUrl::Amqp(url) => url.heartbeat().unwrap_or(self.heartbeat),
            _ => self.heartbeat,
        }
    }

    /// Returns how long connecting to one host may take: the address's parameter, else
    /// [`connect_timeout`](Self::connect_timeout).
    #[must_use]
    pub fn effective_connect_timeout(&self) -> Duration {
        match &self.bus {
            BusUrl::Amqp(url) => url.connection_timeout().unwrap_or(self.connect_timeout),
            _ => self.connect_timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_set_in_code_are_checked_and_named() {
        let error = Config::default().with_prefetch(1).validate().expect_err("a bad value");
        assert!(error.to_string().starts_with("`prefetch` is `1`; allowed: "), "{error}");
        let mut config = Config::default();
        config.dead_letters.ttl = Duration::ZERO;
        let error = config.validate().expect_err("a bad value");
        assert!(error.to_string().starts_with("`dead_letters.ttl` is `0ns`; allowed: "), "{error}");
    }

    #[test]
    fn address_that_takes_tls_is_refused_without_the_feature() {
        for url in ["amqps://rabbit", "rediss://cache"] {
            let config = Config::default().with_bus(url.parse().expect("an address"));
            let refused = matches!(config.validate(), Err(ConfigError::TlsUnavailable { .. }));
            assert_eq!(refused, !BusUrl::tls_is_built_in(), "{url}");
        }
    }

    #[test]
    fn parameters_of_the_address_take_precedence() {
        let config = Config::default();
        assert_eq!(config.effective_heartbeat(), Duration::from_secs(10));
        let bus = "amqp://h/?heartbeat=5&connection_timeout=100".parse().expect("an address");
        let config = config.with_bus(bus);
        assert_eq!(config.effective_heartbeat(), Duration::from_secs(5));
        assert_eq!(config.effective_connect_timeout(), Duration::from_millis(100));
    }

    #[test]
    fn environment_wins_over_the_file_that_it_names() {
        let path = std::env::temp_dir().join(format!("agentbus-{}.toml", uuid::Uuid::now_v7()));
        std::fs::write(&path, "prefetch = 8\nconfirm_window = 9\nbus.url = 'amqp://app@rabbit/v'")
            .expect("a file");
        let file = path.to_str().expect("UTF-8").to_owned();
        let vars = [
            ("AGENTBUS_CONFIG", file.as_str()),
            ("AGENTBUS_PREFETCH", "16"),
            ("RABBITMQ_PASSWORD", "p"),
        ];
        let config = Config::load_from(environment::Variables::new(vars), None);
        std::fs::remove_file(&path).expect("the file");
        let config = config.expect("a configuration");
        assert_eq!((config.prefetch, config.confirm_window), (16, 9));
        assert_eq!(config.bus, "amqp://app:p@rabbit/v".parse().expect("an address"));
    }
}
