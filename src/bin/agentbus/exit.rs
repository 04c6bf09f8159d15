//! How the command ends, as a number for scripts.

use std::{io, process::ExitCode};

use agentbus::{PublishError, RequestError, broker, config::ConfigError};

/// How the command ended. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// What was asked for was done.
    Ok = 0,
    /// It was not done, or a check found something.
    Failed = 1,
    /// The command line, the configuration or the input is wrong.
    Usage = 2,
    /// Nobody listens to the topic: nothing is bound to it.
    NobodyListens = 3,
    /// No answer came in time; whether it was done is not known.
    TimedOut = 4,
    /// The request was answered with an error.
    ErrorReply = 5,
    /// Ended by a signal.
    Interrupted = 130,
}

/// What is said of them in the help.
pub(crate) const CODES: &str = "\
Exit codes:
    0  done
    1  failed, or a check found something
    2  the command line, the configuration or the input is wrong
    3  nobody listens: no queue is bound to the topic
    4  no answer in time; a message that was sent may have been taken
    5  the request was answered with an error
  130  interrupted";

/// The command line, the configuration or the input is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A signal ended the command.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

impl Exit {
    /// Finds out how an error ends the command.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or(Self::Failed)
    }

    fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if cause.is::<Usage>() || cause.is::<ConfigError>() {
            return Some(Self::Usage);
        }
        if cause.is::<Interrupted>() {
            return Some(Self::Interrupted);
        }
        if let Some(error) = cause.downcast_ref::<RequestError>() {
            return match error {
                RequestError::NobodyListens { .. } => Some(Self::NobodyListens),
                RequestError::TimedOut { .. } => Some(Self::TimedOut),
                RequestError::Replied { .. } => Some(Self::ErrorReply),
                _ => None,
            };
        }
        let boxed = || cause.downcast_ref::<Box<PublishError>>().map(|boxed| &**boxed);
        if let Some(error) = cause.downcast_ref::<PublishError>().or_else(boxed) {
            return match error {
                PublishError::Unroutable { .. } => Some(Self::NobodyListens),
                PublishError::Unconfirmed { .. } => Some(Self::TimedOut),
                PublishError::TooLarge { .. } | PublishError::Invalid { .. } => Some(Self::Usage),
                _ => None,
            };
        }
        if let Some(broker::ConnectError::Config(_) | broker::ConnectError::Unsupported { .. }) =
            cause.downcast_ref()
        {
            return Some(Self::Usage);
        }
        // Whoever read our output has enough of it.
        let io = cause.downcast_ref::<io::Error>()?;
        (io.kind() == io::ErrorKind::BrokenPipe).then_some(Self::Ok)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use agentbus::{Code, Envelope, ErrorReply, broker::Destination};
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_is_found_below_what_is_said_of_it() {
        let unroutable =
            PublishError::unroutable(Destination::Queue("data"), Envelope::encode(&()));
        let error = Err::<(), _>(unroutable).context("message 3").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::NobodyListens);
        assert_eq!(Exit::of(&anyhow::anyhow!("else")), Exit::Failed);
    }

    #[test]
    fn an_error_is_found_in_its_box() {
        let source =
            Box::new(PublishError::unroutable(Destination::Queue("q"), Envelope::encode(&())));
        let error = agentbus::client::DeadLetterError::Publish { to: "q".into(), source };
        assert_eq!(Exit::of(&error.into()), Exit::NobodyListens);
    }

    #[test]
    fn requests_end_in_different_ways() {
        let topic = || agentbus::Name::from("data.request");
        let timeout = std::time::Duration::from_secs(1);
        let error = ErrorReply::new(Code::NotFound, "no such asset");
        let cases = [
            (RequestError::NobodyListens { topic: topic() }, Exit::NobodyListens),
            (RequestError::TimedOut { topic: topic(), timeout }, Exit::TimedOut),
            (RequestError::Replied { topic: topic(), error }, Exit::ErrorReply),
            (RequestError::TooManyPending { limit: 1 }, Exit::Failed),
        ];
        for (error, exit) in cases {
            assert_eq!(Exit::of(&error.into()), exit);
        }
    }

    #[test]
    fn a_reader_that_has_enough_is_no_failure() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(Exit::of(&error), Exit::Ok);
    }
}
