//! The address of a RabbitMQ broker or cluster.

use super::address::{Address, Encoded, Server};
use super::bus_url::BusUrlError;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const SCHEMES: [&str; 2] = ["amqp", "amqps"];
const GUEST: &str = "guest";
const PARAMETERS: &[&str] = &["heartbeat", "connection_timeout"];

/// The address of a RabbitMQ broker or cluster, `amqp://user:password@host:port/vhost?heartbeat=10`.
///
/// What is left out: user and password are `guest` (a user without a password has an empty one), the port 5672 (5671 with
/// TLS), the virtual host `/`. A path of a lone slash, `amqp://host/`, also means the virtual host `/`, as everybody who
/// writes it expects; the letter of RabbitMQ's URI specification (a virtual host with an empty name) is not followed.
/// `amqp://host/%2F` and `amqp://host//` mean the same.
///
/// Parameters: `heartbeat` (seconds, 1–300) and `connection_timeout` (milliseconds, at least 1); they take precedence over
/// the configuration's [`heartbeat`](super::Config::heartbeat) and [`connect_timeout`](super::Config::connect_timeout).
/// Any other is refused.
#[derive(Clone)]
pub struct AmqpUrl {
    address: Address,
    heartbeat: Option<Duration>,
    connection_timeout: Option<Duration>,
}

impl AmqpUrl {
    /// Returns `amqp://guest:guest@localhost:5672/`, where a RabbitMQ fresh from its package listens.
    #[must_use]
    pub fn localhost() -> Self {
        let server = Server { host: "localhost".into(), port: None };
        Self { address: Address::of(server), heartbeat: None, connection_timeout: None }
    }

    /// Returns `amqp`, or `amqps` with TLS.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        SCHEMES[usize::from(self.address.tls)]
    }

    /// Returns whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.address.tls
    }

    /// Returns the hosts with their ports, at least one, in the order in which they are tried. IPv6 addresses are in
    /// brackets.
    #[must_use]
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = (&str, u16)> {
        let default = self.default_port();
        self.address.servers.iter().map(move |s| (s.host.as_str(), s.port.unwrap_or(default)))
    }

    /// Returns the user.
    #[must_use]
    pub fn username(&self) -> &str {
        self.address.username.as_deref().unwrap_or(GUEST)
    }

    /// Returns the password in clear text: for the connection, not for logs.
    #[must_use]
    pub fn password(&self) -> &str {
        match &self.address.password {
            Some(password) => password.expose(),
            None if self.address.username.is_none() => GUEST,
            None => "",
        }
    }

    /// Returns the virtual host.
    #[must_use]
    pub fn vhost(&self) -> &str {
        self.address.path.as_deref().unwrap_or("/")
    }

    /// Returns the parameter `heartbeat`, in whole seconds.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Duration> {
        self.heartbeat
    }

    /// Returns the parameter `connection_timeout`.
    #[must_use]
    pub fn connection_timeout(&self) -> Option<Duration> {
        self.connection_timeout
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn address_mut(&mut self) -> &mut Address {
        &mut self.address
    }

    fn default_port(&self) -> u16 {
        if self.address.tls { 5671 } else { 5672 }
    }
}

impl FromStr for AmqpUrl {
    type Err = BusUrlError;

    fn from_str(text: &str) -> Result<Self, BusUrlError> {
        let address = Address::parse(text, SCHEMES)?;
        address.allow_parameters(PARAMETERS)?;
        let heartbeat = address.parameter("heartbeat", "whole seconds from 1 to 300", |value| {
            value.parse().ok().filter(|secs| (1..=300).contains(secs)).map(Duration::from_secs)
        })?;
        let connection_timeout = address.parameter(
            "connection_timeout",
            "whole milliseconds from 1 to 600000",
            |value| {
                value
                    .parse()
                    .ok()
                    .filter(|ms| (1..=600_000).contains(ms))
                    .map(Duration::from_millis)
            },
        )?;
        Ok(Self { address, heartbeat, connection_timeout })
    }
}

impl PartialEq for AmqpUrl {
    fn eq(&self, other: &Self) -> bool {
        self.is_tls() == other.is_tls()
            && self.hosts().eq(other.hosts())
            && self.username() == other.username()
            && self.password() == other.password()
            && self.vhost() == other.vhost()
            && self.heartbeat == other.heartbeat
            && self.connection_timeout == other.connection_timeout
    }
}

