//! The address of a Redis server or cluster.

use super::address::{Address, Server};
use super::bus_url::BusUrlError;
use std::fmt;
use std::str::FromStr;

const SCHEMES: [&str; 2] = ["redis", "rediss"];
const DEFAULT_PORT: u16 = 6379;

/// The address of a Redis server or cluster, `redis://user:password@host:port/db` or `redis://:password@host`.
///
/// What is left out: no user and no password, the port 6379, the database 0. Several hosts, separated by commas, are a
/// cluster. `rediss` is Redis over TLS. There are no parameters.
#[derive(Clone)]
pub struct RedisUrl {
    address: Address,
    database: u16,
}

impl RedisUrl {
    /// Returns `redis://localhost:6379/0`.
    #[must_use]
    pub fn localhost() -> Self {
        let server = Server { host: "localhost".into(), port: None };
        Self { address: Address::of(server), database: 0 }
    }

    /// Returns `redis`, or `rediss` with TLS.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        SCHEMES[usize::from(self.address.tls)]
    }

    /// Returns whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.address.tls
    }

    /// Returns the hosts with their ports, at least one. IPv6 addresses are in brackets.
    #[must_use]
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = (&str, u16)> {
        self.address.servers.iter().map(|s| (s.host.as_str(), s.port.unwrap_or(DEFAULT_PORT)))
    }

    /// Returns the user, where there is one.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.address.username.as_deref()
    }

    /// Returns the password in clear text, where there is one: for the connection, not for logs.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.address.password.as_ref().map(super::address::Secret::expose)
    }

    /// Returns the number of the database.
    #[must_use]
    pub fn database(&self) -> u16 {
        self.database
    }
}

impl FromStr for RedisUrl {
    type Err = BusUrlError;

    fn from_str(text: &str) -> Result<Self, BusUrlError> {
        let address = Address::parse(text, SCHEMES)?;
        address.allow_parameters(&[])?;
        let database = match &address.path {
            None => 0,
            Some(path) => path.parse().map_err(|_| BusUrlError::RedisDatabase)?,
        };
        Ok(Self { address, database })
    }
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        self.is_tls() == other.is_tls()
            && self.hosts().eq(other.hosts())
            && self.username() == other.username()
            && self.password() == other.password()
            && self.database == other.database
    }
}

impl Eq for RedisUrl {}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        self.address.write_masked(f, DEFAULT_PORT)?;
        write!(f, "/{}", self.database)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(text: &str) -> RedisUrl {
        text.parse().expect("an address")
    }

    #[test]
    fn what_is_left_out_is_no_user_the_default_port_and_database_0() {
        let url = redis("redis://cache");
        assert_eq!((url.username(), url.password(), url.database()), (None, None, 0));
        assert_eq!(url.hosts().collect::<Vec<_>>(), [("cache", 6379)]);
        assert_eq!(RedisUrl::localhost(), redis("redis://localhost:6379/0"));
    }

    #[test]
    fn password_without_a_user_is_hidden() {
        let url = redis("rediss://:secret@cache/2");
        assert_eq!(url.password(), Some("secret"));
        assert_eq!(url.to_string(), "rediss://:***@cache/2");
        assert_eq!(format!("{url:?}"), "RedisUrl(rediss://:***@cache/2)");
    }

    #[test]
    fn cluster_is_a_list_of_hosts_or_of_addresses() {
        let url = redis("redis://node1:6379,redis://node2:6379,redis://node3:6379");
        assert_eq!(url.hosts().len(), 3);
        assert_eq!(url, redis("redis://node1,node2,node3"));
    }

    #[test]
    fn database_is_a_number() {
        assert_eq!("redis://h/first".parse::<RedisUrl>(), Err(BusUrlError::RedisDatabase));
    }
}
