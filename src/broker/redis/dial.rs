//! What keeps a connection from coming about, in words that say what to do.

use std::{io, time::Duration};

use super::{Host, RedisOptions, fault::Fault};

/// Redis cannot be used. The texts hold the causes, so that no error has a source, and never a
/// password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// None of the hosts answers.
    #[error("Redis cannot be reached at {hosts}: {reason}; is it running?")]
    Unreachable {
        /// The hosts that were tried.
        hosts: String,
        /// What the system said.
        reason: String,
    },
    /// The server does not know the user or the password.
    #[error("Redis at {host} refused user `{user}`: unknown user or wrong password")]
    Credentials {
        /// The user.
        user: String,
        /// The server.
        host: String,
    },
    /// The server wants a password, and there is none.
    #[error(
        "Redis at {host} wants a password; write it into the address, as in `redis://:password@host`"
    )]
    NoPassword {
        /// The server.
        host: String,
    },
    /// The user may not do what the bus has to do.
    #[error(
        "user `{user}` of Redis at {host} may not use the bus: {reason}; it needs all commands on the keys `{keys}` and the channels of the same names"
    )]
    Denied {
        /// The user.
        user: String,
        /// The server.
        host: String,
        /// The pattern of the keys.
        keys: String,
        /// What the server said.
        reason: String,
    },
    /// The server has no such database.
    #[error("Redis at {host} has no database {database}: {reason}")]
    NoDatabase {
        /// The number.
        database: u16,
        /// The server.
        host: String,
        /// What the server said.
        reason: String,
    },
    /// The server is a replica, which takes no messages.
    #[error("Redis at {host} is a read-only replica; name its master")]
    ReadOnly {
        /// The server.
        host: String,
    },
    /// The server is a node of a cluster, and the address names no other.
    #[error(
        "Redis at {host} is a node of a cluster; name several of its nodes, as in `redis://node1,node2,node3`"
    )]
    Cluster {
        /// The server.
        host: String,
    },
    /// The address names several hosts, and they are no cluster.
    #[error("Redis at {host} is no node of a cluster; name one server, without commas")]
    NoCluster {
        /// The server.
        host: String,
    },
    /// The sentinels do not watch a master of this name.
    #[error("the sentinel at {host} knows no master `{master}`; `SENTINEL MASTERS` lists them")]
    NoMaster {
        /// The name.
        master: String,
        /// The sentinel.
        host: String,
    },
    /// The host is no sentinel.
    #[error("{host} is no sentinel; name the server itself as in `redis://host`")]
    NoSentinel {
        /// The host.
        host: String,
    },
    /// The server is older than what the bus needs.
    #[error("Redis at {host} is version {version}; the bus needs 6.2 or later")]
    TooOld {
        /// The server.
        host: String,
        /// Its version.
        version: String,
    },
    /// The encrypted connection did not come about.
    #[error("no TLS connection to {host}: {reason}")]
    Tls {
        /// The server.
        host: String,
        /// What went wrong.
        reason: String,
    },
    /// `rediss` was asked for, and this program is built without it.
    #[error("`rediss` to {hosts} needs agentbus with its feature `tls`")]
    TlsNotBuilt {
        /// The hosts.
        hosts: String,
    },
    /// The server accepted the connection and then said nothing.
    #[error("Redis at {host} did not answer within {after:?}")]
    Timeout {
        /// The server.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// The server gave another reason.
    #[error("Redis at {host} refused the connection: {reason}")]
    Refused {
        /// The server.
        host: String,
        /// What it said.
        reason: String,
    },
    /// An option has a value that cannot be.
    #[error("option `{option}` cannot be used: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl ConnectError {
    pub(super) fn option(option: &'static str, reason: &str) -> Self {
        Self::Option { option, reason: reason.to_owned() }
    }

    /// Finds out what an error of the system means, before or below the first word of the server.
    pub(super) fn system(error: &io::Error, host: &Host, options: &RedisOptions) -> Self {
        let (host, reason) = (host.to_string(), error.to_string());
        if options.tls && is_about_tls(error) {
            Self::Tls { host, reason }
        } else {
            Self::Unreachable { hosts: host, reason }
        }
    }

    /// Finds out what a fault means where a connection is being made.
    pub(super) fn greeting(fault: Fault, host: &Host, options: &RedisOptions) -> Self {
        let (host, user) = (host.to_string(), options.user_name().to_owned());
        match fault {
            Fault::Denied(reason) if reason.starts_with("NOPERM") => {
                Self::Denied { user, host, keys: options.key("*"), reason }
            }
            Fault::Denied(reason) if reason.starts_with("NOAUTH") && options.password.is_none() => {
                Self::NoPassword { host }
            }
            Fault::Denied(_) => Self::Credentials { user, host },
            Fault::Timeout(after) => Self::Timeout { host, after },
            Fault::ReadOnly(_) => Self::ReadOnly { host },
            Fault::Lost(reason) => Self::Refused { host, reason },
            fault => Self::Refused { host, reason: fault.to_string() },
        }
    }

    /// Tells what kind of setback it is.
    pub(super) fn setback(&self) -> Setback {
        match self {
            Self::Unreachable { .. } => Setback::Unreachable,
            Self::Timeout { .. } => Setback::Silence,
            // A replica becomes a master, and a name leads elsewhere, without anybody's doing here.
            Self::Refused { .. } | Self::ReadOnly { .. } => Setback::Unready,
            _ => Setback::Refusal,
        }
    }

    fn is_refusal(&self) -> bool {
        matches!(self.setback(), Setback::Refusal) || matches!(self, Self::ReadOnly { .. })
    }
}

