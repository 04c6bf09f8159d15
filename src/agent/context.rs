//! What a handler knows of the message it handles, and what it may do.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prost::{Message, Name as MessageName};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{conversation::FollowUps, counts::Counters, route::Audience};
use crate::{
    broker::PublishError,
    client::{Client, Origin, PublishOptions, Replies, RequestError, RequestOptions},
    contract::{FollowUp, Name, Rpc, Topic},
    message::{Envelope, Headers, Id, Metadata, Timestamp},
};

/// How often an idempotent request is sent whose answer comes later, as long as it is not known
/// whether it was taken.
const SENDS: u32 = 3;

/// The circumstances of one message, and the way to send others that follow from it.
///
/// What is sent through it belongs to the same conversation, names the handled message as its
/// cause, and carries its trace on.
pub struct Context {
    pub(super) envelope: Arc<Envelope>,
    pub(super) batch: Vec<Metadata>,
    pub(super) redelivered: bool,
    pub(super) duty: Arc<Duty>,
    pub(super) audience: Audience,
    /// Whether what the handler returns is sent to a requester.
    pub(super) replies: bool,
    /// Set when the handler itself is called.
    pub(super) begun: AtomicBool,
}

/// What the contexts of one agent share.
#[derive(Debug)]
pub(super) struct Duty {
    pub(super) client: Client,
    pub(super) follow_ups: Arc<FollowUps>,
    pub(super) agent: Name,
    pub(super) instance: Name,
    /// No handler is to be called any more.
    pub(super) stop: CancellationToken,
    /// Handlers should end.
    pub(super) hurry: CancellationToken,
    pub(super) counters: Arc<Counters>,
}

impl Context {
    /// Publishes a message and waits until the bus has taken it; see [`Client::publish`].
    ///
    /// # Errors
    ///
    /// Returns the message with the reason it was not taken.
    pub async fn publish<M>(&self, topic: Topic<M>, message: &M) -> Result<Id, PublishError>
    where
        M: Message + MessageName,
    {
        self.publish_with(topic, message, PublishOptions::default()).await
    }

    /// Publishes a message with options; see [`Client::publish_with`].
    ///
    /// # Errors
    ///
    /// Returns the message with the reason it was not taken.
    pub async fn publish_with<M>(
        &self,
        topic: Topic<M>,
        message: &M,
        options: PublishOptions,
    ) -> Result<Id, PublishError>
    where
        M: Message + MessageName,
    {
        self.client().publish_from(self.origin(), topic, message, options).await
    }

    /// Publishes the handled message under another topic: the original bytes, so that fields
    /// this program does not know are kept, under a new message id. Its reply, if it has one, is
    /// this handler's to give: the copy asks for none. What the sender said of the message itself
    /// goes along: priority, headers, when it expires, and how many attempts it allows.
    ///
    /// # Errors
    ///
    /// Returns the message with the reason it was not taken.
    pub async fn forward(&self, topic: impl Into<Name>) -> Result<Id, PublishError> {
        let Metadata {
            content_type,
            content_encoding,
            message_type,
            priority,
            contract,
            expires_at,
            max_attempts,
            headers,
            ..
        } = self.envelope.metadata.clone();
        let metadata = Metadata {
            content_type,
            content_encoding,
            message_type,
            priority,
            contract,
            expires_at,
            max_attempts,
            headers,
            ..Metadata::default()
        };
        let topic = Some(topic.into());
        let envelope = Envelope { topic, metadata, payload: self.envelope.payload.clone() };
        self.client().envelope_from(self.origin(), envelope).await
    }

    /// Asks another agent and waits for its reply, at most as long as the handled message's own
    /// deadline allows; see [`Client::request`].
    ///
    /// The answer is lost with the process; [`request_later`](Self::request_later) is the way
    /// that does not hold the handler up.
    ///
    /// # Errors
    ///
    /// As [`Client::request`].
    pub async fn request<Req, Res>(
        &self,
        rpc: Rpc<Req, Res>,
        request: &Req,
    ) -> Result<Res, RequestError>
    where
        Req: Message + MessageName,
        Res: Message + MessageName + Default,
    {
        self.request_with(rpc, request, RequestOptions::default()).await
    }

    /// Asks another agent with options; see [`Client::request_with`].
    ///
    /// # Errors
    ///
    /// As [`Client::request`].
    pub async fn request_with<Req, Res>(
        &self,
        rpc: Rpc<Req, Res>,
        request: &Req,
        options: RequestOptions,
    ) -> Result<Res, RequestError>
    where
        Req: Message + MessageName,
        Res: Message + MessageName + Default,
    {
        self.client().request_from(self.origin(), rpc, request, options).await
    }

    /// Asks all agents that answer; see [`Client::request_many`].
    ///
    /// # Errors
    ///
    /// As [`Client::request_many`].
    pub async fn request_many<Req, Res>(
        &self,
        rpc: Rpc<Req, Res>,
        request: &Req,
        options: RequestOptions,
    ) -> Result<Replies<Res>, RequestError>
    where
        Req: Message + MessageName,
        Res: Message + MessageName + Default,
    {
        self.client().request_many_from(self.origin(), rpc, request, options).await
    }

