//! Answers to `request_later`: finds what was stored with the request, and goes on.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::sync::Mutex;

use super::{
    Agent, Context, HandlerError,
    conversation::FollowUps,
    endpoint::{FollowUpEndpoint, Reply},
    error::Fault,
    fate::{Unpublished, another_attempt},
    health::Trouble,
    middleware::Innermost,
    route::Audience,
    worker::{Source, Worker},
};
use crate::{
    broker::{Destination, Held},
    client::RequestError,
    contract::Name,
    message::{Envelope, Id, Timestamp, fill_from_body},
    retry::GiveUp,
    store::{Conversation, Expiry, StoreError},
};

/// How long to wait before a store that is down is asked again.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);

/// How long the store may take for its last answer once handlers are abandoned.
const LAST_ANSWER: Duration = Duration::from_millis(500);

/// A deadline that is put off does not come back at once.
const SHORTEST_DELAY: Duration = Duration::from_millis(250);

/// How much later than planned an answer that is tried again may come.
const ANSWER_MARGIN: Duration = Duration::from_mins(10);

/// What a follow-up is called for.
enum Occasion {
    /// An answer, which goes on in the handler's context.
    Answer(Arrival, Box<Envelope>),
    /// The deadline, which has come as a message where the store is shared.
    Deadline(Option<Arrival>),
}

/// A delivery to be settled, and the queue it came from.
struct Arrival {
    delivery: Held,
    source: Source,
}

impl Occasion {
    fn is_answer(&self) -> bool {
        matches!(self, Self::Answer(..))
    }
}

impl<A: Agent> Worker<A> {
    /// An answer or a deadline came: takes out what was stored with its request, and goes on.
    pub(super) async fn answered(&self, delivery: Held, mut envelope: Envelope, source: Source) {
        if FollowUps::is_deadline(&envelope) {
            return self.deadline_came(delivery, envelope, source).await;
        }
        for &number in &self.routes.reply_fields {
            if envelope.metadata.correlation_id.is_some() {
                break;
            }
            fill_from_body(&mut envelope.metadata, &envelope.payload, number);
        }
        match self.take(envelope.metadata.correlation_id.as_ref()).await {
            // The delivery goes back.
            None => {}
            Some(Some(conversation)) => {
                let arrival = Arrival { delivery, source };
                let occasion = Occasion::Answer(arrival, envelope.into());
                self.go_on(conversation, occasion).await;
            }
            Some(None) => {
                let error = Fault::UnknownReply.into_error();
                self.fail(&source, delivery, envelope, error, None).await;
            }
        }
    }

    /// A deadline came as a message: its request may have been answered long ago, or be tried
    /// again with more time.
    async fn deadline_came(&self, delivery: Held, mut envelope: Envelope, source: Source) {
        let (store, id) = (self.follow_ups.store(), &envelope.metadata.correlation_id);
        let expiry = match id {
            None => Some(Expiry::Gone),
            Some(id) => self.surely(|| store.take_expired(&self.name, id)).await,
        };
        match expiry {
            // The delivery goes back.
            None => {}
            Some(Expiry::Gone) => {
                tracing::trace!(agent = %self.name, id = ?id, "a deadline came after the answer");
                delivery.ack();
            }
            Some(Expiry::NotYet(deadline)) => {
                let soonest = Timestamp::now().after(SHORTEST_DELAY);
                envelope.metadata.due_at = Some(deadline.max(soonest));
                match self.publish_surely(Destination::Queue(&source.queue), envelope).await {
                    Ok(()) => delivery.ack(),
                    Err(Unpublished::Closed) => {}
                    Err(Unpublished::Never(_, reason)) => {
                        tracing::error!(agent = %self.name, reason, "a deadline cannot be put off");
                        let pause = tokio::time::sleep(STORE_RETRY);
                        self.lifecycle.abandon.run_until_cancelled(pause).await;
                    }
                }
            }
            Some(Expiry::Expired(conversation)) => {
                let occasion = Occasion::Deadline(Some(Arrival { delivery, source }));
                self.go_on(*conversation, occasion).await;
            }
        }
    }

