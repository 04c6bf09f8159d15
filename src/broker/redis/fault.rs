//! What a call to the server can fail with, by what can be done about it.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// A call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// There was no connection for as long as was waited: nothing was sent.
    #[error("{0}")]
    Down(String),
    /// The connection was lost before the answer: the call may have been carried out.
    #[error("the connection to Redis was lost before the answer: {0}")]
    Lost(String),
    /// No answer came in time: the call may have been carried out, or be carried out later.
    #[error("Redis did not answer within {0:?}")]
    Timeout(Duration),
    /// The server has no memory left; it still takes what only reads or removes.
    #[error(
        "Redis is out of memory ({0}); raise its `maxmemory`, or wait until consumers have caught up"
    )]
    Full(String),
    /// The server takes no writes at present: its disk is full, or too few replicas are there.
    #[error("Redis takes no writes at present ({0}); its log says why")]
    Unwritable(String),
    /// The server is a read-only replica: the connection is made anew, since the master is elsewhere.
    #[error("Redis is a read-only replica ({0}); connect to its master")]
    ReadOnly(String),
    /// The bus is on another node of the cluster: the connection is made anew, to that one.
    #[error("the bus is on another node of the Redis cluster ({0})")]
    Moved(String),
    /// It passes: the server loads its data, a script runs, a cluster sorts itself.
    #[error("Redis is not ready ({0})")]
    Busy(String),
    /// The user may not do this.
    #[error("Redis denies it ({0}); see `ACL GETUSER`")]
    Denied(String),
    /// A key holds something else than agentbus puts there. What the script did before is done.
    #[error(
        "a key of the bus holds what agentbus did not put there ({0}); use another database or another `exchange`, or remove it"
    )]
    WrongType(String),
    /// Keys of one call are on several nodes: they have not one hash tag.
    #[error("the keys of one call are on several nodes of the Redis cluster ({0})")]
    CrossSlot(String),
    /// The server said something else, which is not expected.
    #[error("Redis answered with an error: {0}")]
    Refused(String),
    /// The answer is not what was expected: something else than Redis, or another version.
    #[error("an answer of Redis cannot be read: {0}")]
    Answer(String),
    /// This process closed the bus.
    #[error("the bus is closed")]
    Closed,
}

impl Fault {
    /// Tells whether the call certainly did nothing.
    ///
    /// Redis looks for what keeps it from writing before the first write of a script, and not after.
    pub(super) fn is_undone(&self) -> bool {
        match self {
            Self::Down(_)
            | Self::Full(_)
            | Self::Unwritable(_)
            | Self::ReadOnly(_)
            | Self::Moved(_)
            | Self::Busy(_)
            | Self::CrossSlot(_)
            | Self::Closed => true,
            Self::Lost(_)
            | Self::Timeout(_)
            | Self::Denied(_)
            | Self::WrongType(_)
            | Self::Refused(_)
            | Self::Answer(_) => false,
        }
    }

    /// Tells whether the same call may work later without anybody doing anything about it here.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Down(_)
            | Self::Lost(_)
            | Self::Timeout(_)
            | Self::Full(_)
            | Self::Unwritable(_)
            | Self::ReadOnly(_)
            | Self::Moved(_)
            | Self::Busy(_) => true,
            Self::Denied(_)
            | Self::WrongType(_)
            | Self::CrossSlot(_)
            | Self::Refused(_)
            | Self::Answer(_)
            | Self::Closed => false,
        }
    }

    /// Tells whether the server says that it takes no messages at present.
    pub(super) fn is_blockage(&self) -> bool {
        matches!(self, Self::Full(_) | Self::Unwritable(_))
    }

    /// Tells whether another server is to be asked.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::ReadOnly(_) | Self::Moved(_))
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        let said = text(&error);
        match error.kind() {
            ErrorKind::Io => Self::Lost(said),
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Self::Answer(said),
            ErrorKind::AuthenticationFailed => Self::Denied(said),
            kind => match code(&error, kind) {
                "OOM" => Self::Full(said),
                "MISCONF" | "NOREPLICAS" => Self::Unwritable(said),
                "READONLY" => Self::ReadOnly(said),
                "MOVED" => Self::Moved(said),
                "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "LOADING" | "BUSY"
                | "UNBLOCKED" => Self::Busy(said),
                "NOPERM" | "NOAUTH" | "WRONGPASS" => Self::Denied(said),
                "WRONGTYPE" => Self::WrongType(said),
                "CROSSSLOT" => Self::CrossSlot(said),
                _ => Self::Refused(said),
            },
        }
    }
}

