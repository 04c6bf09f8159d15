//! Handlers with their message types erased: decode, handle, encode the reply.

use std::{any::Any, marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use prost::{Message, Name as MessageName};
use serde::de::DeserializeOwned;

use super::{Context, FollowUpHandler, Handler, HandlerError, error::Fault};
use crate::{
    client::RequestError,
    contract::{Name, full_name},
    message::{DecodeError, Envelope, FromEnvelope},
};

/// What a handler returned, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub(super) message_type: Name,
    pub(super) payload: Bytes,
}

impl Reply {
    /// Encodes `message` as what a handler returned.
    #[must_use]
    pub fn of<M: Message + MessageName>(message: &M) -> Self {
        Self::new(Name::from_static(full_name::<M>()), message.encode_to_vec())
    }

    /// Wraps a message that was encoded before; `message_type` is its protobuf full name.
    #[must_use]
    pub fn new(message_type: Name, payload: impl Into<Bytes>) -> Self {
        Self { message_type, payload: payload.into() }
    }

    /// Returns the protobuf full name of the reply; empty after a batch or a follow-up, which
    /// return nothing.
    #[must_use]
    pub fn message_type(&self) -> &Name {
        &self.message_type
    }

    /// Returns the encoded reply.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

impl Default for Reply {
    /// What a handler returns that has nothing to say.
    fn default() -> Self {
        Self { message_type: Name::from_static(""), payload: Bytes::new() }
    }
}

/// A handler of single messages.
#[async_trait]
pub(super) trait Endpoint<A>: Send + Sync {
    async fn call(&self, agent: &A, ctx: &Context) -> Result<Reply, HandlerError>;
}

/// A handler of batches. Messages are decoded one by one, so that a bad one fails alone.
#[async_trait]
pub(super) trait BatchEndpoint<A>: Send + Sync {
    fn decode(&self, envelope: &Envelope) -> Result<Item, DecodeError>;
    async fn call(&self, agent: &A, items: Vec<Item>, ctx: &Context) -> Result<(), HandlerError>;
}

/// A decoded message of a batch.
pub(super) type Item = Box<dyn Any + Send>;

/// A handler of answers to `request_later`.
#[async_trait]
pub(super) trait FollowUpEndpoint<A>: Send + Sync {
    async fn call(
        &self,
        agent: &A,
        answer: Result<(), RequestError>,
        state: &str,
        ctx: &Context,
    ) -> Result<(), HandlerError>;
}

struct Typed<H, T> {
    handler: H,
    topic: Name,
    types: PhantomData<T>,
}

pub(super) fn endpoint<A, M, R, H>(handler: H) -> Arc<dyn Endpoint<A>>
where
    A: Send + Sync + 'static,
    M: FromEnvelope,
    R: Message + MessageName + 'static,
    H: Handler<A, M, R>,
{
    let topic = Name::from_static("");
    Arc::new(Typed { handler, topic, types: PhantomData::<fn(M) -> R> })
}

pub(super) fn batch_endpoint<A, M, H>(handler: H) -> Arc<dyn BatchEndpoint<A>>
where
    A: Send + Sync + 'static,
    M: FromEnvelope,
    H: Handler<A, Vec<M>, ()>,
{
    let topic = Name::from_static("");
    Arc::new(Typed { handler, topic, types: PhantomData::<fn(Vec<M>)> })
}

pub(super) fn follow_up_endpoint<A, Res, S, H>(
    topic: Name,
    handler: H,
) -> Arc<dyn FollowUpEndpoint<A>>
where
    A: Send + Sync + 'static,
    Res: Message + MessageName + Default + 'static,
    S: DeserializeOwned + Send + 'static,
    H: FollowUpHandler<A, Res, S>,
{
    Arc::new(Typed { handler, topic, types: PhantomData::<fn(Res, S)> })
}

#[async_trait]
impl<A, M, R, H> Endpoint<A> for Typed<H, fn(M) -> R>
where
    A: Send + Sync + 'static,
    M: FromEnvelope,
    R: Message + MessageName + 'static,
    H: Handler<A, M, R>,
{
    async fn call(&self, agent: &A, ctx: &Context) -> Result<Reply, HandlerError> {
        // A body that does not decode today will not decode tomorrow.
        let message = M::from_envelope(ctx.envelope()).map_err(HandlerError::reject)?;
        let reply = self.handler.handle(agent, message, ctx).await?;
        Ok(Reply::of(&reply))
    }
}

#[async_trait]
impl<A, M, H> BatchEndpoint<A> for Typed<H, fn(Vec<M>)>
where
    A: Send + Sync + 'static,
    M: FromEnvelope,
    H: Handler<A, Vec<M>, ()>,
{
    fn decode(&self, envelope: &Envelope) -> Result<Item, DecodeError> {
        Ok(Box::new(M::from_envelope(envelope)?))
    }

    async fn call(&self, agent: &A, items: Vec<Item>, ctx: &Context) -> Result<(), HandlerError> {
        let messages = items
            .into_iter()
            .map(|item| *item.downcast::<M>().expect("items come from this endpoint's `decode`"))
            .collect();
        self.handler.handle(agent, messages, ctx).await
    }
}

#[async_trait]
impl<A, Res, S, H> FollowUpEndpoint<A> for Typed<H, fn(Res, S)>
where
    A: Send + Sync + 'static,
    Res: Message + MessageName + Default + 'static,
    S: DeserializeOwned + Send + 'static,
    H: FollowUpHandler<A, Res, S>,
{
    async fn call(
        &self,
        agent: &A,
        answer: Result<(), RequestError>,
        state: &str,
        ctx: &Context,
    ) -> Result<(), HandlerError> {
        let state: S =
            serde_json::from_str(state).map_err(|error| Fault::State(error).into_error())?;
        let answer = answer.and_then(|()| RequestError::read(&self.topic, ctx.envelope()));
        self.handler.handle(agent, answer, state, ctx).await
    }
}
