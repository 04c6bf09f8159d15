//! How to reach RabbitMQ and how to use it.

use std::{fmt, str::FromStr, time::Duration};

use super::ConnectError;
use crate::contract::Name;

/// What the RabbitMQ backend is told.
///
/// ```
/// use agentbus::broker::rabbitmq::RabbitOptions;
///
/// let mut options = RabbitOptions::from_url("amqp://guest:guest@localhost/orders")?;
/// options.confirm_window = 512;
/// assert_eq!(options.vhost, "orders");
/// # Ok::<(), agentbus::broker::rabbitmq::ConnectError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RabbitOptions {
    /// Brokers of one cluster, tried in turn.
    pub hosts: Vec<Host>,
    /// User to log in as.
    pub user: String,
    /// The user's password; never shown.
    pub password: String,
    /// Virtual host.
    pub vhost: String,
    /// Whether to use TLS (`amqps`); needs the feature `tls`.
    pub tls: bool,
    /// How often the two sides tell each other that they live; a silent peer is given up after
    /// twice as long. Whole seconds.
    pub heartbeat: Duration,
    /// Topic exchange that events are published to.
    pub exchange: Name,
    /// Whether exchange and queues are created.
    pub declare: Declare,
    /// Whether messages carry the headers of CloudEvents (`ce-…`) as well; received ones are
    /// understood in any case.
    pub cloud_events: bool,
    /// How many published messages may wait for their confirmation at a time.
    pub confirm_window: usize,
    /// How long a publish waits, from the call to the confirmation.
    pub publish_timeout: Duration,
    /// How long one attempt to connect to one host may take.
    pub connect_timeout: Duration,
    /// How long any other answer of the broker is waited for: declaring, consuming, counting.
    pub operation_timeout: Duration,
    /// How large a body may be that is published to a topic or as a reply, in bytes.
    pub max_message_bytes: usize,
    /// Longest wait before dialling again where credentials, virtual host or TLS were refused.
    pub longest_wait_refused: Duration,
    /// Longest wait before dialling again where the broker cannot be reached.
    pub longest_wait_unreachable: Duration,
    /// Name that the broker's operators see beside the connection.
    pub connection_name: String,
}

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Host name, or IP address without brackets.
    pub name: String,
    /// Port; 5672 is AMQP's, 5671 that of AMQP over TLS.
    pub port: u16,
}

/// Whether exchanges and queues are created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Declare {
    /// They are created where they are missing; a queue with other arguments is an error.
    #[default]
    Active,
    /// The main exchange must exist and is used as it is, since it belongs to another system; queues
    /// and what delays need are created.
    Queues,
    /// They must exist and are used as they are; only bindings are made.
    Passive,
}

impl RabbitOptions {
    /// Reads `amqp://user:password@host:port/vhost`, with the defaults for everything else.
    ///
    /// Several hosts are separated by commas. A missing virtual host is `/`.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError::Option`] where the address cannot be read; the text leaves the
    /// password out.
    pub fn from_url(url: &str) -> Result<Self, ConnectError> {
        let bad = |reason: &str| ConnectError::Option { option: "url", reason: reason.to_owned() };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
        let tls = match scheme {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(bad("its scheme must be `amqp` or `amqps`")),
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
        // The rest is read by a proper parser, which knows one host only.
        let single = format!(
            "{scheme}://{}host{}",
            &authority[..authority.len() - hosts.len()],
            &rest[authority.len()..]
        );
        let parsed = lapin::uri::AMQPUri::from_str(&single)
            .map_err(|_| bad("user, password or virtual host cannot be read"))?;
        let hosts = hosts
            .split(',')
            .map(|host| Host::parse(host, if tls { 5671 } else { 5672 }))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| bad("a host must be `name` or `name:port`"))?;
        let vhost = if parsed.vhost.is_empty() { "/".to_owned() } else { parsed.vhost };
        let userinfo = parsed.authority.userinfo;
        Ok(Self {
            hosts,
            user: userinfo.username,
            password: userinfo.password,
            vhost,
            tls,
            ..Self::default()
        })
    }

