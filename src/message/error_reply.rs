//! The error that answers a request.

use std::{collections::BTreeMap, fmt};

use crate::{contract::full_name, message::Envelope, proto::v1 as proto};

/// How many bytes of its message an error is sent with.
const MAX_MESSAGE_BYTES: usize = 8 << 10;

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal,)*) => {
        /// The class of an [`ErrorReply`], named as gRPC's status codes are.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// Returns the name on the wire, such as `NOT_FOUND`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $text,)*
                }
            }

            fn read(text: &str) -> Self {
                match text {
                    $($text => Self::$code,)*
                    _ => Self::Unknown,
                }
            }
        }
    };
}

codes! {
    /// The other side stopped handling the request.
    Cancelled = "CANCELLED",
    /// The other side gave no class, or one that is not known here.
    Unknown = "UNKNOWN",
    /// The request is wrong whatever the state of the system.
    InvalidArgument = "INVALID_ARGUMENT",
    /// The time was up.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// What was asked for does not exist.
    NotFound = "NOT_FOUND",
    /// What was to be made exists.
    AlreadyExists = "ALREADY_EXISTS",
    /// The requester may not do this.
    PermissionDenied = "PERMISSION_DENIED",
    /// A quota or a bound is reached.
    ResourceExhausted = "RESOURCE_EXHAUSTED",
    /// The system is not in the state the request needs.
    FailedPrecondition = "FAILED_PRECONDITION",
    /// A conflict with something concurrent.
    Aborted = "ABORTED",
    /// Past the valid range.
    OutOfRange = "OUT_OF_RANGE",
    /// The other side does not do this.
    Unimplemented = "UNIMPLEMENTED",
    /// Something is broken on the other side.
    Internal = "INTERNAL",
    /// The other side cannot answer at present.
    Unavailable = "UNAVAILABLE",
    /// Data is lost for good.
    DataLoss = "DATA_LOSS",
    /// The requester is not known.
    Unauthenticated = "UNAUTHENTICATED",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A typed error in place of a reply; on the wire an `agentbus.v1.ErrorReply`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct ErrorReply {
    /// Class of the error.
    pub code: Code,
    /// What went wrong, for people. It is cut to 8 KiB when it is sent.
    pub message: String,
    /// Whether asking again may help.
    pub is_retryable: bool,
    /// Anything else, for programs.
    pub details: BTreeMap<String, String>,
}

impl ErrorReply {
    /// Makes an error that asking again does not cure.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), is_retryable: false, details: BTreeMap::new() }
    }

    /// Says that asking again may help.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.is_retryable = true;
        self
    }

    /// Adds a detail for programs.
    #[must_use]
    pub fn with_detail(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.details.insert(name.into(), value.into());
        self
    }

    /// Encodes the error as the reply to a request.
    pub(crate) fn into_envelope(mut self) -> Envelope {
        // One that is over the limit of a message would leave the requester without an answer.
        self.message.truncate(self.message.floor_char_boundary(MAX_MESSAGE_BYTES));
        Envelope::encode(&proto::ErrorReply {
            code: self.code.as_str().to_owned(),
            message: self.message,
            retryable: self.is_retryable,
            details: self.details.into_iter().collect(),
        })
    }

    /// Reads the error out of a reply, if the reply is one.
    #[must_use]
    pub fn from_envelope(envelope: &Envelope) -> Option<Self> {
        if envelope.metadata.message_type.as_deref() != Some(full_name::<proto::ErrorReply>()) {
            return None;
        }
        Some(match envelope.decode::<proto::ErrorReply>() {
            Ok(reply) => Self {
                code: Code::read(&reply.code),
                message: reply.message,
                is_retryable: reply.retryable,
                details: reply.details.into_iter().collect(),
            },
            Err(error) => {
                Self::new(Code::Unknown, format!("an unreadable error came back: {error}"))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_back_from_the_reply() {
        let error = ErrorReply::new(Code::NotFound, "no prices for `XMR`")
            .retryable()
            .with_detail("available", "BTC, ZEC");
        let reply = error.clone().into_envelope();
        assert_eq!(ErrorReply::from_envelope(&reply), Some(error));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let sent = |message: String| {
            let envelope = ErrorReply::new(Code::Internal, message).into_envelope();
            ErrorReply::from_envelope(&envelope).unwrap().message
        };
        assert_eq!(sent("x".repeat(8192)).len(), 8192);
        assert_eq!(sent(format!("x{}", "ä".repeat(1 << 20))).len(), 8191);
    }

    #[test]
    fn another_message_is_no_error() {
        assert_eq!(ErrorReply::from_envelope(&Envelope::encode(&())), None);
    }

    #[test]
    fn a_code_from_a_newer_peer_is_unknown() {
        assert_eq!(Code::read("TEAPOT"), Code::Unknown);
    }
}