/// What kind of setback a failed attempt is: how soon another one makes sense depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setback {
    /// Nobody is there. Asking costs nobody anything.
    Unreachable,
    /// Somebody is there, and says nothing. That was waited for already.
    Silence,
    /// The server breaks off or is not ready, as while it loads its data.
    Unready,
    /// Somebody has to change something before it can work: dialling again soon only fills the
    /// server's log.
    Refusal,
}

fn is_about_tls(error: &io::Error) -> bool {
    let text = error.to_string().to_lowercase();
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
        || ["tls", "certificate", "handshake"].iter().any(|word| text.contains(word))
}

/// Sums up the attempts at all hosts: a refusal tells more than a host that does not answer.
pub(super) fn sum_up(mut errors: Vec<ConnectError>, options: &RedisOptions) -> ConnectError {
    if let Some(at) = errors.iter().position(ConnectError::is_refusal) {
        return errors.swap_remove(at);
    }
    if errors.len() == 1 {
        return errors.swap_remove(0);
    }
    let reasons: Vec<_> = errors
        .iter()
        .map(|error| match error {
            ConnectError::Unreachable { hosts, reason } => (hosts.as_str(), reason.clone()),
            other => ("", other.to_string()),
        })
        .collect();
    let alike = reasons.windows(2).all(|pair| pair[0].1 == pair[1].1);
    let reason = match reasons.first() {
        Some((_, reason)) if alike => reason.clone(),
        _ => {
            let named = reasons.iter().map(|(host, reason)| match *host {
                "" => reason.clone(),
                host => format!("{host}: {reason}"),
            });
            named.collect::<Vec<_>>().join("; ")
        }
    };
    ConnectError::Unreachable { hosts: options.addresses(), reason }
}

/// For how long a server that cannot be reached is thought to be about to come back.
const HOPE: Duration = Duration::from_secs(30);

/// Longest wait meanwhile: what notices the end of the outage is mostly this.
const HOPEFUL: Duration = Duration::from_millis(500);

/// The first wait, where the server may be back soon.
const SOON: Duration = Duration::from_millis(100);

