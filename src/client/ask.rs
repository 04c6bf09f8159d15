//! Asking: a request and its reply, or the replies of many.

use std::time::Duration;

use prost::{Message, Name as MessageName};

use super::{Client, Origin, Replies, RequestError, RequestOptions, Terms};
use crate::{
    contract::{Name, Rpc},
    message::{Envelope, Id, Timestamp},
};

impl Client {
    /// Publishes a request and waits for its reply.
    ///
    /// # Errors
    ///
    /// Ends with the reply, the error the other side answered with, an immediate error where
    /// nobody listens, or [`RequestError::TimedOut`] at the deadline (by default after what the
    /// contract states, or else the configuration's `request_timeout`, 30 s). Where a queue refused the request, or none
    /// confirmed it, a reply is waited for all the same; if none comes before the deadline, the error
    /// is [`RequestError::Publish`].
    ///
    /// # Cancel safety
    ///
    /// A dropped future forgets the request; a reply that comes later is ignored.
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

    /// Publishes a request with a deadline or headers of its own, and waits for its reply.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
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
        self.request_from(Origin::default(), rpc, request, options).await
    }

    pub(crate) async fn request_from<Req, Res>(
        &self,
        origin: Origin<'_>,
        rpc: Rpc<Req, Res>,
        request: &Req,
        options: RequestOptions,
    ) -> Result<Res, RequestError>
    where
        Req: Message + MessageName,
        Res: Message + MessageName + Default,
    {
        let idempotent = options.idempotent;
        let (envelope, timeout) = self.encode_request(origin, &rpc, request, options, None);
        let field = rpc.reply_metadata_field();
        let requester = &self.shared.requester;
        let reply = requester.ask(rpc.name(), envelope, field, timeout, idempotent).await?;
        RequestError::read(rpc.name(), &reply)
    }

    /// Publishes a request and yields every reply that comes until the deadline.
    ///
    /// Each agent with a route for the request replies once: replicas of one agent share the
    /// work, different agents all answer. The stream ends at the deadline, or after as many
    /// replies as [`RequestOptions::at_most`] says.
    ///
    /// # Errors
    ///
    /// Returns an error where the request could not be published. Where only one of several queues
    /// refused it, or none confirmed it, that is an error only if no reply comes before the deadline.
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
        self.request_many_from(Origin::default(), rpc, request, options).await
    }

    pub(crate) async fn request_many_from<Req, Res>(
        &self,
        origin: Origin<'_>,
        rpc: Rpc<Req, Res>,
        request: &Req,
        options: RequestOptions,
    ) -> Result<Replies<Res>, RequestError>
    where
        Req: Message + MessageName,
        Res: Message + MessageName + Default,
    {
        let at_most = options.at_most;
        let (envelope, timeout) = self.encode_request(origin, &rpc, request, options, None);
        let field = rpc.reply_metadata_field();
        let slot = self.shared.requester.ask_many(rpc.name(), envelope, field, timeout).await?;
        Ok(Replies::new(rpc.name().clone(), slot, at_most))
    }

    /// Encodes a request, with the deadline nearest of the caller's and the origin's.
    pub(crate) fn encode_request<Req, Res>(
        &self,
        origin: Origin<'_>,
        rpc: &Rpc<Req, Res>,
        request: &Req,
        options: RequestOptions,
        reply_to: Option<&Name>,
    ) -> (Envelope, Duration)
    where
        Req: Message + MessageName,
    {
        let mut timeout =
            options.timeout.or(rpc.deadline()).unwrap_or(self.config().request_timeout);
        if let Some(deadline) = origin.deadline() {
            timeout = timeout.min(deadline.remaining());
        }
        let mut envelope = Envelope::encode(request);
        options.publish.apply(&mut envelope.metadata);
        let metadata = &mut envelope.metadata;
        metadata.deadline = Some(Timestamp::now().after(timeout));
        metadata.correlation_id = Some(Id::new());
        metadata.reply_to = reply_to.cloned();
        let topic = rpc.topic();
        (self.fill(origin, envelope, topic.name(), Terms::from(topic)), timeout)
    }
}
