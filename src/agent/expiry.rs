//! Messages that come too late to be of use.

use super::{
    Agent, HandlerError,
    error::Fault,
    route::Route,
    worker::{Source, Worker},
};
use crate::{
    broker::Held,
    message::{Envelope, Metadata, Timestamp, fill_from_body},
};

impl<A: Agent> Worker<A> {
    /// Settles a message that expired before it was handled. A requester that still waits is told.
    pub(super) async fn expired(&self, source: &Source, delivery: Held, mut envelope: Envelope) {
        let route = self.route(source, &envelope);
        if let Some(number) = route.and_then(|route| route.metadata_field) {
            fill_from_body(&mut envelope.metadata, &envelope.payload, number);
        }
        let waited_for = !envelope.metadata.deadline.is_some_and(Timestamp::has_passed);
        if waited_for && route.is_some_and(|route| route.replies) {
            let error = Fault::Expired.into_error();
            if let Err(unsent) = self.answer_with_error(&envelope, &error).await {
                tracing::warn!(agent = %self.name, error = %unsent, "could not say that a request expired");
            }
        }
        let keep = route.is_some_and(|route| route.keep_expired);
        self.let_go(source, delivery, envelope, Fault::Expired, keep).await;
    }

    /// Settles a message that nobody waits for any more.
    pub(super) fn past_deadline(&self, delivery: Held, envelope: &Envelope) {
        self.counters.expired.add_one();
        tracing::debug!(agent = %self.name, topic = ?envelope.topic, "dropped a message after its deadline");
        delivery.ack();
    }

    /// Settles a message that was held back, and would be for longer than it is of use. A requester
    /// that still waits is told.
    pub(super) async fn too_late(
        &self,
        source: &Source,
        delivery: Held,
        envelope: Envelope,
        error: &HandlerError,
        route: Option<&Route<A>>,
    ) {
        let Metadata { deadline, expires_at, .. } = envelope.metadata;
        let waited_for = !deadline.is_some_and(Timestamp::has_passed);
        if waited_for
            && route.is_some_and(|route| route.replies)
            && let Err(unsent) = self.answer_with_error(&envelope, error).await
        {
            tracing::warn!(agent = %self.name, error = %unsent, "could not say that a request came too late");
        }
        let expires = expires_at.is_some_and(|at| deadline.is_none_or(|deadline| at <= deadline));
        let keep = expires && route.is_some_and(|route| route.keep_expired);
        let fault = if expires { Fault::Expired } else { Fault::TooLate("middleware") };
        self.let_go(source, delivery, envelope, fault, keep).await;
    }

    /// Drops and counts a message that expired, or keeps it as a dead letter.
    pub(super) async fn let_go(
        &self,
        source: &Source,
        delivery: Held,
        envelope: Envelope,
        fault: Fault,
        keep: bool,
    ) {
        let topic = envelope.topic.clone();
        if !keep {
            self.counters.expired.add_one();
            tracing::debug!(agent = %self.name, ?topic, reason = %fault, "dropped a message");
        } else if self.bury(source, envelope, &fault.into_error()).await {
            tracing::info!(agent = %self.name, ?topic, "moved a message that expired to the dead letters");
        } else {
            return;
        }
        delivery.ack();
    }
}
