//! What keeps a connection from coming about, in words that say what to do.

use std::{io, time::Duration};

use deadpool_lapin::PoolError;
use lapin::ErrorKind;

use super::{
    Declare, Host, RabbitOptions,
    fault::{self, Fault},
};

/// RabbitMQ cannot be used. The texts hold the causes, so that no error has a source, and never a
/// password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// None of the hosts answers.
    #[error("RabbitMQ cannot be reached at {hosts}: {reason}; is it running?")]
    Unreachable {
        /// The hosts that were tried.
        hosts: String,
        /// What the system said.
        reason: String,
    },
    /// The broker does not know the user or the password.
    #[error("RabbitMQ at {host} refused user `{user}`: unknown user or wrong password")]
    Credentials {
        /// The user.
        user: String,
        /// The broker.
        host: String,
    },
    /// The broker has no such virtual host.
    #[error(
        "RabbitMQ at {host} has no virtual host `{vhost}`; create it with `rabbitmqctl add_vhost`, or name another"
    )]
    NoVhost {
        /// The virtual host.
        vhost: String,
        /// The broker.
        host: String,
    },
    /// The user may not use the virtual host.
    #[error(
        "user `{user}` may not use virtual host `{vhost}` of RabbitMQ at {host}; allow it with `rabbitmqctl set_permissions`"
    )]
    VhostDenied {
        /// The user.
        user: String,
        /// The virtual host.
        vhost: String,
        /// The broker.
        host: String,
    },
    /// The encrypted connection did not come about.
    #[error("no TLS connection to {host}: {reason}")]
    Tls {
        /// The broker.
        host: String,
        /// What went wrong.
        reason: String,
    },
    /// `amqps` was asked for, and this program is built without it.
    #[error("`amqps` to {hosts} needs agentbus with its feature `tls`")]
    TlsNotBuilt {
        /// The hosts.
        hosts: String,
    },
    /// The broker accepted the connection and then said nothing.
    #[error("RabbitMQ at {host} did not answer within {after:?}")]
    Timeout {
        /// The broker.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// The broker gave another reason.
    #[error("RabbitMQ at {host} refused the connection: {reason}")]
    Refused {
        /// The broker.
        host: String,
        /// What it said.
        reason: String,
    },
    /// The exchange cannot be used.
    #[error("exchange `{exchange}` cannot be used: {reason}")]
    Exchange {
        /// Name of the exchange.
        exchange: String,
        /// What the broker said.
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
    /// Tells what kind of setback it is.
    pub(super) fn setback(&self) -> Setback {
        match self {
            Self::Unreachable { .. } => Setback::Unreachable,
            Self::Timeout { .. } => Setback::Silence,
            Self::Refused { .. } => Setback::Unready,
            _ => Setback::Refusal,
        }
    }

    fn is_refusal(&self) -> bool {
        self.setback() == Setback::Refusal
    }
}

/// What kind of setback a failed attempt is: how soon another one makes sense depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setback {
    /// Nobody is there. Asking costs nobody anything.
    Unreachable,
    /// Somebody is there, and says nothing. That was waited for already.
    Silence,
    /// The broker breaks off, as while it starts or stops.
    Unready,
    /// Somebody has to change something before it can work: dialling again soon only fills the
    /// broker's log.
    Refusal,
}

/// The broker's reply code for what is its own trouble, and may pass.
const INTERNAL_ERROR: u16 = 541;

/// Finds out what keeps the exchanges from being declared.
///
/// Somebody has to do something about it only where the broker says so; one that is starting may
/// also not find what is there.
pub(super) fn without_exchange(fault: Fault, options: &RabbitOptions) -> ConnectError {
    let host = options.addresses();
    let without = |fault: Fault| ConnectError::Exchange {
        exchange: options.exchange.to_string(),
        reason: match fault.code() {
            Some(406) => format!(
                "{fault}; if another system owns it, take it as it is with `declare = \"queues\"`"
            ),
            _ => fault.to_string(),
        },
    };
    match fault {
        Fault::Timeout(after) => ConnectError::Timeout { host, after },
        fault => match fault.code() {
            Some(403 | 406 | 530 | 540) => without(fault),
            Some(404) if options.declare != Declare::Active => without(fault),
            _ => ConnectError::Refused { host, reason: fault.to_string() },
        },
    }
}

