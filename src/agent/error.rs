//! How a handler fails, and what becomes of the message.

use std::{any::Any, error::Error, fmt, sync::Arc, time::Duration};

use crate::{
    BoxError,
    broker::PublishError,
    message::{Code, DecodeError, ErrorReply, FailureKind},
    report::with_causes,
    retry::RetryPolicy,
};

/// A handler's failure, which decides the fate of the message.
///
/// Any error converts into [`Retry`](Self::Retry), so `?` means "try again"; a [`DecodeError`]
/// converts into [`Reject`](Self::Reject), since what does not decode today will not tomorrow. Any
/// other failure that repetition cannot cure says so: `.map_err(HandlerError::reject)?`.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandlerError {
    /// Handle again, after the delay the retry policy gives; once attempts are used up, a dead
    /// letter. If the retry would start after the message's deadline, it is one at once, and a
    /// requester is told.
    Retry(BoxError),
    /// Handle again after this delay, neither capped nor jittered, but rounded up to
    /// [`DELAY_UNIT`](crate::retry::DELAY_UNIT)s; once attempts are used up, a dead letter. As for
    /// `Retry`, the policy says which errors are retried, and the deadline bounds them.
    RetryAfter(Duration, BoxError),
    /// Handle again after this delay, rounded up as for `RetryAfter`, without counting an attempt.
    /// If that is after the message's deadline, it is dropped and counted at once, as it would be
    /// then, and a requester is told.
    Snooze(Duration),
    /// Never handle again: a dead letter at once.
    Reject(BoxError),
    /// The error is the answer: the requester gets it, and the message is done. No retry, no dead
    /// letter; on a route that does not reply it counts as [`Reject`](Self::Reject).
    Reply(ErrorReply),
}

impl HandlerError {
    /// Marks `cause` as one that no retry can cure.
    pub fn reject(cause: impl Into<BoxError>) -> Self {
        Self::Reject(cause.into())
    }

    /// Asks for another attempt after `delay`.
    pub fn retry_after(delay: Duration, cause: impl Into<BoxError>) -> Self {
        Self::RetryAfter(delay, cause.into())
    }

    /// Answers the requester with an error.
    pub fn reply(code: Code, message: impl Into<String>) -> Self {
        Self::Reply(ErrorReply::new(code, message))
    }

    /// Returns the error itself, where there is one.
    fn cause(&self) -> Option<&(dyn Error + 'static)> {
        let (Self::Retry(cause) | Self::RetryAfter(_, cause) | Self::Reject(cause)) = self else {
            return None;
        };
        let cause: &(dyn Error + 'static) = &**cause;
        match cause.downcast_ref::<OneOf>() {
            Some(OneOf(shared)) => shared.cause(),
            None => Some(cause),
        }
    }

    /// Returns what agentbus itself found, where that is the error.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.cause()?.downcast_ref()
    }

    /// Tells whether a policy retries it at all. What agentbus itself finds is no error that a
    /// policy is asked about.
    pub(super) fn is_retried_by(&self, policy: &RetryPolicy) -> bool {
        self.cause().is_none_or(|cause| cause.is::<Fault>() || policy.retries(cause))
    }

    /// Returns the class under which the failure is kept.
    pub(super) fn kind(&self) -> FailureKind {
        if let Some(fault) = self.fault() {
            return fault.kind();
        }
        let cause = self.cause();
        match self {
            Self::Retry(_) | Self::RetryAfter(..) => FailureKind::Handler,
            Self::Reject(_) => cause
                .and_then(<dyn Error>::downcast_ref::<DecodeError>)
                .map_or(FailureKind::Rejected, FailureKind::from),
            Self::Snooze(_) | Self::Reply(_) => FailureKind::Rejected,
        }
    }

    /// Makes it one that is not tried again, with the reason why it cannot be.
    pub(super) fn finally(&self, reason: &dyn fmt::Display) -> Self {
        Fault::Final { kind: self.kind(), text: format!("{self}; {reason}") }.into_error()
    }

    /// Returns what the requester is told.
    pub(super) fn to_reply(&self) -> ErrorReply {
        let code = match (self, self.kind()) {
            (Self::Reply(reply), _) => return reply.clone(),
            (_, FailureKind::NoRoute) => Code::Unimplemented,
            (_, FailureKind::Timeout | FailureKind::Expired) => Code::DeadlineExceeded,
            // A handler that snoozes longer than the requester can wait has not failed.
            (Self::Snooze(_), _)
            | (Self::Retry(_) | Self::RetryAfter(..), FailureKind::Handler) => Code::Unavailable,
            (_, FailureKind::Decode | FailureKind::WrongType | FailureKind::ContentType) => {
                Code::InvalidArgument
            }
            (_, FailureKind::TooLarge) => Code::OutOfRange,
            (_, FailureKind::Rejected) => Code::FailedPrecondition,
            _ => Code::Internal,
        };
        let reply = ErrorReply::new(code, self.to_string());
        if matches!(code, Code::Unavailable | Code::DeadlineExceeded) {
            reply.retryable()
        } else {
            reply
        }
    }
}

// Not `std::error::Error`, so that the blanket `From` below is coherent: the choice anyhow makes.
impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(cause) | Self::RetryAfter(_, cause) | Self::Reject(cause) => {
                f.write_str(&with_causes(&**cause))
            }
            Self::Snooze(delay) => write!(f, "asked to be called again in {delay:?}"),
            Self::Reply(reply) => reply.fmt(f),
        }
    }
}

