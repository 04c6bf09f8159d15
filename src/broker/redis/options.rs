//! How to reach Redis and how to use it.

use std::{fmt, time::Duration};

use super::ConnectError;
use crate::{
    config::{BusUrlError, RedisUrl},
    contract::Name,
};

/// What the Redis backend is told.
///
/// ```
/// use agentbus::broker::redis::{Deployment, RedisOptions};
///
/// let options = RedisOptions::from_url("redis://:secret@node1,node2:6380,node3")?;
/// assert_eq!(options.deployment, Deployment::Cluster);
/// assert_eq!(options.hosts[1].port, 6380);
/// # Ok::<(), agentbus::broker::redis::ConnectError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// The server; some nodes of the cluster, or the sentinels, tried in turn.
    pub hosts: Vec<Host>,
    /// What the hosts are.
    pub deployment: Deployment,
    /// User to log in as; none is Redis's `default`.
    pub user: Option<String>,
    /// The user's password, where one is needed; never shown.
    pub password: Option<String>,
    /// User to log in as at sentinels.
    pub sentinel_user: Option<String>,
    /// The password for sentinels, where they want one; never shown.
    pub sentinel_password: Option<String>,
    /// Number of the database; a cluster has only 0.
    pub database: u16,
    /// Whether to use TLS (`rediss`); needs the feature `tls`.
    pub tls: bool,
    /// How often an idle connection is looked at. Whole seconds.
    pub heartbeat: Duration,
    /// Name of the bus: it is in all of its keys, between braces, which keep them on one node.
    pub exchange: Name,
    /// Whether queues are only expected to be there: declaring one makes none, compares nothing, and
    /// binds its patterns.
    pub passive: bool,
    /// How many published messages may wait for their confirmation at a time.
    pub confirm_window: usize,
    /// How long a publish waits, from the call to the confirmation.
    pub publish_timeout: Duration,
    /// How long one attempt to connect to one host may take.
    pub connect_timeout: Duration,
    /// How long any other answer of the server is waited for: declaring, claiming, counting.
    pub operation_timeout: Duration,
    /// How long a message stays with a consumer that is not heard of any more; one that lives says
    /// so three times in that time. All processes of a bus have the same. At least a second.
    pub lease: Duration,
    /// How large a body may be that is published to a topic or as a reply, in bytes.
    pub max_message_bytes: usize,
    /// Longest wait before dialling again where credentials or TLS were refused.
    pub longest_wait_refused: Duration,
    /// Longest wait before dialling again where the server cannot be reached.
    pub longest_wait_unreachable: Duration,
    /// Name that `CLIENT LIST` shows for the connection.
    pub connection_name: String,
}

/// The address of a server, a node or a sentinel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Host name, or IP address without brackets.
    pub name: String,
    /// Port; 6379 is Redis's, 26379 Sentinel's.
    pub port: u16,
}

/// What the hosts of an address are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deployment {
    /// One server; what stands behind its name may change.
    #[default]
    Single,
    /// Nodes of a cluster, which know where the bus is.
    Cluster,
    /// Sentinels, which know where the master of this name is.
    Sentinel {
        /// The name.
        master: String,
    },
}

impl RedisOptions {
    /// Reads `redis://user:password@host:port/database`, with the defaults for everything else.
    ///
    /// Several hosts, separated by commas, are nodes of a cluster; for sentinels it is
    /// `redis+sentinel://host1,host2/master/database`.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError::Option`] where the address cannot be read; the text leaves the
    /// password out.
    pub fn from_url(url: &str) -> Result<Self, ConnectError> {
        let bad = |reason: BusUrlError| ConnectError::option("url", &reason.to_string());
        Ok(Self::from(&url.parse::<RedisUrl>().map_err(bad)?))
    }

    /// Checks what the types leave open.
    pub(super) fn check(&self) -> Result<(), ConnectError> {
        let bad = |option, reason| Err(ConnectError::option(option, reason));
        if self.hosts.is_empty() || self.hosts.iter().any(|host| host.name.is_empty()) {
            return bad("hosts", "at least one host is needed, and none may be empty");
        }
        if self.exchange.is_empty() || self.exchange.contains(['{', '}']) {
            return bad("exchange", "it must have at least 1 byte, and no braces");
        }
        if self.lease < Duration::from_secs(1) {
            return bad("lease", "it must be at least a second");
        }
        if self.confirm_window == 0 {
            return bad("confirm_window", "it must be at least 1");
        }
        if self.deployment == Deployment::Cluster && self.database != 0 {
            return bad("database", "a cluster has only database 0");
        }
        if self.tls && !cfg!(feature = "tls") {
            return Err(ConnectError::TlsNotBuilt { hosts: self.addresses() });
        }
        Ok(())
    }

    /// Returns a key of the bus.
    pub(super) fn key(&self, rest: &str) -> String {
        format!("agentbus:{{{}}}:{rest}", self.exchange)
    }