/// Finds out what a failed attempt to connect means.
pub(super) fn classify(error: PoolError, host: &Host, options: &RabbitOptions) -> ConnectError {
    let name = host.to_string();
    match error {
        PoolError::Backend(error) => refusal(error, name, options),
        PoolError::Timeout(_) => {
            ConnectError::Timeout { host: name, after: options.connect_timeout }
        }
        other => ConnectError::Refused { host: name, reason: other.to_string() },
    }
}

fn refusal(error: lapin::Error, host: String, options: &RabbitOptions) -> ConnectError {
    let reason = fault::text(&error);
    let (user, vhost) = (options.user.clone(), options.vhost.clone());
    match error.kind() {
        ErrorKind::ProtocolError(error) => {
            // INTERNAL_ERROR - access to vhost '/' refused for user 'guest': vhost '/' is down
            if error.get_id() == INTERNAL_ERROR {
                ConnectError::Refused { host, reason }
            } else if reason.contains("vhost") && reason.contains("not found") {
                ConnectError::NoVhost { vhost, host }
            } else if reason.contains("vhost") && reason.contains("refused") {
                ConnectError::VhostDenied { user, vhost, host }
            } else if reason.starts_with("ACCESS_REFUSED") {
                ConnectError::Credentials { user, host }
            } else {
                ConnectError::Refused { host, reason }
            }
        }
        ErrorKind::IOError(io) if options.tls && is_about_tls(io) => {
            ConnectError::Tls { host, reason }
        }
        ErrorKind::IOError(_) => ConnectError::Unreachable { hosts: host, reason },
        _ => ConnectError::Refused { host, reason },
    }
}

fn is_about_tls(error: &io::Error) -> bool {
    let text = error.to_string().to_lowercase();
    error.kind() == io::ErrorKind::InvalidData
        || ["tls", "certificate", "handshake"].iter().any(|word| text.contains(word))
}

/// Sums up the attempts at all hosts: a refusal tells more than a host that does not answer.
pub(super) fn sum_up(mut errors: Vec<ConnectError>, options: &RabbitOptions) -> ConnectError {
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
    let reason = if reasons.windows(2).all(|pair| pair[0].1 == pair[1].1) {
        reasons[0].1.clone()
    } else {
        let named = reasons.iter().map(|(host, reason)| match *host {
            "" => reason.clone(),
            host => format!("{host}: {reason}"),
        });
        named.collect::<Vec<_>>().join("; ")
    };
    ConnectError::Unreachable { hosts: options.addresses(), reason }
}

/// For how long a broker that cannot be reached is thought to be about to come back.
const HOPE: Duration = Duration::from_secs(30);

/// Longest wait meanwhile: what notices the end of the outage is mostly this.
const HOPEFUL: Duration = Duration::from_millis(500);

/// How long to wait before dialling again after `failures` failures in a row, the last of which was
/// `setback`, in an outage that has `lasted` so long.
///
/// The wait doubles, with full jitter, up to a cap that depends on whether waiting can help.
pub(super) fn wait(
    failures: u32,
    setback: Setback,
    lasted: Duration,
    options: &RabbitOptions,
) -> Duration {
    let unreachable = options.longest_wait_unreachable;
    let (first, longest) = match setback {
        Setback::Silence => return Duration::ZERO,
        Setback::Unreachable if lasted < HOPE => (SOON, unreachable.min(HOPEFUL)),
        Setback::Unreachable | Setback::Unready => (SOON, unreachable),
        Setback::Refusal => (Duration::from_secs(1), options.longest_wait_refused),
    };
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(longest).mul_f64(fastrand::f64())
}