/// What Redis 6 puts within the text of a script's error; later ones keep the code in front.
const WITHIN: [&str; 6] = ["OOM", "MISCONF", "NOREPLICAS", "READONLY", "WRONGTYPE", "NOPERM"];

fn code(error: &RedisError, kind: ErrorKind) -> &str {
    let code = error.code().unwrap_or_default();
    if kind != ErrorKind::Server(ServerErrorKind::ResponseError) {
        return code;
    }
    let words = || error.detail().unwrap_or_default().split_whitespace();
    let within = |code: &&&str| words().any(|word| word.trim_start_matches('-') == **code);
    WITHIN.iter().find(within).copied().unwrap_or(code)
}

/// Returns what the server or the system said, without the client library's wrapping.
pub(super) fn text(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        // `MOVED 866 10.0.0.1:6379`; `OOM command not allowed when …. script: f0…, on @user_script:1.`
        (Some(code), Some(detail)) => {
            let detail = detail.split(" script: ").next().unwrap_or(detail);
            format!("{code} {}", detail.trim_end_matches('.'))
        }
        (Some(code), None) => code.to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Fault {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err().into()
    }

    #[test]
    fn what_the_server_says_is_told_apart() {
        let oom = said(
            "OOM command not allowed when used memory > 'maxmemory'. script: f0, on @user_script:1.",
        );
        let text = "OOM command not allowed when used memory > 'maxmemory'";
        assert_eq!(oom, Fault::Full(text.to_owned()));
        for (line, is) in [
            (
                "READONLY You can't write against a read only replica.",
                Fault::ReadOnly as fn(_) -> _,
            ),
            ("MISCONF Redis is configured to save RDB snapshots", Fault::Unwritable),
            ("NOREPLICAS Not enough good replicas to write.", Fault::Unwritable),
            ("MOVED 866 10.0.0.1:6379", Fault::Moved),
            ("ASK 866 10.0.0.1:6379", Fault::Busy),
            ("LOADING Redis is loading the dataset in memory", Fault::Busy),
            ("BUSY Redis is busy running a script", Fault::Busy),
            ("CLUSTERDOWN The cluster is down", Fault::Busy),
            ("CROSSSLOT Keys in request don't hash to the same slot", Fault::CrossSlot),
            ("NOPERM this user has no permissions", Fault::Denied),
            ("NOAUTH Authentication required.", Fault::Denied),
            ("WRONGTYPE Operation against a key", Fault::WrongType),
            ("ERR value is not an integer", Fault::Refused),
        ] {
            assert_eq!(said(line), is(line.trim_end_matches('.').to_owned()), "{line}");
        }
    }

    /// Regression: in Redis 6, the code of what a script calls is within the text of its error.
    #[test]
    fn errors_within_scripts_of_redis_6_are_told_apart() {
        let script = "ERR Error running script (call to f_ab): @user_script:1:";
        let oom = said(&format!("{script} @user_script: 1: -OOM command not allowed"));
        assert!(matches!(oom, Fault::Full(_)), "{oom:?}");
        let wrong = said(&format!("{script} WRONGTYPE Operation against a key"));
        assert!(matches!(wrong, Fault::WrongType(_)), "{wrong:?}");
    }

    #[test]
    fn a_connection_that_breaks_leaves_open_what_was_done() {
        let fault =
            Fault::from(RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
        assert!(matches!(fault, Fault::Lost(_)) && !fault.is_undone() && fault.is_passing());
    }
}
