//! What becomes of a message once its handler has ended.
//!
//! A delivery is settled only after its consequences are confirmed: the reply, the copy for
//! another attempt, or the dead letter is taken by the bus first, then the original is acked. A
//! process that dies in between repeats the message; it never loses it.

use std::{sync::Arc, time::Duration};

use super::{
    Agent, HandlerError,
    endpoint::Reply,
    error::Fault,
    health::Trouble,
    route::{Audience, Route},
    worker::{Source, Worker},
};
use crate::{
    broker::{Destination, Held, PublishError},
    client::{Client, dead_letter_queue},
    contract::Name,
    message::{Envelope, Failure, Id, Metadata, Timestamp, append_metadata},
    retry::{Attempt, GiveUp, RetryPolicy},
};

/// How long to wait before the bus is asked once more to take what it did not.
const PUBLISH_RETRY: Duration = Duration::from_secs(1);

/// How long a message is held that cannot even become a dead letter.
const UNKEEPABLE_PAUSE: Duration = Duration::from_mins(1);

/// How often a reply is sent before the request is handled again instead.
const REPLY_ATTEMPTS: u32 = 3;

impl<A: Agent> Worker<A> {
    /// Sends the reply, if there is one, then acks.
    pub(super) async fn succeed(
        &self,
        source: &Source,
        delivery: Held,
        envelope: Arc<Envelope>,
        reply: Option<Reply>,
        route: Option<&Route<A>>,
    ) {
        if let (Some(reply), Some(reply_to)) = (reply, &envelope.metadata.reply_to) {
            let metadata_field = route.and_then(|route| route.reply_metadata_field);
            let mut answer = Envelope::of_type(reply.message_type, reply.payload);
            if self.client.config().send_contract {
                let contract = route.and_then(|route| route.signature.contract);
                answer.metadata.contract =
                    contract.map(|it| Box::new(Name::from_static(it.hash())));
            }
            let answering = self.answer(reply_to, &envelope.metadata, answer, metadata_field);
            if let Err(error) = answering.await {
                // The requester is told, unless the reply is tried again.
                let envelope = Arc::unwrap_or_clone(envelope);
                return self.fail(source, delivery, envelope, error, route).await;
            }
        }
        self.counters.handled.add_one();
        // The queue is to have the last of it.
        drop(envelope);
        delivery.ack();
    }

    /// Publishes a copy for another attempt or a dead letter, then acks.
    ///
    /// The route, where there is one, says whether a requester may wait for the outcome.
    pub(super) async fn fail(
        &self,
        source: &Source,
        delivery: Held,
        envelope: Envelope,
        error: HandlerError,
        route: Option<&Route<A>>,
    ) {
        // Boxed, so that what messages that succeed take stays small.
        Box::pin(self.settle_failure(source, delivery, envelope, error, route)).await;
    }

    async fn settle_failure(
        &self,
        source: &Source,
        delivery: Held,
        mut envelope: Envelope,
        mut error: HandlerError,
        route: Option<&Route<A>>,
    ) {
        let replies = route.is_some_and(|route| route.replies);
        match error.fault() {
            // Dropped unsettled: the message goes back as it came.
            Some(Fault::Stopping) => return,
            Some(Fault::TooLate(_)) => {
                return self.too_late(source, delivery, envelope, &error, route).await;
            }
            _ => {}
        }
        if let (HandlerError::Reply(_), true) = (&error, replies) {
            match self.answer_with_error(&envelope, &error).await {
                Ok(()) => {
                    self.counters.handled.add_one();
                    return delivery.ack();
                }
                // As with any reply: until the bus has it, the request is not done.
                Err(unsent) => error = unsent,
            }
        }
        let policy = route.and_then(|route| route.retry.as_ref()).unwrap_or(&self.retry);
        let again = another_attempt(policy, &envelope.metadata, &error);
        if let Ok((delay, attempt)) = again {
            let counter = match error {
                HandlerError::Snooze(_) => &self.counters.snoozed,
                _ => &self.counters.retried,
            };
            tracing::info!(agent = %self.name, topic = ?envelope.topic, ?delay, attempt, %error, "trying again later");
            let previous = envelope.metadata.attempt.replace(attempt);
            envelope.metadata.due_at = Some(Timestamp::now().after(delay));
            match self.publish_surely(Destination::Queue(&source.queue), envelope).await {
                Ok(()) => {
                    counter.add_one();
                    return delivery.ack();
                }
                Err(Unpublished::Closed) => return,
                Err(Unpublished::Never(unsent, reason)) => {
                    tracing::error!(agent = %self.name, reason, "a message cannot be tried again");
                    envelope = *unsent;
                    envelope.metadata.attempt = previous;
                    error = error.finally(&reason);
                }
            }
        }
        if let Err(Some(reason @ GiveUp::TooFar)) = again {
            error = error.finally(&reason);
        }
        let topic = envelope.topic.clone();
        if replies && let Err(unsent) = self.answer_with_error(&envelope, &error).await {
            tracing::warn!(agent = %self.name, error = %unsent, "could not answer with an error");
        }
        let gave_up = again.err().flatten();
        let too_late = match gave_up {
            Some(GiveUp::Expired) => true,
            // Nothing has failed; as if it had come again, and too late.
            Some(GiveUp::Deadline) => matches!(error, HandlerError::Snooze(_)),
            _ => false,
        };
        if too_late {
            let keep = gave_up == Some(GiveUp::Expired) && route.is_some_and(|it| it.keep_expired);
            let fault = Fault::ExpiredAfter(error.to_string());
            return self.let_go(source, delivery, envelope, fault, keep).await;
        }
        if self.bury(source, envelope, &error).await {
            let because = gave_up.map(tracing::field::display);
            tracing::warn!(agent = %self.name, ?topic, because, kind = %error.kind(), %error, "moved a message to the dead letters");
            delivery.ack();
        }
    }