impl Eq for AmqpUrl {}

impl fmt::Display for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        self.address.write_masked(f, self.default_port())?;
        f.write_str("/")?;
        if self.vhost() != "/" {
            write!(f, "{}", Encoded(self.vhost()))?;
        }
        let heartbeat =
            self.heartbeat.map(|heartbeat| ("heartbeat", u128::from(heartbeat.as_secs())));
        let timeout =
            self.connection_timeout.map(|limit| ("connection_timeout", limit.as_millis()));
        for (index, (name, value)) in heartbeat.into_iter().chain(timeout).enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AmqpUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amqp(text: &str) -> AmqpUrl {
        text.parse().expect("an address")
    }

    #[test]
    fn what_is_left_out_is_guest_on_the_default_port_and_vhost() {
        let url = amqp("amqp://rabbit");
        assert_eq!((url.username(), url.password(), url.vhost()), ("guest", "guest", "/"));
        assert_eq!(url.hosts().collect::<Vec<_>>(), [("rabbit", 5672)]);
        assert_eq!(amqp("amqps://rabbit").hosts().next(), Some(("rabbit", 5671)));
        assert_eq!(AmqpUrl::localhost(), amqp("amqp://guest:guest@localhost:5672/"));
    }

    #[test]
    fn user_without_a_password_has_an_empty_one() {
        assert_eq!(amqp("amqp://app@rabbit").password(), "");
    }

    #[test]
    fn user_password_and_vhost_are_percent_decoded() {
        let url = amqp("amqp://us%65r:p%40ss%2Fw%25@rabbit/my%2Fhost");
        assert_eq!((url.username(), url.password(), url.vhost()), ("user", "p@ss/w%", "my/host"));
    }

    #[test]
    fn no_path_a_lone_slash_and_an_encoded_slash_are_the_same_vhost() {
        for text in ["amqp://h", "amqp://h/", "amqp://h/%2f", "amqp://h/%2F", "amqp://h//"] {
            assert_eq!(amqp(text).vhost(), "/", "{text}");
            assert_eq!(amqp(text), amqp("amqp://h"), "{text}");
        }
    }

    #[test]
    fn several_hosts_share_everything_else() {
        let url = amqp("amqp://u:p@h1:5672,h2:5673,[::1]/v");
        let hosts: Vec<_> = url.hosts().collect();
        assert_eq!(hosts, [("h1", 5672), ("h2", 5673), ("[::1]", 5672)]);
        assert_eq!(amqp("amqp://u:p@h1/v, amqp://h2:5673, amqp://[::1]"), url);
    }

    #[test]
    fn parameters_are_heartbeat_and_connection_timeout() {
        let url = amqp("amqp://h/?heartbeat=20&connection_timeout=1500");
        assert_eq!(url.heartbeat(), Some(Duration::from_secs(20)));
        assert_eq!(url.connection_timeout(), Some(Duration::from_millis(1500)));
        assert_eq!(url.to_string(), "amqp://h/?heartbeat=20&connection_timeout=1500");
    }

    #[test]
    fn other_parameters_and_values_are_refused() {
        let refused = |text: &str| text.parse::<AmqpUrl>().expect_err("a wrong address");
        assert!(matches!(refused("amqp://h?verify=none"), BusUrlError::UnknownParameter { .. }));
        for value in ["", "0", "-1", "soon", "301"] {
            let error = refused(&format!("amqp://h/?heartbeat={value}"));
            assert!(matches!(error, BusUrlError::Parameter { name: "heartbeat", .. }), "{value}");
        }
    }

    #[test]
    fn shown_as_written_but_for_the_password() {
        let shown = |text: &str| amqp(text).to_string();
        assert_eq!(shown("amqp://user:secret@host:5672/vhost"), "amqp://user:***@host/vhost");
        assert_eq!(shown("amqps://user:secret@host:5672"), "amqps://user:***@host:5672/");
        assert_eq!(shown("amqp://user@host/a%2Fb"), "amqp://user@host/a%2Fb");
        assert_eq!(format!("{:?}", amqp("amqp://u:secret@h")), "AmqpUrl(amqp://u:***@h/)");
    }
}