impl<E> From<E> for HandlerError
where
    E: std::error::Error + Send + Sync + 'static,
{
    fn from(cause: E) -> Self {
        if (&cause as &dyn Any).is::<DecodeError>() {
            return Self::Reject(cause.into());
        }
        Self::Retry(cause.into())
    }
}

/// The error of a batch, as one of its messages has it.
#[derive(Debug)]
pub(super) struct OneOf(pub(super) Arc<HandlerError>);

impl Error for OneOf {}

impl fmt::Display for OneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A failure that agentbus itself finds.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the handler panicked: {0}")]
    Panic(String),
    #[error("the handler took longer than {0:?}")]
    Timeout(Duration),
    #[error("no route for `{0}`")]
    NoRoute(String),
    #[error("the body has {bytes} bytes, which is more than {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error(
        "the reply has {bytes} bytes, which is more than {limit}; send a reference to large data instead, or raise `max_message_bytes`"
    )]
    ReplyTooLarge { bytes: usize, limit: usize },
    #[error("nobody waits for this reply: it is unknown, expired, or was taken before")]
    UnknownReply,
    #[error("the state stored with the request cannot be read any more: {0}")]
    State(serde_json::Error),
    #[error("expired before it was handled")]
    Expired,
    #[error("expired before the next attempt, after: {0}")]
    ExpiredAfter(String),
    #[error(transparent)]
    Unanswered(PublishError),
    /// A failure that would be tried again if it could be.
    #[error("{text}")]
    Final { kind: FailureKind, text: String },
    /// The message was held back, and is given back as it came.
    #[error("the agent stops, and gives the message back")]
    Stopping,
    /// The message was held back, and would be for longer than it is of use.
    #[error("its time is up before its turn comes: it is held back by {0}")]
    TooLate(&'static str),
}

impl Fault {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Panic(_) => FailureKind::Panic,
            Self::Timeout(_) => FailureKind::Timeout,
            Self::NoRoute(_) => FailureKind::NoRoute,
            Self::TooLarge { .. } | Self::ReplyTooLarge { .. } => FailureKind::TooLarge,
            Self::Final { kind, .. } => kind.clone(),
            Self::UnknownReply => FailureKind::UnknownReply,
            Self::State(_) => FailureKind::State,
            Self::Expired | Self::ExpiredAfter(_) => FailureKind::Expired,
            Self::Unanswered(_) | Self::Stopping | Self::TooLate(_) => FailureKind::Handler,
        }
    }

    /// Tells whether another attempt, perhaps by another replica, may go better.
    pub(super) fn into_error(self) -> HandlerError {
        match self {
            // In a rolling deployment another replica may know the route.
            Self::Panic(_)
            | Self::Timeout(_)
            | Self::NoRoute(_)
            | Self::Unanswered(_)
            | Self::Stopping
            | Self::TooLate(_) => HandlerError::Retry(self.into()),
            Self::TooLarge { .. }
            | Self::ReplyTooLarge { .. }
            | Self::Final { .. }
            | Self::UnknownReply
            | Self::State(_)
            | Self::Expired
            | Self::ExpiredAfter(_) => HandlerError::Reject(self.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_means_retry() {
        fn fails() -> Result<(), HandlerError> {
            Err(std::io::Error::other("disk on fire"))?
        }
        let error = fails().unwrap_err();
        assert!(matches!(error, HandlerError::Retry(_)));
        assert_eq!(error.kind(), FailureKind::Handler);
        assert!(error.to_reply().is_retryable);
    }

    #[test]
    fn what_does_not_decode_is_not_tried_again() {
        fn fails() -> Result<(), HandlerError> {
            Err(DecodeError::WrongType { expected: "a", found: "b".into() })?
        }
        let error = fails().unwrap_err();
        assert!(matches!(error, HandlerError::Reject(_)));
        assert_eq!(error.kind(), FailureKind::WrongType);
    }

    #[test]
    fn a_policy_sees_the_error_itself_and_none_of_our_own() {
        let policy = RetryPolicy::default().only_if(<dyn Error>::is::<std::io::Error>);
        let io = || HandlerError::from(std::io::Error::other("disk on fire"));
        let fmt = || HandlerError::from(fmt::Error);
        assert!(io().is_retried_by(&policy));
        assert!(!fmt().is_retried_by(&policy));
        assert!(Fault::Panic("x".into()).into_error().is_retried_by(&policy));
        for (error, retried) in [(io(), true), (fmt(), false)] {
            let one = HandlerError::Retry(OneOf(Arc::new(error)).into());
            assert_eq!(one.is_retried_by(&policy), retried);
            assert_eq!(one.kind(), FailureKind::Handler);
        }
    }

    #[test]
    fn a_kind_tells_what_happened() {
        let cases = [
            (HandlerError::reject("bad"), FailureKind::Rejected, Code::FailedPrecondition),
            (Fault::Panic("x".into()).into_error(), FailureKind::Panic, Code::Internal),
            (Fault::NoRoute("x".into()).into_error(), FailureKind::NoRoute, Code::Unimplemented),
            (
                HandlerError::reject(DecodeError::WrongType { expected: "a", found: "b".into() }),
                FailureKind::WrongType,
                Code::InvalidArgument,
            ),
        ];
        for (error, kind, code) in cases {
            assert_eq!((error.kind(), error.to_reply().code), (kind, code), "{error}");
        }
    }
}
