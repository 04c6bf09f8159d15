//! One handler, called with one message.

use prost::{Message, Name as MessageName};

use super::bus::TestBus;
use crate::{
    agent::{Agent, Binding, HandlerError, handle_directly, topic_of},
    contract::{Name, Pattern},
    message::{Envelope, FromEnvelope},
};

/// Calls the handler that an agent has for a topic or an rpc, and returns what it returns.
///
/// Nothing is around the handler: no queue, middleware, retry or time-out; a panic goes through.
/// Its [`Context`](crate::Context) is that of a first attempt at a message from `test`. What it
/// publishes is taken and comes to nobody, and what it asks is answered by nobody; with
/// [`TestBus::handle`] both can be looked at and provided for.
///
/// ```
/// # use agentbus::{Agent, Context, HandlerError, Routes, Rpc};
/// use agentbus::testing::handle;
/// # const LENGTH: Rpc<String, u64> = Rpc::new("text.length");
/// # struct Scribe;
/// # impl Agent for Scribe {
/// #     fn name(&self) -> &str { "scribe" }
/// #     fn routes(&self) -> Routes<Self> { Routes::new().on(LENGTH, Self::length) }
/// # }
/// # impl Scribe {
/// #     async fn length(&self, text: String, _: &Context) -> Result<u64, HandlerError> {
/// #         if text.is_empty() { return Err(HandlerError::reject("no text")); }
/// #         Ok(text.len() as u64)
/// #     }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// assert_eq!(handle(&Scribe, LENGTH, &"four".to_owned()).await.unwrap(), 4);
/// let refused = handle(&Scribe, LENGTH, &String::new()).await;
/// assert!(matches!(refused, Err(HandlerError::Reject(_))));
/// # }
/// ```
///
/// # Errors
///
/// Returns the handler's error.
///
/// # Panics
///
/// Panics if the agent has no such route, or its routes cannot be used.
pub async fn handle<A, M, R>(
    agent: &A,
    binding: impl Binding<M, R>,
    message: &M,
) -> Result<R, HandlerError>
where
    A: Agent,
    M: Message + MessageName,
    R: FromEnvelope,
{
    let bus = TestBus::new();
    bus.accept(Pattern::parse("#").expect("`#` is a pattern")).await;
    bus.handle(agent, binding, message).await
}

impl TestBus {
    /// Calls the handler that an agent has for a topic or an rpc, and returns what it returns:
    /// [`handle`] on this bus, where others may answer what it asks, and what it publishes is seen.
    ///
    /// What nobody listens to is unroutable, as on any bus, unless the test
    /// [accepts](Self::accept) it.
    ///
    /// # Errors
    ///
    /// Returns the handler's error.
    ///
    /// # Panics
    ///
    /// Panics if the agent has no such route, or its routes cannot be used.
    pub async fn handle<A, M, R>(
        &self,
        agent: &A,
        binding: impl Binding<M, R>,
        message: &M,
    ) -> Result<R, HandlerError>
    where
        A: Agent,
        M: Message + MessageName,
        R: FromEnvelope,
    {
        let topic = topic_of(binding);
        let topic = topic.unwrap_or_else(|reason| panic!("there is no handler to call: {reason}"));
        let mut envelope = Envelope::encode(message);
        envelope.topic = Some(topic);
        envelope.metadata.sender = Some(Name::from_static("test"));
        self.handle_envelope(agent, envelope).await
    }

    /// Calls the handler that an agent has for an envelope's topic: with headers, attempt, deadline
    /// and ids as the envelope has them.
    ///
    /// # Errors
    ///
    /// Returns the handler's error.
    ///
    /// # Panics
    ///
    /// Panics if the agent has no such route, or its routes cannot be used, or the handler returns
    /// something else than an `R`.
    pub async fn handle_envelope<A: Agent, R: FromEnvelope>(
        &self,
        agent: &A,
        envelope: Envelope,
    ) -> Result<R, HandlerError> {
        let topic = envelope.topic.clone();
        let handled = handle_directly(agent, &self.connect(), envelope).await;
        let reply = match handled {
            Ok(reply) => reply?,
            Err(reason) => panic!("agent `{}` cannot be called: {reason}", agent.name()),
        };
        match R::from_envelope(&reply) {
            Ok(reply) => Ok(reply),
            Err(error) => panic!(
                "the handler of `{}` in agent `{}` returns something else: {error}",
                topic.as_deref().unwrap_or_default(),
                agent.name(),
            ),
        }
    }
}
