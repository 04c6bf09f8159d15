//! Where the bus is: one address for every backend.

use super::amqp_url::AmqpUrl;
use super::redis_url::RedisUrl;
use std::fmt;
use std::str::FromStr;

/// The address of the bus; which backend serves it follows from the scheme.
///
/// | written as | means |
/// |---|---|
/// | `memory:`, `memory://name` | embedded in this process; those who use the same name share one bus |
/// | `amqp://user:password@host:port/vhost` | RabbitMQ |
/// | `amqp://user:password@host1:5672,host2:5673/vhost` | RabbitMQ, its hosts tried in turn |
/// | `amqps://…` | RabbitMQ over TLS |
/// | `redis://user:password@host:port/db`, `rediss://…` | Redis, over TLS the second |
/// | `redis://:password@node1,node2,node3` | Redis Cluster, found through any of these nodes |
/// | `redis+sentinel://:password@host1,host2/master/db`, `rediss+sentinel://…` | Redis, its master found through these sentinels |
///
/// In user names, passwords and paths, `/ ? # % ` and whatever else means something in an address are written
/// percent-encoded (`%2F`). `Display` and `Debug` never show the password. Two addresses are equal when they lead to the
/// same place in the same way, however they are written.
///
/// ```
/// use agentbus::config::BusUrl;
///
/// let bus: BusUrl = "amqp://app:s3cret@rabbit-1,rabbit-2:5673/prod".parse()?;
/// assert_eq!(bus.to_string(), "amqp://app:***@rabbit-1,rabbit-2:5673/prod");
/// # Ok::<(), agentbus::config::BusUrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusUrl {
    /// Embedded in this process.
    Memory {
        /// The name under which others in this process reach the same bus; `None` is the one without a name.
        name: Option<String>,
    },
    /// A RabbitMQ broker or cluster.
    Amqp(AmqpUrl),
    /// A Redis server or cluster, or one that sentinels watch.
    Redis(RedisUrl),
}

/// The embedded bus without a name.
impl Default for BusUrl {
    fn default() -> Self {
        Self::Memory { name: None }
    }
}

impl BusUrl {
    /// Parses several addresses as one, whose hosts are tried in turn. Each may leave out what the others say; what they
    /// say must be the same but for host and port.
    ///
    /// # Errors
    /// As for parsing one, and [`BusUrlError::HostsDiffer`], also for an empty list and for several embedded buses.
    pub fn from_list<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Self, BusUrlError> {
        let urls: Vec<_> = urls.into_iter().collect();
        match urls[..] {
            [] => Err(BusUrlError::HostsDiffer),
            [one] => one.parse(),
            [first, ..] => match first.parse()? {
                Self::Memory { .. } => Err(BusUrlError::HostsDiffer),
                _ => urls.join(",").parse(),
            },
        }
    }

    /// Returns the scheme: `memory`, `amqp`, `amqps`, `redis`, `rediss`, `redis+sentinel` or `rediss+sentinel`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Memory { .. } => "memory",
            Self::Amqp(url) => url.scheme(),
            Self::Redis(url) => url.scheme(),
        }
    }

    /// Returns whether reaching this bus takes TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Memory { .. } => false,
            Self::Amqp(url) => url.is_tls(),
            Self::Redis(url) => url.is_tls(),
        }
    }

    /// Returns whether this build can speak TLS: whether agentbus was compiled with its feature `tls`.
    #[must_use]
    pub const fn tls_is_built_in() -> bool {
        cfg!(feature = "tls")
    }

    /// Returns whether the two differ in the password only, which their texts do not show.
    pub(super) fn differs_in_password_only(&self, other: &Self) -> bool {
        self != other && self.to_string() == other.to_string()
    }
}

impl FromStr for BusUrl {
    type Err = BusUrlError;

    fn from_str(text: &str) -> Result<Self, BusUrlError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once(':').ok_or(BusUrlError::Scheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "memory" => {
                let name = rest.strip_prefix("//").unwrap_or(rest);
                let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                if !name.chars().all(allowed) {
                    return Err(BusUrlError::MemoryName);
                }
                Ok(Self::Memory { name: (!name.is_empty()).then(|| name.to_owned()) })
            }
            "amqp" | "amqps" => text.parse().map(Self::Amqp),
            "redis" | "rediss" | "redis+sentinel" | "rediss+sentinel" => {
                text.parse().map(Self::Redis)
            }
            _ => Err(BusUrlError::Scheme),
        }
    }
}

impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { name: None } => f.write_str("memory:"),
            Self::Memory { name: Some(name) } => write!(f, "memory://{name}"),
            Self::Amqp(url) => url.fmt(f),
            Self::Redis(url) => url.fmt(f),
        }
    }
}

impl fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BusUrl({self})")
    }
}

impl From<AmqpUrl> for BusUrl {
    fn from(url: AmqpUrl) -> Self {
        Self::Amqp(url)
    }
}

impl From<RedisUrl> for BusUrl {
    fn from(url: RedisUrl) -> Self {
        Self::Redis(url)
    }
}