    /// Checks what the types leave open.
    pub(super) fn check(&self) -> Result<(), ConnectError> {
        let bad =
            |option, reason: &str| Err(ConnectError::Option { option, reason: reason.to_owned() });
        if self.hosts.is_empty() || self.hosts.iter().any(|host| host.name.is_empty()) {
            return bad("hosts", "at least one host is needed, and none may be empty");
        }
        // The delay exchanges append up to 22 bytes to it.
        if self.exchange.is_empty() || self.exchange.len() > 220 {
            return bad("exchange", "it must have 1 to 220 bytes");
        }
        if self.confirm_window == 0 {
            return bad("confirm_window", "it must be at least 1");
        }
        if self.vhost.len() > 255 {
            return bad("vhost", "it must have at most 255 bytes");
        }
        if self.tls && !cfg!(feature = "tls") {
            return Err(ConnectError::TlsNotBuilt { hosts: self.addresses() });
        }
        Ok(())
    }

    /// Lists the hosts for a message to a person.
    pub(super) fn addresses(&self) -> String {
        self.hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl Default for RabbitOptions {
    fn default() -> Self {
        Self {
            hosts: vec![Host { name: "localhost".to_owned(), port: 5672 }],
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            vhost: "/".to_owned(),
            tls: false,
            heartbeat: Duration::from_secs(10),
            exchange: Name::from_static("agentbus.events"),
            declare: Declare::Active,
            cloud_events: false,
            confirm_window: 256,
            publish_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(10),
            max_message_bytes: 16 << 20,
            longest_wait_refused: Duration::from_mins(1),
            longest_wait_unreachable: Duration::from_secs(2),
            connection_name: "agentbus".to_owned(),
        }
    }
}

impl fmt::Debug for RabbitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitOptions")
            .field("hosts", &self.hosts)
            .field("user", &self.user)
            .field("password", &"***")
            .field("vhost", &self.vhost)
            .field("tls", &self.tls)
            .field("exchange", &self.exchange)
            .field("declare", &self.declare)
            .field("confirm_window", &self.confirm_window)
            .finish_non_exhaustive()
    }
}

impl Host {
    fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, port)) => (name, port.strip_prefix(':')),
            None => match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map_or(Some(default_port), |port| port.parse().ok())?;
        (!name.is_empty()).then(|| Self { name: name.to_owned(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read() {
        let options = RabbitOptions::from_url("amqp://me:p%40ss@a,b:1234,[::1]:99/my%2Fhost");
        let options = options.unwrap();
        assert_eq!(options.addresses(), "a:5672, b:1234, [::1]:99");
        assert_eq!((&*options.user, &*options.password), ("me", "p@ss"));
        assert_eq!(options.vhost, "my/host");
    }

    #[test]
    fn what_an_address_leaves_out_has_defaults() {
        for url in ["amqp://localhost", "amqp://localhost/", "amqp://localhost/%2f"] {
            assert_eq!(RabbitOptions::from_url(url).unwrap(), RabbitOptions::default(), "{url}");
        }
        assert_eq!(RabbitOptions::from_url("amqps://x").unwrap().addresses(), "x:5671");
    }

    #[test]
    fn an_address_that_cannot_be_read_is_an_error_without_the_password() {
        for url in ["localhost", "http://x", "amqp://me:secret@", "amqp://me:secret@h:port/"] {
            let error = RabbitOptions::from_url(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        let options = RabbitOptions { password: "secret".to_owned(), ..RabbitOptions::default() };
        assert!(!format!("{options:?}").contains("secret"));
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn amqps_without_the_feature_is_refused() {
        let options = RabbitOptions::from_url("amqps://localhost").unwrap();
        assert!(matches!(options.check(), Err(ConnectError::TlsNotBuilt { .. })));
    }
}