    pub(super) async fn answer_with_error(
        &self,
        request: &Envelope,
        error: &HandlerError,
    ) -> Result<(), HandlerError> {
        let Some(reply_to) = &request.metadata.reply_to else { return Ok(()) };
        let answer = error.to_reply().into_envelope();
        self.answer(reply_to, &request.metadata, answer, None).await
    }

    /// Sends a reply to a request.
    ///
    /// Where nobody waits for it any more, it is counted, logged and dropped: that is no fault of
    /// the request's.
    async fn answer(
        &self,
        reply_to: &Name,
        request: &Metadata,
        mut answer: Envelope,
        metadata_field: Option<u32>,
    ) -> Result<(), HandlerError> {
        if request.deadline.is_some_and(Timestamp::has_passed) {
            // The requester has been told that the time is up.
            self.counters.undeliverable_replies.add_one();
            return Ok(());
        }
        let metadata = &mut answer.metadata;
        metadata.correlation_id =
            request.correlation_id.clone().or_else(|| request.message_id.clone());
        metadata.conversation_id =
            request.conversation_id.clone().or_else(|| request.message_id.clone());
        metadata.causation_id.clone_from(&request.message_id);
        metadata.traceparent.clone_from(&request.traceparent);
        metadata.tracestate.clone_from(&request.tracestate);
        metadata.sender = Some(self.name.clone());
        if let Some(number) = metadata_field {
            let mut body = Vec::from(std::mem::take(&mut answer.payload));
            append_metadata(&mut body, number, &answer.metadata);
            answer.payload = body.into();
        }
        for attempt in 1.. {
            match self.client.send(Destination::Reply(reply_to), answer).await {
                Ok(()) => return Ok(()),
                Err(error @ (PublishError::Refused { .. } | PublishError::Unconfirmed { .. })) => {
                    if attempt == REPLY_ATTEMPTS {
                        return Err(Fault::Unanswered(error).into_error());
                    }
                    tracing::warn!(agent = %self.name, %error, "could not send a reply; trying again");
                    answer = error.into_envelope();
                    tokio::time::sleep(PUBLISH_RETRY).await;
                }
                Err(PublishError::TooLarge { bytes, limit, .. }) => {
                    return Err(Fault::ReplyTooLarge { bytes, limit }.into_error());
                }
                Err(error @ PublishError::Closed { .. }) => {
                    return Err(Fault::Unanswered(error).into_error());
                }
                Err(error) => {
                    self.counters.undeliverable_replies.add_one();
                    tracing::warn!(agent = %self.name, %error, "dropped a reply that nobody waits for");
                    return Ok(());
                }
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Writes a dead letter; tells whether the bus has taken it.
    pub(super) async fn bury(
        &self,
        source: &Source,
        mut envelope: Envelope,
        error: &HandlerError,
    ) -> bool {
        let replica = source.audience == Audience::Each;
        envelope.metadata.failure = Some(Box::new(Failure {
            kind: error.kind(),
            error: error.to_string().into(),
            agent: self.name.clone(),
            instance: replica.then(|| self.instance.clone()),
            topic: envelope.topic.clone(),
            attempts: envelope.metadata.attempt(),
            at: Timestamp::now(),
        }));
        envelope.metadata.due_at = None;
        let config = self.client.config();
        let noticed = self.notices.are_wanted(config).then(|| envelope.clone());
        let dead_letters = dead_letter_queue(&self.queue());
        let to = Destination::Queue(&dead_letters);
        for strip in [strip_extras, strip_all, hold] {
            match self.publish_surely(to, envelope).await {
                Ok(()) => {
                    self.counters.dead_lettered.add_one();
                    if let Some(letter) = noticed {
                        let tasks = &self.lifecycle.tasks;
                        self.notices.tell(&self.client, tasks, &dead_letters, letter).await;
                    }
                    return true;
                }
                Err(Unpublished::Closed) => return false,
                Err(Unpublished::Never(unsent, reason)) => {
                    tracing::error!(agent = %self.name, reason, "a dead letter is kept without all its metadata");
                    envelope = *unsent;
                    strip(&mut envelope);
                }
            }
        }
        // Given back, but not at once: nothing about it will have changed.
        let pause = tokio::time::sleep(UNKEEPABLE_PAUSE);
        self.lifecycle.abandon.run_until_cancelled(pause).await;
        false
    }

    /// Publishes to one of the agent's own queues, as often as it takes.
    ///
    /// While the bus does not take it (a full dead-letter queue, an outage), the delivery stays
    /// unsettled and its place in the prefetch stays taken: the agent pauses.
    pub(super) async fn publish_surely(
        &self,
        to: Destination<'_>,
        mut envelope: Envelope,
    ) -> Result<(), Unpublished> {
        let mut held = None;
        let abandon = &self.lifecycle.abandon;
        loop {
            // Abandoned, it may or may not have published: the delivery goes back in any case.
            let publish = self.client.broker().publish(to, envelope);
            let error = match abandon.run_until_cancelled(publish).await {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => error,
                None => return Err(Unpublished::Closed),
            };
            held.get_or_insert_with(|| {
                let trouble = Trouble::Held { agent: self.name.clone() };
                (self.counters.held.hold(), self.board.note(trouble))
            });
            match error {
                PublishError::Closed { .. } => return Err(Unpublished::Closed),
                PublishError::Invalid { .. } | PublishError::TooLarge { .. } => {
                    let reason = error.to_string();
                    return Err(Unpublished::Never(error.into_envelope().into(), reason));
                }
                PublishError::Unroutable { .. } => self.declare_again().await,
                PublishError::Refused { .. } | PublishError::Unconfirmed { .. } => {
                    tracing::warn!(agent = %self.name, %to, %error, "paused: cannot write to the agent's own queue; trying again");
                }
            }
            envelope = error.into_envelope();
            let pause = tokio::time::sleep(PUBLISH_RETRY);
            if abandon.run_until_cancelled(pause).await.is_none() {
                return Err(Unpublished::Closed);
            }
        }
    }

    /// Returns the name of the queue that the agent's replicas share.
    pub(super) fn queue(&self) -> Name {
        work_queue(&self.client, &self.name)
    }
}

/// Tells after what delay, and as which attempt, a message is to be handled again, or why it is
/// not; nothing where its handler wants no other attempt.
pub(super) fn another_attempt(
    policy: &RetryPolicy,
    metadata: &Metadata,
    error: &HandlerError,
) -> Result<(Duration, u32), Option<GiveUp>> {
    let number = metadata.attempt();
    let mut attempt = Attempt::number(number);
    attempt.limit = metadata.max_attempts;
    attempt.time_left = metadata.deadline.map(Timestamp::remaining);
    attempt.expires_in = metadata.expires_at.map(Timestamp::remaining);
    if let Some(sent) = metadata.timestamp {
        let age = Timestamp::now().as_millis().saturating_sub(sent.as_millis());
        attempt.age = Duration::from_millis(age);
    }
    let delay = match error {
        HandlerError::Snooze(delay) => return Ok((attempt.again_after(*delay)?, number)),
        HandlerError::Reject(_) | HandlerError::Reply(_) => return Err(None),
        _ if !error.is_retried_by(policy) => return Err(Some(GiveUp::NotRetryable)),
        HandlerError::Retry(_) => policy.next(&attempt, fastrand::f64())?,
        HandlerError::RetryAfter(delay, _) => policy.after(&attempt, *delay)?,
    };
    Ok((delay, number.saturating_add(1)))
}

/// Returns the name of the queue that the replicas of `agent` share.
pub(super) fn work_queue(client: &Client, agent: &Name) -> Name {
    match client.config().queue_prefix.as_str() {
        "" => agent.clone(),
        prefix => format!("{prefix}{agent}").into(),
    }
}

/// Why an envelope is not in one of the agent's own queues.
pub(super) enum Unpublished {
    /// The bus was closed, or the agent is stopped for good: the delivery goes back.
    Closed,
    /// It never will be, for this reason.
    Never(Box<Envelope>, String),
}

/// Leaves what a dead letter is read by: topic, type, id, failure and body.
fn strip_extras(envelope: &mut Envelope) {
    let metadata = std::mem::take(&mut envelope.metadata);
    let Metadata {
        content_type,
        content_encoding,
        message_type,
        message_id,
        timestamp,
        failure,
        ..
    } = metadata;
    envelope.metadata = Metadata {
        content_type,
        content_encoding,
        message_type,
        message_id,
        timestamp,
        failure,
        ..Metadata::default()
    };
}

/// Leaves the failure and the body.
fn strip_all(envelope: &mut Envelope) {
    let failure = envelope.metadata.failure.take();
    envelope.metadata = Metadata { message_id: Some(Id::new()), failure, ..Metadata::default() };
    envelope.topic = None;
}

/// Leaves everything: nothing else can be done.
fn hold(_: &mut Envelope) {}