    /// Asks another agent; the answer comes to this agent's `on_reply` route of the follow-up,
    /// with `state`.
    ///
    /// The state is stored before the request is published and taken out once, so the route is
    /// called exactly once: with the reply, with the error that came in its place, or with
    /// [`RequestError::TimedOut`] at the deadline. Returns the correlation id.
    ///
    /// # Errors
    ///
    /// Returns an error where the request was not sent; then nothing stays stored.
    ///
    /// # Cancel safety
    ///
    /// A future dropped before it ends may or may not have asked. If it stored the state and did
    /// not ask, the route is called at the deadline.
    pub async fn request_later<Req, Res, State>(
        &self,
        follow_up: FollowUp<Req, Res, State>,
        request: &Req,
        state: &State,
    ) -> Result<Id, RequestError>
    where
        Req: Message + MessageName,
        State: Serialize + Sync,
    {
        self.request_later_with(follow_up, request, state, RequestOptions::default()).await
    }

    /// Asks another agent with options, to go on in a route; see
    /// [`request_later`](Self::request_later).
    ///
    /// The deadline is this request's own: the handled message is done when its handler returns,
    /// so its deadline does not bound what comes later.
    ///
    /// # Errors
    ///
    /// As [`request_later`](Self::request_later).
    pub async fn request_later_with<Req, Res, State>(
        &self,
        follow_up: FollowUp<Req, Res, State>,
        request: &Req,
        state: &State,
        options: RequestOptions,
    ) -> Result<Id, RequestError>
    where
        Req: Message + MessageName,
        State: Serialize + Sync,
    {
        let topic = follow_up.rpc().name();
        let state = serde_json::to_string(state)
            .map_err(|source| RequestError::State { topic: topic.clone(), source })?;
        // Cut off from the handled message's deadline, not from its conversation.
        let handled = Metadata { deadline: None, ..self.envelope.metadata.clone() };
        let origin = Origin::of(&handled);
        let reply_to = Some(self.duty.follow_ups.reply_to());
        let sends = if options.idempotent { SENDS } else { 1 };
        let (envelope, _) =
            self.client().encode_request(origin, follow_up.rpc(), request, options, reply_to);
        self.duty
            .follow_ups
            .ask(self.client(), follow_up.name(), topic, envelope, state, sends)
            .await
    }

    /// Returns the name of the agent that handles the message.
    #[must_use]
    pub fn agent(&self) -> &Name {
        &self.duty.agent
    }

    /// Returns the topic the message was published under; none for a reply.
    #[must_use]
    pub fn topic(&self) -> Option<&Name> {
        self.envelope.topic.as_ref()
    }

    /// Returns the message as it was delivered, undecoded.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Returns all that travelled beside the message.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.envelope.metadata
    }

    /// Returns the metadata of every message of a batch, in the order the handler
    /// got them in; empty outside batch routes.
    #[must_use]
    pub fn batch(&self) -> &[Metadata] {
        &self.batch
    }

    /// Returns the message's id.
    #[must_use]
    pub fn message_id(&self) -> Option<&Id> {
        self.metadata().message_id.as_ref()
    }

    /// Returns what pairs a reply with its request.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&Id> {
        self.metadata().correlation_id.as_ref()
    }

    /// Returns the conversation the message belongs to: its own id where it began one.
    #[must_use]
    pub fn conversation_id(&self) -> Option<&Id> {
        self.metadata().conversation_id.as_ref().or(self.message_id())
    }

    /// Returns the id of the message that this one follows from.
    #[must_use]
    pub fn causation_id(&self) -> Option<&Id> {
        self.metadata().causation_id.as_ref()
    }

    /// Returns the name of the agent that sent the message.
    #[must_use]
    pub fn sender(&self) -> Option<&Name> {
        self.metadata().sender.as_ref()
    }

    /// Returns the free headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.metadata().headers
    }

    /// Returns the number of this attempt, from 1. Snoozes and redeliveries after a crash do not
    /// count.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.metadata().attempt()
    }

    /// Tells whether the message may have been delivered before. `false` is certain.
    #[must_use]
    pub fn is_redelivered(&self) -> bool {
        self.redelivered
    }

    /// Returns when nobody waits for the outcome any more.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.metadata().deadline
    }

    /// Returns when the message is worth nothing any more; none where it never expires. A message
    /// that has expired is not handled, but one may expire while it is: that ends no handler.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.metadata().expires_at
    }

    /// Returns how much time is left until the deadline.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline().map(Timestamp::remaining)
    }

    /// Waits until the runtime wants this handler to end, because its grace period is nearly
    /// over; what does not end then is given back and handled again.
    pub async fn cancelled(&self) {
        self.duty.hurry.cancelled().await;
    }

    /// Returns a client that sends as this agent, without a tie to the handled message.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.duty.client
    }

    /// Tells whether the handler itself was called, beyond all middleware.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    fn origin(&self) -> Origin<'_> {
        Origin::of(&self.envelope.metadata)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("envelope", &self.envelope).finish_non_exhaustive()
    }
}
