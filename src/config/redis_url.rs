//! The address of a Redis server or cluster.

use super::address::{Address, Encoded, Secret, Server};
use super::bus_url::BusUrlError;
use std::fmt;
use std::str::FromStr;

const SCHEMES: [&str; 2] = ["redis", "rediss"];
const DEFAULT_PORT: u16 = 6379;
const SENTINEL_SCHEMES: [&str; 2] = ["redis+sentinel", "rediss+sentinel"];
const SENTINEL_PORT: u16 = 26379;

/// The address of a Redis server or cluster, `redis://user:password@host:port/db` or `redis://:password@host`.
///
/// What is left out: no user and no password, the port 6379, the database 0. Several hosts, separated by commas, are a
/// cluster. `rediss` is Redis over TLS. There are no parameters.
///
/// `redis+sentinel://user:password@host1,host2:26380/master/db` (`rediss+sentinel`, where servers and sentinels take TLS) names
/// sentinels and the master that they watch. User, password and database are the master's; the sentinels' own, where they
/// have any, are the parameters `sentinel_user` and `sentinel_password`. Their port is 26379 where none is written.
#[derive(Clone)]
pub struct RedisUrl {
    address: Address,
    master: Option<String>,
    database: Option<u16>,
    sentinel_user: Option<String>,
    sentinel_password: Option<Secret>,
}

impl RedisUrl {
    /// Returns `redis://localhost:6379/0`.
    #[must_use]
    pub fn localhost() -> Self {
        let server = Server { host: "localhost".into(), port: None };
        Self {
            address: Address::of(server),
            master: None,
            database: None,
            sentinel_user: None,
            sentinel_password: None,
        }
    }

    /// Returns `redis`, `rediss` with TLS, `redis+sentinel` or `rediss+sentinel`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        let schemes = if self.master.is_some() { SENTINEL_SCHEMES } else { SCHEMES };
        schemes[usize::from(self.address.tls)]
    }

    /// Returns whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.address.tls
    }

    /// Returns the hosts with their ports, at least one: the server's, the cluster's or the sentinels'. IPv6 addresses are
    /// in brackets.
    #[must_use]
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = (&str, u16)> {
        let default = self.default_port();
        self.address.servers.iter().map(move |s| (s.host.as_str(), s.port.unwrap_or(default)))
    }

    /// Returns the user, where there is one.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.address.username.as_deref()
    }

    /// Returns the password in clear text, where there is one: for the connection, not for logs.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.address.password.as_ref().map(Secret::expose)
    }

    /// Returns the number of the database.
    #[must_use]
    pub fn database(&self) -> u16 {
        self.database.unwrap_or(0)
    }

    /// Returns the name of the master to ask the sentinels for, where the hosts are sentinels.
    #[must_use]
    pub fn master(&self) -> Option<&str> {
        self.master.as_deref()
    }

    /// Returns the user for the sentinels, where there is one.
    #[must_use]
    pub fn sentinel_user(&self) -> Option<&str> {
        self.sentinel_user.as_deref()
    }

    /// Returns the password for the sentinels in clear text, where there is one: for the connection, not for logs.
    #[must_use]
    pub fn sentinel_password(&self) -> Option<&str> {
        self.sentinel_password.as_ref().map(Secret::expose)
    }

    fn default_port(&self) -> u16 {
        if self.master.is_some() { SENTINEL_PORT } else { DEFAULT_PORT }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn address_mut(&mut self) -> &mut Address {
        &mut self.address
    }

    /// Returns the database where the address states one.
    pub(super) fn stated_database(&self) -> Option<u16> {
        self.database
    }

    pub(super) fn set_database(&mut self, database: u16) {
        self.database = Some(database);
    }

    fn parse_sentinel(text: &str) -> Result<Self, BusUrlError> {
        let address = Address::parse(text, SENTINEL_SCHEMES)?;
        address.allow_parameters(&["sentinel_user", "sentinel_password"])?;
        let path = address.path.as_deref().ok_or(BusUrlError::RedisMaster)?;
        let (master, database) = match path.rsplit_once('/') {
            None => (path, None),
            Some((master, database)) => {
                (master, Some(database.parse().map_err(|_| BusUrlError::RedisMaster)?))
            }
        };
        if master.is_empty() {
            return Err(BusUrlError::RedisMaster);
        }
        let text = |text: &str| Some(text.to_owned());
        Ok(Self {
            master: Some(master.to_owned()),
            database,
            sentinel_user: address.parameter("sentinel_user", "a name", text)?,
            sentinel_password: address
                .parameter("sentinel_password", "a password", text)?
                .map(Secret::new),
            address,
        })
    }
}

impl FromStr for RedisUrl {
    type Err = BusUrlError;

    fn from_str(text: &str) -> Result<Self, BusUrlError> {
        let scheme = text.split_once(':').map_or(text, |(scheme, _)| scheme);
        if SENTINEL_SCHEMES.iter().any(|sentinel| scheme.eq_ignore_ascii_case(sentinel)) {
            return Self::parse_sentinel(text);
        }
        let address = Address::parse(text, SCHEMES)?;
        address.allow_parameters(&[])?;
        let database = match &address.path {
            None => None,
            Some(path) => Some(path.parse().map_err(|_| BusUrlError::RedisDatabase)?),
        };
        Ok(Self { address, master: None, database, sentinel_user: None, sentinel_password: None })
    }
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        self.is_tls() == other.is_tls()
            && self.hosts().eq(other.hosts())
            && self.username() == other.username()
            && self.password() == other.password()
            && self.database() == other.database()
            && self.master == other.master
            && self.sentinel_user == other.sentinel_user
            && self.sentinel_password == other.sentinel_password
    }
}

impl Eq for RedisUrl {}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        self.address.write_masked(f, self.default_port())?;
        if let Some(master) = &self.master {
            write!(f, "/{}", Encoded(master))?;
        }
        write!(f, "/{}", self.database())
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

    #[test]
    fn sentinels_are_asked_for_a_master() {
        let url = redis(
            "rediss+sentinel://:secret@s1,s2:1/my.master/3?sentinel_user=u&sentinel_password=hush",
        );
        assert_eq!((url.master(), url.database(), url.is_tls()), (Some("my.master"), 3, true));
        assert_eq!(url.hosts().collect::<Vec<_>>(), [("s1", 26379), ("s2", 1)]);
        assert_eq!((url.sentinel_user(), url.sentinel_password()), (Some("u"), Some("hush")));
        assert_eq!(url.to_string(), "rediss+sentinel://:***@s1,s2:1/my.master/3");
        let short = redis("redis+sentinel://s1/main");
        assert_eq!((short.database(), short.scheme()), (0, "redis+sentinel"));
        assert_eq!(short, redis("redis+sentinel://s1:26379/main/0"));
        assert_ne!(short, redis("redis+sentinel://s1/other"));
    }

    #[test]
    fn sentinels_without_a_master_are_an_error() {
        for text in [
            "redis+sentinel://s",
            "redis+sentinel://s/",
            "redis+sentinel://s/m/x",
            "redis+sentinel://s//0",
        ] {
            assert_eq!(text.parse::<RedisUrl>(), Err(BusUrlError::RedisMaster), "{text}");
        }
        let unknown = "redis+sentinel://s/m?sentinel=1".parse::<RedisUrl>();
        assert!(matches!(unknown, Err(BusUrlError::UnknownParameter { .. })));
    }
}