    /// Asks the store as often as it takes; `None` where the agent is abandoned and the store does
    /// not answer even then.
    ///
    /// However long the store is down, an answer is never handled as if the store had said no.
    async fn surely<T, F>(&self, mut ask: impl FnMut() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let asking = async {
            let mut down = None;
            loop {
                match ask().await {
                    Ok(answer) => return answer,
                    Err(error) => {
                        down.get_or_insert_with(|| {
                            self.board.note(Trouble::Store { agent: self.name.clone() })
                        });
                        tracing::error!(agent = %self.name, %error, "the store does not answer; asking again");
                        tokio::time::sleep(STORE_RETRY).await;
                    }
                }
            }
        };
        // What has been asked for is waited for: a state taken out and then dropped would be lost.
        let given_up = async {
            self.lifecycle.abandon.cancelled().await;
            tokio::time::sleep(LAST_ANSWER).await;
        };
        tokio::select! {
            biased;
            answer = asking => Some(answer),
            () = given_up => None,
        }
    }

    /// Takes a conversation out of the store; `None` where that cannot be found out.
    async fn take(&self, id: Option<&Id>) -> Option<Option<Conversation>> {
        let store = self.follow_ups.store();
        match id {
            None => Some(None),
            Some(id) => self.surely(|| store.take(&self.name, id)).await,
        }
    }

    /// Puts a conversation into the store again; tells whether it is there.
    async fn put_back(&self, conversation: &Conversation) -> bool {
        let store = self.follow_ups.store();
        let put = self.surely(|| store.put_back(conversation.clone())).await;
        if put.is_none() {
            tracing::error!(
                agent = %self.name, id = %conversation.id, follow_up = %conversation.follow_up,
                "lost a conversation: the store was down at the stop",
            );
        }
        put.is_some()
    }

    /// Puts a conversation back whose delivery goes back, too: that must find the state there, an
    /// answer also where the deadline comes before it.
    async fn give_back(&self, mut conversation: Conversation, is_answer: bool) {
        if is_answer && self.follow_ups.by_message() {
            let later = Timestamp::now().after(ANSWER_MARGIN);
            conversation.deadline = conversation.deadline.max(later);
        }
        self.put_back(&conversation).await;
    }

    /// The store itself says that a deadline has passed.
    pub(super) async fn deadline_missed(self: Arc<Self>, conversation: Conversation) {
        self.go_on(conversation, Occasion::Deadline(None)).await;
    }

    /// Calls the follow-up's route.
    async fn go_on(&self, conversation: Conversation, occasion: Occasion) {
        let is_answer = occasion.is_answer();
        let (arrival, mut envelope, outcome) = match occasion {
            Occasion::Answer(arrival, envelope) => (Some(arrival), *envelope, Ok(())),
            Occasion::Deadline(arrival) => {
                let error = FollowUps::timed_out(&conversation);
                (arrival, FollowUps::missed(&conversation), Err(error))
            }
        };
        FollowUps::recall(&conversation, &mut envelope.metadata);
        let redelivered = arrival.as_ref().is_some_and(|it| it.delivery.is_redelivered());
        let ctx = self.context(envelope, redelivered);
        let handling = async {
            let Some(route) = self.routes.follow_ups.get(&conversation.follow_up) else {
                return Err(Fault::NoRoute(conversation.follow_up.to_string()).into_error());
            };
            let call = FollowUpCall {
                agent: &self.agent,
                endpoint: &*route.endpoint,
                state: &conversation.state,
                outcome: Mutex::new(Some(outcome)),
            };
            self.run(&ctx, &call).await
        };
        let result = self.lifecycle.abandon.run_until_cancelled(handling).await;
        let given_back = |error: &HandlerError| matches!(error.fault(), Some(Fault::Stopping));
        let Some(result) = result.filter(|result| !result.as_ref().is_err_and(given_back)) else {
            return self.give_back(conversation, is_answer).await;
        };
        let envelope = ctx.envelope;
        match (result, arrival) {
            (Ok(_), Some(Arrival { delivery, source })) => {
                self.succeed(&source, delivery, envelope, None, None).await;
            }
            (Ok(_), None) => self.counters.handled.add_one(),
            (Err(error), arrival) => {
                let envelope = Arc::unwrap_or_clone(envelope);
                let occasion = match (is_answer, arrival) {
                    (true, Some(arrival)) => Occasion::Answer(arrival, envelope.into()),
                    (_, arrival) => Occasion::Deadline(arrival),
                };
                self.fail_follow_up(conversation, occasion, error).await;
            }
        }
    }