/// The first wait, where the broker may be back soon.
const SOON: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};

    use super::*;

    fn said(kind: AMQPErrorKind, text: &str) -> lapin::Error {
        ErrorKind::ProtocolError(AMQPError::new(kind, text.into())).into()
    }

    fn classified(error: lapin::Error) -> ConnectError {
        refusal(error, "h:5672".to_owned(), &RabbitOptions::default())
    }

    #[test]
    fn what_the_broker_says_is_told_apart() {
        let not_allowed = AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED);
        assert!(matches!(
            classified(said(not_allowed, "NOT_ALLOWED - vhost nowhere not found")),
            ConnectError::NoVhost { .. }
        ));
        let text = "NOT_ALLOWED - access to vhost 'x' refused for user 'guest'";
        let not_allowed = AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED);
        assert!(matches!(classified(said(not_allowed, text)), ConnectError::VhostDenied { .. }));
        let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.";
        let refused = AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED);
        assert!(matches!(classified(said(refused, text)), ConnectError::Credentials { .. }));
        let io = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(matches!(classified(io.into()), ConnectError::Unreachable { .. }));
    }

    #[test]
    fn a_broker_that_is_starting_or_stopping_refuses_nothing_for_good() {
        let internal = AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR);
        let text =
            "INTERNAL_ERROR - access to vhost '/' refused for user 'guest': vhost '/' is down";
        assert_eq!(classified(said(internal.clone(), text)).setback(), Setback::Unready);
        let options = RabbitOptions::default();
        let setback = |fault| without_exchange(fault, &options).setback();
        assert_eq!(setback(Fault::Timeout(Duration::from_secs(10))), Setback::Silence);
        assert_eq!(setback(Fault::Disconnected("cut".into())), Setback::Unready);
        let forced = AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED);
        for (kind, expected) in [
            (internal, Setback::Unready),
            (forced, Setback::Unready),
            (AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED), Setback::Refusal),
            (AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED), Setback::Refusal),
            // The queue's home is down.
            (AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND), Setback::Unready),
        ] {
            assert_eq!(setback(said(kind.clone(), "no").into()), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_refusal_by_one_host_tells_more_than_silence_of_another() {
        let options = RabbitOptions::default();
        let silent = || ConnectError::Timeout { host: "a".into(), after: Duration::from_secs(1) };
        let refused = ConnectError::Credentials { user: "me".into(), host: "b".into() };
        assert!(matches!(
            sum_up(vec![silent(), refused], &options),
            ConnectError::Credentials { .. }
        ));
        let both = sum_up(vec![silent(), silent()], &options);
        assert!(matches!(both, ConnectError::Unreachable { .. }), "{both}");
    }

    #[test]
    fn hosts_that_fail_alike_share_a_reason() {
        let options = RabbitOptions {
            hosts: ["a", "b"].map(|name| Host { name: name.into(), port: 1 }).into(),
            ..RabbitOptions::default()
        };
        let unreachable = |host: &str, reason: &str| ConnectError::Unreachable {
            hosts: host.into(),
            reason: reason.into(),
        };
        let alike =
            sum_up(vec![unreachable("a:1", "refused"), unreachable("b:1", "refused")], &options);
        let text = "RabbitMQ cannot be reached at a:1, b:1: refused; is it running?";
        assert_eq!(alike.to_string(), text);
        let apart =
            sum_up(vec![unreachable("a:1", "refused"), unreachable("b:1", "no route")], &options);
        let text =
            "RabbitMQ cannot be reached at a:1, b:1: a:1: refused; b:1: no route; is it running?";
        assert_eq!(apart.to_string(), text);
    }

    #[test]
    fn the_wait_stays_below_its_cap() {
        let options = RabbitOptions::default();
        let longest = |setback, lasted, failures| {
            (0..1000).map(|_| wait(failures, setback, lasted, &options)).max().unwrap()
        };
        let (new, old) = (Duration::ZERO, Duration::from_mins(1));
        for failures in [7, 100, u32::MAX] {
            for (setback, lasted, cap) in [
                (Setback::Unreachable, new, Duration::from_millis(500)),
                (Setback::Unreachable, old, Duration::from_secs(2)),
                (Setback::Unready, new, Duration::from_secs(2)),
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