    /// Returns the channel on which it is said that something is to be done.
    ///
    /// All databases of a server share the channels.
    pub(super) fn wake_channel(&self) -> String {
        self.key(&format!("wake:{}", self.database))
    }

    /// Lists the hosts for a message to a person.
    pub(super) fn addresses(&self) -> String {
        self.hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Names the user for a message to a person.
    pub(super) fn user_name(&self) -> &str {
        self.user.as_deref().unwrap_or("default")
    }
}

impl From<&RedisUrl> for RedisOptions {
    fn from(url: &RedisUrl) -> Self {
        let host = |(name, port): (&str, u16)| {
            let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
            Host { name, port }
        };
        let deployment = match url.master() {
            Some(master) => Deployment::Sentinel { master: master.to_owned() },
            None if url.hosts().len() > 1 => Deployment::Cluster,
            None => Deployment::Single,
        };
        Self {
            hosts: url.hosts().map(host).collect(),
            deployment,
            user: url.username().map(str::to_owned),
            password: url.password().map(str::to_owned),
            sentinel_user: url.sentinel_user().map(str::to_owned),
            sentinel_password: url.sentinel_password().map(str::to_owned),
            database: url.database(),
            tls: url.is_tls(),
            ..Self::default()
        }
    }
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            hosts: vec![Host { name: "localhost".to_owned(), port: 6379 }],
            deployment: Deployment::Single,
            user: None,
            password: None,
            sentinel_user: None,
            sentinel_password: None,
            database: 0,
            tls: false,
            heartbeat: Duration::from_secs(10),
            exchange: Name::from_static("agentbus.events"),
            passive: false,
            confirm_window: 256,
            publish_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(10),
            lease: Duration::from_secs(30),
            max_message_bytes: 16 << 20,
            longest_wait_refused: Duration::from_mins(1),
            longest_wait_unreachable: Duration::from_secs(2),
            connection_name: "agentbus".to_owned(),
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("hosts", &self.hosts)
            .field("deployment", &self.deployment)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("sentinel_user", &self.sentinel_user)
            .field("sentinel_password", &self.sentinel_password.as_ref().map(|_| "***"))
            .field("database", &self.database)
            .field("tls", &self.tls)
            .field("exchange", &self.exchange)
            .field("confirm_window", &self.confirm_window)
            .finish_non_exhaustive()
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
        let options = RedisOptions::from_url("redis://me:p%40ss@[::1]:99/3").unwrap();
        assert_eq!(options.hosts, [Host { name: "::1".to_owned(), port: 99 }]);
        assert_eq!(options.hosts[0].to_string(), "[::1]:99");
        assert_eq!(options.user.as_deref(), Some("me"));
        assert_eq!(options.password.as_deref(), Some("p@ss"));
        assert_eq!((options.database, options.deployment), (3, Deployment::Single));
        let cluster = RedisOptions::from_url("redis://a,b,c").unwrap();
        assert_eq!((cluster.hosts.len(), cluster.deployment), (3, Deployment::Cluster));
        let sentinels = "redis+sentinel://:a@s1,s2/main/2?sentinel_password=b";
        let sentinels = RedisOptions::from_url(sentinels).unwrap();
        assert_eq!(sentinels.hosts[1], Host { name: "s2".to_owned(), port: 26379 });
        assert_eq!(sentinels.deployment, Deployment::Sentinel { master: "main".to_owned() });
        assert_eq!((sentinels.sentinel_password.as_deref(), sentinels.database), (Some("b"), 2));
    }

    #[test]
    fn the_password_is_never_shown() {
        let url = "redis+sentinel://:SECRET@h/main?sentinel_password=SECRET";
        let options = RedisOptions::from_url(url).unwrap();
        assert!(!format!("{options:?} {options:#?}").contains("SECRET"));
        let error = RedisOptions::from_url("redis://:SECRET@h/SECRET").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("SECRET"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let option = |options: RedisOptions| match options.check() {
            Err(ConnectError::Option { option, .. }) => option,
            other => panic!("{other:?}"),
        };
        let options = RedisOptions::default;
        assert!(options().check().is_ok());
        assert_eq!(option(RedisOptions { hosts: Vec::new(), ..options() }), "hosts");
        let braces = Name::from_static("a{b}");
        assert_eq!(option(RedisOptions { exchange: braces, ..options() }), "exchange");
        assert_eq!(option(RedisOptions { confirm_window: 0, ..options() }), "confirm_window");
        let cluster = RedisOptions::from_url("redis://a,b/1").unwrap();
        assert_eq!(option(cluster), "database");
    }

    #[test]
    fn all_keys_of_a_bus_have_one_hash_tag() {
        let options = RedisOptions { database: 2, ..RedisOptions::default() };
        assert_eq!(options.key("q:data"), "agentbus:{agentbus.events}:q:data");
        assert_eq!(options.wake_channel(), "agentbus:{agentbus.events}:wake:2");
    }
}
