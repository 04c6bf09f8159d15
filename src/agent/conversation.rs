//! Requests whose answers come to a route: asking, and finding what an answer belongs to.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use crate::{
    broker::{Destination, PublishError},
    client::{Client, RequestError},
    contract::{Name, full_name},
    message::{Envelope, Id, Metadata, Timestamp},
    proto::v1::RequestDeadline,
    store::{Conversation, Conversations, Scope},
};

/// The follow-ups one agent can go on with.
pub(super) struct FollowUps {
    agent: Name,
    store: Arc<dyn Conversations>,
    /// Queue that answers are sent to.
    reply_to: Name,
    names: HashSet<Name>,
}

impl FollowUps {
    pub(super) fn new(
        agent: Name,
        store: Arc<dyn Conversations>,
        reply_to: Name,
        names: HashSet<Name>,
    ) -> Self {
        Self { agent, store, reply_to, names }
    }

    pub(super) fn store(&self) -> &Arc<dyn Conversations> {
        &self.store
    }

    pub(super) fn reply_to(&self) -> &Name {
        &self.reply_to
    }

    /// Stores the state, sees to the deadline, then publishes the request; takes the state back if
    /// that fails.
    pub(super) async fn ask(
        &self,
        client: &Client,
        follow_up: &Name,
        topic: &Name,
        envelope: Envelope,
        state: String,
        sends: u32,
    ) -> Result<Id, RequestError> {
        if !self.names.contains(follow_up) {
            let (agent, follow_up) = (self.agent.clone(), follow_up.clone());
            return Err(RequestError::NoFollowUp { agent, follow_up });
        }
        let metadata = &envelope.metadata;
        let id = metadata.correlation_id.clone().unwrap_or_else(Id::new);
        let now = Timestamp::now();
        let conversation = Conversation {
            id: id.clone(),
            agent: self.agent.clone(),
            follow_up: follow_up.clone(),
            topic: topic.clone(),
            state,
            asked_at: now,
            deadline: metadata.deadline.unwrap_or(now),
            conversation_id: metadata.conversation_id.clone(),
            causation_id: metadata.causation_id.clone(),
            traceparent: metadata.traceparent.clone(),
            attempt: 1,
        };
        let deadline = self.by_message().then(|| Self::deadline(&conversation));
        let unstored = |source| RequestError::Store { topic: topic.clone(), source };
        self.store.save(conversation).await.map_err(unstored)?;
        // Before the request: whatever ends this process from here on, the route is called.
        if let Some(deadline) = deadline
            && let Err(source) =
                client.broker().publish(Destination::Queue(&self.reply_to), deadline).await
        {
            if let Err(error) = self.store.take(&self.agent, &id).await {
                tracing::warn!(agent = %self.agent, %error, "left a state behind whose request was not sent");
            }
            return Err(RequestError::Deadline { topic: topic.clone(), source });
        }
        let publish = |envelope| client.broker().publish(Destination::Topic(topic), envelope);
        let mut sent = publish(envelope).await;
        for _ in 1..sends {
            let Err(error @ PublishError::Unconfirmed { .. }) = sent else { break };
            sent = publish(error.into_envelope()).await;
        }
        let Err(error) = sent else { return Ok(id) };
        if let PublishError::Unconfirmed { .. } = error {
            // It may well have been sent: then the answer comes, and otherwise the deadline.
            tracing::warn!(agent = %self.agent, %error, "a request may not have been sent; its deadline decides");
            return Ok(id);
        }
        // Of several queues one may have refused it and another have answered it already. Where
        // the store is down, the state stays, and the deadline ends it: that is asked, too.
        match self.store.take(&self.agent, &id).await {
            Ok(Some(_)) => Err(RequestError::unsent(topic, error)),
            Ok(None) | Err(_) => Ok(id),
        }
    }

    /// Tells whether deadlines come as messages, to any of the replicas; else as the store's
    /// expiries, to this one.
    pub(super) fn by_message(&self) -> bool {
        self.store.scope() == Scope::Shared
    }

    /// Makes the message that comes to the agent's queue at the deadline.
    pub(super) fn deadline(conversation: &Conversation) -> Envelope {
        let mut envelope = Envelope::encode(&RequestDeadline {});
        let metadata = &mut envelope.metadata;
        metadata.correlation_id = Some(conversation.id.clone());
        metadata.conversation_id.clone_from(&conversation.conversation_id);
        metadata.causation_id = Some(conversation.id.clone());
        metadata.traceparent.clone_from(&conversation.traceparent);
        metadata.sender = Some(conversation.agent.clone());
        metadata.due_at = Some(conversation.deadline);
        envelope
    }

    /// Tells whether a message without a topic is such a one; else it is an answer.
    pub(super) fn is_deadline(envelope: &Envelope) -> bool {
        envelope.metadata.message_type.as_deref() == Some(full_name::<RequestDeadline>())
    }

    /// Fills an answer, which may come from any program, with what was stored of its request.
    pub(super) fn recall(conversation: &Conversation, metadata: &mut Metadata) {
        if metadata.conversation_id.is_none() {
            metadata.conversation_id.clone_from(&conversation.conversation_id);
        }
        if metadata.traceparent.is_none() {
            metadata.traceparent.clone_from(&conversation.traceparent);
        }
        metadata.attempt = Some(conversation.attempt);
        // An answer is handled however late it is taken out: the state exists once.
        metadata.deadline = None;
        metadata.expires_at = None;
    }

    /// Makes the error that a follow-up is called with at the deadline.
    pub(super) fn timed_out(conversation: &Conversation) -> RequestError {
        let (asked, deadline) = (conversation.asked_at, conversation.deadline);
        let millis = deadline.as_millis().saturating_sub(asked.as_millis());
        let timeout = Duration::from_millis(millis);
        RequestError::TimedOut { topic: conversation.topic.clone(), timeout }
    }

    /// Makes up the envelope in which a missed deadline is handled.
    pub(super) fn missed(conversation: &Conversation) -> Envelope {
        let mut envelope = Envelope::default();
        envelope.metadata.correlation_id = Some(conversation.id.clone());
        envelope.metadata.causation_id = Some(conversation.id.clone());
        Self::recall(conversation, &mut envelope.metadata);
        envelope
    }
}

impl fmt::Debug for FollowUps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowUps").field("names", &self.names).finish_non_exhaustive()
    }
}