    /// Puts the conversation back for another attempt, or writes the dead letter of its answer.
    async fn fail_follow_up(
        &self,
        mut conversation: Conversation,
        occasion: Occasion,
        error: HandlerError,
    ) {
        let (is_answer, arrival, envelope) = match occasion {
            Occasion::Answer(arrival, envelope) => (true, Some(arrival), *envelope),
            Occasion::Deadline(arrival) => (false, arrival, FollowUps::missed(&conversation)),
        };
        let route = self.routes.follow_ups.get(&conversation.follow_up);
        let policy = route.and_then(|route| route.retry.as_ref()).unwrap_or(&self.retry);
        let (delay, attempt) = match another_attempt(policy, &envelope.metadata, &error) {
            Ok(again) => again,
            Err(gave_up) => {
                let error = match gave_up {
                    Some(reason @ GiveUp::TooFar) => error.finally(&reason),
                    _ => error,
                };
                let buried =
                    self.bury_follow_up(conversation, is_answer, arrival, envelope, &error);
                return buried.await;
            }
        };
        conversation.attempt = attempt;
        // Where the answer comes again, it is to find the state; else the deadline comes again.
        let margin = if is_answer { ANSWER_MARGIN } else { Duration::ZERO };
        conversation.deadline = Timestamp::now().after(delay.saturating_add(margin));
        if !self.put_back(&conversation).await {
            return;
        }
        let counter = match error {
            HandlerError::Snooze(_) => &self.counters.snoozed,
            _ => &self.counters.retried,
        };
        let Some(Arrival { delivery, source }) = arrival else {
            return counter.add_one();
        };
        let again = if is_answer {
            let mut answer = envelope;
            answer.metadata.attempt = Some(attempt);
            answer.metadata.due_at = Some(Timestamp::now().after(delay));
            answer
        } else {
            FollowUps::deadline(&conversation)
        };
        match self.publish_surely(Destination::Queue(&source.queue), again).await {
            Ok(()) => {
                counter.add_one();
                delivery.ack();
            }
            Err(Unpublished::Closed) => {}
            Err(Unpublished::Never(unsent, reason)) => {
                tracing::error!(agent = %self.name, reason, "an answer cannot be tried again");
                if self.take(Some(&conversation.id)).await.is_some() {
                    let arrival = Some(Arrival { delivery, source });
                    let error = error.finally(&reason);
                    self.bury_follow_up(conversation, is_answer, arrival, *unsent, &error).await;
                }
            }
        }
    }

    /// Writes the dead letter of an answer, or of the state where there is no answer to keep.
    async fn bury_follow_up(
        &self,
        conversation: Conversation,
        is_answer: bool,
        arrival: Option<Arrival>,
        mut envelope: Envelope,
        error: &HandlerError,
    ) {
        // What an operator needs to go on by hand: which follow-up it was, and its state.
        let follow_up = conversation.follow_up.clone();
        if envelope.metadata.headers.set("follow-up", follow_up).is_err() {
            tracing::warn!(agent = %self.name, follow_up = %conversation.follow_up, "no room to name the follow-up");
        }
        if !is_answer {
            envelope.metadata.message_type = None;
            envelope.metadata.content_type = Some(Name::from_static("application/json"));
            envelope.payload = conversation.state.clone().into();
        }
        let source = match &arrival {
            Some(arrival) => arrival.source.clone(),
            None => Source { queue: self.follow_ups.reply_to().clone(), audience: Audience::Each },
        };
        if self.bury(&source, envelope, error).await {
            tracing::warn!(agent = %self.name, kind = %error.kind(), %error, "moved an answer to the dead letters");
            if let Some(Arrival { delivery, .. }) = arrival {
                delivery.ack();
            }
        } else {
            self.give_back(conversation, is_answer).await;
        }
    }
}

/// A follow-up's handler, with what it is called with.
struct FollowUpCall<'a, A> {
    agent: &'a A,
    endpoint: &'a dyn FollowUpEndpoint<A>,
    state: &'a str,
    /// Taken by the call.
    outcome: Mutex<Option<Result<(), RequestError>>>,
}

impl<A: Agent> Innermost for FollowUpCall<'_, A> {
    fn call<'a>(&'a self, ctx: &'a Context) -> BoxFuture<'a, Result<Reply, HandlerError>> {
        Box::pin(async move {
            let outcome = self.outcome.lock().await.take().unwrap_or(Ok(()));
            self.endpoint.call(self.agent, outcome, self.state, ctx).await?;
            Ok(Reply::default())
        })
    }
}
