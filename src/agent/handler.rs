//! The shapes of handlers.

use super::{Context, HandlerError};
use crate::client::RequestError;

/// An `async fn(&A, M, &Context)`, for one lifetime of the borrows.
///
/// This names the future a borrowing `async fn` returns, which lets [`Handler`] require it to be
/// `Send`; `AsyncFn(&A, M, &Context)` cannot say that on stable Rust.
pub trait HandlerFn<'a, A: 'a, M>:
    Fn(&'a A, M, &'a Context) -> Self::Future + Send + Sync + 'static
{
    /// What the future resolves to; not `Output`, which `Fn` already has.
    type Outcome;
    /// The future the function returns.
    type Future: Future<Output = Self::Outcome> + Send + 'a;
}

impl<'a, A, M, F, Fut> HandlerFn<'a, A, M> for F
where
    A: 'a,
    F: Fn(&'a A, M, &'a Context) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'a,
{
    type Outcome = Fut::Output;
    type Future = Fut;
}

/// A handler of messages `M` that replies with `R`.
///
/// Implemented for every `async fn(&A, M, &Context) -> Result<R, HandlerError>`; there is no need
/// to implement it by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle this route's messages",
    label = "not a handler for this route",
    note = "a handler is `async fn(&self, Message, &Context) -> Result<Reply, HandlerError>`",
    note = "on an `Rpc<M, R>` it takes `M` and returns `R`; on a `Topic<M>` it takes `M` and returns `()`"
)]
pub trait Handler<A, M, R>: Send + Sync + 'static {
    /// Handles one message.
    fn handle(
        &self,
        agent: &A,
        message: M,
        context: &Context,
    ) -> impl Future<Output = Result<R, HandlerError>> + Send;
}

impl<A, M, R, F> Handler<A, M, R> for F
where
    A: Sync,
    M: Send,
    F: for<'a> HandlerFn<'a, A, M, Outcome = Result<R, HandlerError>>,
{
    async fn handle(&self, agent: &A, message: M, context: &Context) -> Result<R, HandlerError> {
        self(agent, message, context).await
    }
}

/// An `async fn(&A, Result<Res, RequestError>, State, &Context)`, for one lifetime of the borrows.
pub trait FollowUpFn<'a, A: 'a, Res, State>:
    Fn(&'a A, Result<Res, RequestError>, State, &'a Context) -> Self::Future + Send + Sync + 'static
{
    /// What the future resolves to.
    type Outcome;
    /// The future the function returns.
    type Future: Future<Output = Self::Outcome> + Send + 'a;
}

impl<'a, A, Res, State, F, Fut> FollowUpFn<'a, A, Res, State> for F
where
    A: 'a,
    F: Fn(&'a A, Result<Res, RequestError>, State, &'a Context) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'a,
{
    type Outcome = Fut::Output;
    type Future = Fut;
}

/// A handler of what follows a request: the answer, and the state that was stored with it.
///
/// Implemented for every
/// `async fn(&A, Result<Res, RequestError>, State, &Context) -> Result<(), HandlerError>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle this follow-up",
    label = "not a handler for this follow-up",
    note = "a handler of a `FollowUp<Req, Res, State>` is `async fn(&self, Result<Res, RequestError>, State, &Context) -> Result<(), HandlerError>`"
)]
pub trait FollowUpHandler<A, Res, State>: Send + Sync + 'static {
    /// Handles one answer.
    fn handle(
        &self,
        agent: &A,
        answer: Result<Res, RequestError>,
        state: State,
        context: &Context,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

impl<A, Res, State, F> FollowUpHandler<A, Res, State> for F
where
    A: Sync,
    Res: Send,
    State: Send,
    F: for<'a> FollowUpFn<'a, A, Res, State, Outcome = Result<(), HandlerError>>,
{
    async fn handle(
        &self,
        agent: &A,
        answer: Result<Res, RequestError>,
        state: State,
        context: &Context,
    ) -> Result<(), HandlerError> {
        self(agent, answer, state, context).await
    }
}
