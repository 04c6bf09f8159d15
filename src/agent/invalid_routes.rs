//! What can be wrong with a route table.

use crate::contract::{InvalidPattern, Name, Pattern};

/// A route table that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRoutes {
    /// A pattern is malformed.
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
    /// A pattern has two routes.
    #[error("`{pattern}` is routed twice; only the first route would ever be called")]
    Twice {
        /// The pattern.
        pattern: Pattern,
    },
    /// A follow-up has two routes.
    #[error("the follow-up `{name}` is routed twice; give each a name of its own")]
    FollowUpTwice {
        /// Name of the follow-up.
        name: Name,
    },
    /// A topic has a route that is never called, since an earlier pattern matches it.
    #[error(
        "`{pattern}` is never reached: `{earlier}` is routed before it and takes its messages; put the pattern last"
    )]
    Shadowed {
        /// The topic.
        pattern: Pattern,
        /// The pattern that takes its messages.
        earlier: Pattern,
    },
    /// A batch that cannot be filled.
    #[error("a batch on `{pattern}` may hold {max} messages; allow 1 to 65535")]
    Batch {
        /// The pattern.
        pattern: Pattern,
        /// How many messages it may hold.
        max: usize,
    },
    /// A setting is not behind the route it is about.
    #[error(
        "`{setting}` is about the route added before it, and there is none it fits; put it behind that route"
    )]
    Misplaced {
        /// Name of the setting's method.
        setting: &'static str,
    },
}
