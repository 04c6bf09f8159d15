//! What a route listens to.

use crate::{
    contract::{Contract, InvalidPattern, Pattern, Rpc, Topic},
    retry::RetryPolicy,
};

/// What a route listens to, and the messages that fixes: an [`Rpc`], a [`Topic`], or a pattern.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be routed to a handler of `{M}` that returns `{R}`",
    label = "expected an `Rpc<M, R>`, a `Topic<M>` or a pattern, found `{Self}`",
    note = "routes take an `Rpc<M, R>` (the handler returns `R`), a `Topic<M>` or a pattern such as `\"audit.#\"` (the handler returns `()`)"
)]
pub trait Binding<M, R> {
    /// Returns what to bind and how to read what arrives.
    #[doc(hidden)]
    fn bound(self) -> Bound;
}

/// What a one-way route listens to: a [`Topic`] or a pattern, never an [`Rpc`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source of one-way messages",
    label = "expected a `Topic<M>` or a pattern, found `{Self}`",
    note = "`on_each` and `on_batch` take a `Topic` or a pattern; an `Rpc` is answered by one replica: use `on`"
)]
pub trait OneWay<M> {
    /// Returns what to bind and how to read what arrives.
    #[doc(hidden)]
    fn bound(self) -> Bound;
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Bound {
    pub(super) pattern: Result<Pattern, InvalidPattern>,
    pub(super) replies: bool,
    pub(super) metadata_field: Option<u32>,
    pub(super) reply_metadata_field: Option<u32>,
    pub(super) contract: Option<&'static Contract>,
    /// What the contract says.
    pub(super) retry: Option<RetryPolicy>,
}

impl Bound {
    fn one_way(pattern: Result<Pattern, InvalidPattern>, metadata_field: Option<u32>) -> Self {
        Self {
            pattern,
            replies: false,
            metadata_field,
            reply_metadata_field: None,
            contract: None,
            retry: None,
        }
    }
}

impl<M, R> Binding<M, R> for Rpc<M, R> {
    fn bound(self) -> Bound {
        Bound {
            pattern: Ok(self.topic().into()),
            replies: true,
            metadata_field: self.topic().metadata_field(),
            reply_metadata_field: self.reply_metadata_field(),
            contract: self.contract(),
            retry: self.topic().retry().map(RetryPolicy::from),
        }
    }
}

impl<M> Binding<M, ()> for Topic<M> {
    fn bound(self) -> Bound {
        OneWay::bound(self)
    }
}

impl<M> Binding<M, ()> for Pattern {
    fn bound(self) -> Bound {
        OneWay::<M>::bound(self)
    }
}

impl<M> Binding<M, ()> for &str {
    fn bound(self) -> Bound {
        OneWay::<M>::bound(self)
    }
}

impl<M> OneWay<M> for Topic<M> {
    fn bound(self) -> Bound {
        Bound {
            contract: self.contract(),
            retry: self.retry().map(RetryPolicy::from),
            ..Bound::one_way(Ok((&self).into()), self.metadata_field())
        }
    }
}

impl<M> OneWay<M> for Pattern {
    fn bound(self) -> Bound {
        Bound::one_way(Ok(self), None)
    }
}

impl<M> OneWay<M> for &str {
    fn bound(self) -> Bound {
        Bound::one_way(Pattern::parse(self), None)
    }
}
