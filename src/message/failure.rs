//! Why a message became a dead letter.

use super::{DecodeError, Timestamp};
use crate::contract::Name;

/// How a message failed; carried by dead letters in the `agentbus-failure-*` headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class of failure.
    pub kind: FailureKind,
    /// What went wrong, cut to 255 bytes.
    pub error: Name,
    /// Agent that gave up on the message.
    pub agent: Name,
    /// Instance of the agent, where the message came from a replica's own queue.
    pub instance: Option<Name>,
    /// Topic the message was published under, where it is known.
    pub topic: Option<Name>,
    /// How often a handler tried.
    pub attempts: u32,
    /// When the agent gave up.
    pub at: Timestamp,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $text:literal,)*) => {
        /// The classes of failure.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum FailureKind {
            $($(#[$doc])* $kind,)*
            /// A class this version does not know.
            Other(Name),
        }

        impl FailureKind {
            /// Returns the name used on the wire, such as `no_route`.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$kind => $text,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for FailureKind {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$kind,)*
                    _ => Self::Other(text.into()),
                }
            }
        }
    };
}

kinds! {
    /// The handler returned an error.
    Handler = "handler",
    /// The handler said that no retry can cure it.
    Rejected = "rejected",
    /// The handler panicked.
    Panic = "panic",
    /// The handler took longer than allowed.
    Timeout = "timeout",
    /// The body is not a message of its type.
    Decode = "decode",
    /// The message has another type than the route takes.
    WrongType = "wrong_type",
    /// The content type is not protobuf.
    ContentType = "content_type",
    /// No route of the agent matches the topic.
    NoRoute = "no_route",
    /// Nobody waits for this reply: it is unknown, expired, or was taken before.
    UnknownReply = "unknown_reply",
    /// The state stored with a request cannot be read any more.
    State = "state",
    /// The body is larger than allowed.
    TooLarge = "too_large",
    /// It came, or would have been tried again, after it had expired.
    Expired = "expired",
    /// The broker stopped a message that kept crashing its handlers.
    CrashLoop = "crash_loop",
}

impl From<&DecodeError> for FailureKind {
    fn from(error: &DecodeError) -> Self {
        match error {
            DecodeError::ContentType { .. } | DecodeError::ContentEncoding { .. } => {
                Self::ContentType
            }
            DecodeError::WrongType { .. } => Self::WrongType,
            DecodeError::Malformed { .. } => Self::Decode,
        }
    }
}

impl std::fmt::Display for FailureKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_reads_back_from_its_name() {
        for kind in [FailureKind::Handler, FailureKind::NoRoute, FailureKind::from("new_kind")] {
            assert_eq!(FailureKind::from(kind.as_str()), kind);
        }
        assert_eq!(FailureKind::from("new_kind"), FailureKind::Other("new_kind".into()));
    }
}