/// What is wrong with the text of an address.
///
/// None of these repeats any of the text: where it is wrong, nobody knows which part of it is the password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusUrlError {
    /// No scheme, or one that no backend serves.
    #[error(
        "an address starts with `memory:`, `amqp://`, `amqps://`, `redis://`, `rediss://` or `redis+sentinel://`, as in \
         `amqp://user:password@host:5672/vhost`"
    )]
    Scheme,
    /// A host is missing or is not one.
    #[error("every host must be a name, an IPv4 address or an IPv6 address in brackets")]
    Host,
    /// A port is not one.
    #[error(
        "every port must be a number from 1 to 65535 (a `/` in the password is written `%2F`, a `:` in an address `[::1]`)"
    )]
    Port,
    /// A `%` without two hexadecimal digits, or digits that do not make UTF-8.
    #[error(
        "every `%` must be followed by two hexadecimal digits and give UTF-8; a plain `%` is written `%25`"
    )]
    Percent,
    /// A character that ends a part of the address, most likely in a password.
    #[error(
        "user and password must be percent-encoded: `/` as `%2F`, `?` as `%3F`, `#` as `%23`, `@` as `%40`"
    )]
    Unencoded,
    /// A list mixes schemes.
    #[error("every address of a list must have the same scheme")]
    MixedSchemes,
    /// The addresses of a list differ in more than host and port.
    #[error(
        "the addresses of a list may differ in host and port only, and there must be at least one"
    )]
    HostsDiffer,
    /// An address for RabbitMQ that is not one.
    #[error("it must begin with `amqp://` or `amqps://`")]
    NotAmqp,
    /// An address for Redis that is not one.
    #[error("it must begin with `redis://`, `rediss://` or `redis+sentinel://`")]
    NotRedis,
    /// The name of an embedded bus has other characters than letters, digits, `-`, `_` and `.`.
    #[error(
        "the name of an embedded bus is made of letters, digits, `-`, `_` and `.`, as in `memory://name`"
    )]
    MemoryName,
    /// A Redis database that is not a number.
    #[error("the path of a Redis address is the number of a database, as in `redis://host/0`")]
    RedisDatabase,
    /// An address of sentinels without the name of their master, or with a database that is not a number.
    #[error(
        "the path of a Sentinel address is the name of the master, then the number of a database where it is not 0, as in \
         `redis+sentinel://host1,host2/mymaster/0`"
    )]
    RedisMaster,
    /// A query parameter whose value is not allowed.
    #[error("the parameter `{name}` must be {allowed}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// A query parameter that agentbus does not know.
    #[error("unknown parameter after the `?`; {}", Allowed(allowed))]
    UnknownParameter {
        /// Those it knows.
        allowed: &'static [&'static str],
    },
}

struct Allowed<'a>(&'a [&'static str]);

impl fmt::Display for Allowed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("there are none for this scheme"),
            names => write!(f, "allowed: `{}`", names.join("`, `")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn default_is_the_embedded_bus() {
        assert_eq!(BusUrl::default().to_string(), "memory:");
        assert_eq!("memory:".parse(), Ok(BusUrl::default()));
        assert_eq!("memory://".parse(), Ok(BusUrl::default()));
    }

    #[test]
    fn embedded_buses_have_names() {
        let bus: BusUrl = "memory://tests".parse().expect("an address");
        assert_eq!(bus, BusUrl::Memory { name: Some("tests".into()) });
        assert_eq!(bus.to_string(), "memory://tests");
        assert_eq!("memory://a/b".parse::<BusUrl>(), Err(BusUrlError::MemoryName));
    }

    #[test]
    fn other_schemes_are_refused_with_those_that_are_allowed() {
        for text in ["", "rabbit", "http://host", "localhost:5672", "user:secret@host"] {
            assert_eq!(text.parse::<BusUrl>(), Err(BusUrlError::Scheme), "{text}");
        }
        assert!(BusUrlError::Scheme.to_string().contains("amqps://"));
    }

    #[test]
    fn schemes_are_case_insensitive() {
        assert_eq!("AMQP://h".parse::<BusUrl>(), "amqp://h".parse());
        assert_eq!("Memory:".parse(), Ok(BusUrl::default()));
    }

    #[test]
    fn lists_become_one_address_with_several_hosts() {
        let list = BusUrl::from_list(["amqp://u:p@h1/v", "amqp://h2:5673"]).expect("an address");
        assert_eq!(list, "amqp://u:p@h1,h2:5673/v".parse().expect("an address"));
        assert_eq!(BusUrl::from_list(["memory:"]), Ok(BusUrl::default()));
    }

    #[test]
    fn lists_that_differ_in_more_than_the_host_are_refused() {
        let differ = [
            &["amqp://u:p@h1", "amqp://u:q@h2"][..],
            &["amqp://h1/a", "amqp://h2/b"],
            &["amqp://h1", "amqps://h2"],
            &["memory:", "memory:"],
            &[],
        ];
        for list in differ {
            assert_eq!(BusUrl::from_list(list.iter().copied()), Err(BusUrlError::HostsDiffer));
        }
        let mixed = BusUrl::from_list(["amqp://h1", "redis://h2"]);
        assert!(mixed.is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), tail in "[a-z:/@,?&#%0-9]{0,40}") {
            for text in [text, format!("amqp://{tail}"), format!("redis:{tail}"), format!("memory:{tail}")] {
                let _ = text.parse::<BusUrl>();
            }
        }

        #[test]
        fn what_is_shown_parses_back_when_there_is_no_password(
            hosts in proptest::collection::vec("[a-z][a-z0-9]{0,8}(:[1-9][0-9]{0,3})?", 1..4),
            vhost in any::<String>(),
        ) {
            let text = format!("amqp://{}/{}", hosts.join(","), super::super::address::Encoded(&vhost));
            let bus: BusUrl = text.parse().expect("an address");
            prop_assert_eq!(bus.to_string().parse(), Ok(bus));
        }
    }
}