/// How long to wait before dialling again after `failures` failures in a row, the last of which was
/// `setback`, in an outage that has `lasted` so long.
///
/// The wait doubles, with full jitter, up to a cap that depends on whether waiting can help.
pub(super) fn wait(
    failures: u32,
    setback: Setback,
    lasted: Duration,
    options: &RedisOptions,
) -> Duration {
    let unreachable = options.longest_wait_unreachable;
    let (first, longest) = match setback {
        Setback::Silence => return Duration::ZERO,
        Setback::Unreachable | Setback::Unready if lasted < HOPE => {
            (SOON, unreachable.min(HOPEFUL))
        }
        Setback::Unreachable | Setback::Unready => (SOON, unreachable),
        Setback::Refusal => (Duration::from_secs(1), options.longest_wait_refused),
    };
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(longest).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host { name: "h".to_owned(), port: 1 }
    }

    #[test]
    fn what_keeps_the_server_from_greeting_is_told_apart() {
        let with = RedisOptions { password: Some("x".into()), ..RedisOptions::default() };
        let without = RedisOptions::default();
        let greeting = |said: &str, options| {
            ConnectError::greeting(Fault::Denied(said.to_owned()), &host(), options)
        };
        assert!(matches!(greeting("WRONGPASS no", &with), ConnectError::Credentials { .. }));
        assert!(matches!(greeting("NOAUTH no", &without), ConnectError::NoPassword { .. }));
        assert!(matches!(greeting("NOPERM no", &with), ConnectError::Denied { .. }));
        let loading = ConnectError::greeting(Fault::Busy("LOADING".into()), &host(), &with);
        assert_eq!(loading.setback(), Setback::Unready);
    }

    #[test]
    fn a_refusal_by_one_host_tells_more_than_silence_of_another() {
        let options = RedisOptions::default();
        let silent = || ConnectError::Timeout { host: "a".into(), after: Duration::from_secs(1) };
        let refused = ConnectError::Credentials { user: "me".into(), host: "b".into() };
        assert_eq!(sum_up(vec![silent(), refused.clone()], &options), refused);
        let both = sum_up(vec![silent(), silent()], &options);
        assert!(matches!(both, ConnectError::Unreachable { .. }), "{both}");
    }

    #[test]
    fn hosts_that_fail_alike_share_a_reason() {
        let options = RedisOptions::from_url("redis://a:1,b:1").unwrap();
        let unreachable = |host: &str, reason: &str| ConnectError::Unreachable {
            hosts: host.into(),
            reason: reason.into(),
        };
        let alike =
            sum_up(vec![unreachable("a:1", "refused"), unreachable("b:1", "refused")], &options);
        let text = "Redis cannot be reached at a:1, b:1: refused; is it running?";
        assert_eq!(alike.to_string(), text);
        let apart =
            sum_up(vec![unreachable("a:1", "refused"), unreachable("b:1", "no route")], &options);
        let text =
            "Redis cannot be reached at a:1, b:1: a:1: refused; b:1: no route; is it running?";
        assert_eq!(apart.to_string(), text);
    }

    #[test]
    fn the_wait_stays_below_its_cap() {
        let options = RedisOptions::default();
        let longest = |setback, lasted, failures| {
            (0..1000).map(|_| wait(failures, setback, lasted, &options)).max().unwrap()
        };
        let (new, old) = (Duration::ZERO, Duration::from_mins(1));
        for failures in [7, 100, u32::MAX] {
            for (setback, lasted, cap) in [
                (Setback::Unreachable, new, Duration::from_millis(500)),
                (Setback::Unreachable, old, Duration::from_secs(2)),
                (Setback::Unready, old, Duration::from_secs(2)),
                (Setback::Silence, old, Duration::ZERO),
                (Setback::Refusal, new, Duration::from_mins(1)),
            ] {
                let longest = longest(setback, lasted, failures);
                assert!(longest <= cap && longest >= cap / 2, "{setback:?} {lasted:?} {longest:?}");
            }
        }
        assert!(longest(Setback::Unreachable, old, 1) <= Duration::from_millis(100));
        assert!(longest(Setback::Refusal, new, 1) <= Duration::from_secs(1));
    }
}
