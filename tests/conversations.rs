//! Follow-ups: each is called once, for the answer, the error or the deadline, with its state.

mod support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use agentbus::{
    Agent, Context, Envelope, FollowUp, HandlerError, RequestError, Routes, Rpc, Runtime,
    broker::Destination,
    message::FailureKind,
    retry::{Backoff, RetryPolicy},
    store::{Conversations, MemoryConversations, Scope},
};
use support::{
    bus::Bus,
    curious::{Curious, Mood, Oracle, Outcomes, Store, dead_letters, expected},
    eventually,
    messages::{Answer, Event, HAPPENED, Letter, Pending, Question},
};

on_each_bus! {
    async fn three_replicas_and_1000_conversations_lose_none(bus: Bus) {
        let outcomes = Outcomes::default();
        let mut replicas = Vec::new();
        for _ in 0..3 {
            let curious = Curious { outcomes: Arc::clone(&outcomes), ..Curious::default() };
            let runtime = Runtime::new(bus.client()).agent(curious).agent(Oracle);
            replicas.push(runtime.start().await.unwrap());
        }
        let client = bus.client();
        let events = futures::stream::iter((0..1000).map(|number| Event { number }));
        let mut published = std::pin::pin!(client.publish_many(HAPPENED, events));
        while let Some(result) = futures::StreamExt::next(&mut published).await {
            result.unwrap();
        }
        eventually("1000 outcomes", async || (outcomes.lock().unwrap().len() == 1000).then_some(())).await;
        for (number, outcome) in &*outcomes.lock().unwrap() {
            assert_eq!(outcome, &[expected(*number)], "question {number}");
        }
        assert_eq!(dead_letters(&bus, "curious").await, 0, "no answer was unknown");
        for replica in replicas {
            replica.stop().await;
        }
    }

    async fn an_answer_is_paired_by_the_metadata_in_its_body(bus: Bus) {
        /// Asks a peer that answers with its metadata in field 1 of the body, and nowhere else.
        struct Asker(Outcomes);
        const OLD: Rpc<Question, Letter> = Rpc::new("test.old").with_metadata_fields(None, Some(1));
        const THEN_OLD: FollowUp<Question, Letter, Pending> = FollowUp::new(OLD, "then-old");
        impl Agent for Asker {
            fn name(&self) -> &'static str {
                "asker"
            }
            fn routes(&self) -> Routes<Self> {
                Routes::new().on(HAPPENED, Self::happened).on_reply(THEN_OLD, Self::then)
            }
        }
        impl Asker {
            async fn happened(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
                let state = Pending { number: event.number };
                ctx.request_later(THEN_OLD, &Question::default(), &state).await?;
                Ok(())
            }
            async fn then(
                &self,
                answer: Result<Letter, RequestError>,
                state: Pending,
                _: &Context,
            ) -> Result<(), HandlerError> {
                let text = answer.map_or_else(|error| error.to_string(), |letter| letter.text);
                self.0.lock().unwrap().entry(state.number).or_default().push(text);
                Ok(())
            }
        }
        let outcomes = Outcomes::default();
        let runtime = Runtime::new(bus.client()).agent(Asker(Arc::clone(&outcomes)));
        let agents = runtime.start().await.unwrap();
        let mut peer = bus.client().subscribe(OLD.topic().clone()).await.unwrap();
        agents.client().publish(HAPPENED, &Event { number: 4 }).await.unwrap();
        let asked = peer.next().await.unwrap();
        let metadata = &asked.envelope().metadata;
        let letter = Letter {
            metadata: Some(agentbus::proto::v1::Metadata {
                correlation_id: metadata.correlation_id.as_ref().unwrap().to_string(),
                ..Default::default()
            }),
            text: "as in the old days".into(),
        };
        let reply_to = metadata.reply_to.clone().unwrap();
        let mut answer = Envelope::encode(&letter);
        answer.metadata.message_id = None;
        bus.broker().publish(Destination::Reply(&reply_to), answer).await.unwrap();
        asked.ack();
        eventually("the outcome", async || (!outcomes.lock().unwrap().is_empty()).then_some(())).await;
        assert_eq!(outcomes.lock().unwrap()[&4], ["as in the old days"]);
        agents.stop().await;
    }

    async fn an_answer_nobody_waits_for_is_a_dead_letter(bus: Bus) {
        let agents = Runtime::new(bus.client()).agent(Curious::default()).start().await.unwrap();
        let mut forged = Envelope::encode(&Answer { text: "surprise".into() });
        forged.metadata.correlation_id = Some("never asked".into());
        let queue = bus.queue("curious");
        bus.broker().publish(Destination::Queue(&queue), forged).await.unwrap();
        eventually("the dead letter", async || (dead_letters(&bus, "curious").await == 1).then_some(())).await;
        let mut letters = bus.broker().consume(&bus.queue("curious.dlq"), 1).await.unwrap();
        let letter = letters.next().await.unwrap();
        assert_eq!(letter.envelope().metadata.failure.as_ref().unwrap().kind, FailureKind::UnknownReply);
        agents.stop().await;
    }

    async fn a_follow_up_that_fails_is_called_again_with_its_state(bus: Bus) {
        let policy = RetryPolicy::default().with_backoff(Backoff::constant(Duration::from_millis(10)));
        let curious = Curious { mood: Mood::FailsFirst, ..Curious::default() };
        let outcomes = Arc::clone(&curious.outcomes);
        let runtime = Runtime::new(bus.client()).retry(policy).agent(curious).agent(Oracle);
        let agents = runtime.start().await.unwrap();
        for number in [1, 997] {
            agents.client().publish(HAPPENED, &Event { number }).await.unwrap();
        }
        eventually("both outcomes", async || (outcomes.lock().unwrap().len() == 2).then_some(())).await;
        for (number, outcome) in &*outcomes.lock().unwrap() {
            assert_eq!(outcome, &[expected(*number)], "question {number}");
        }
        agents.stop().await;
    }

    async fn a_request_that_cannot_be_sent_leaves_nothing_stored(bus: Bus) {
        let curious = Curious::default();
        let outcomes = Arc::clone(&curious.outcomes);
        let runtime = Runtime::new(bus.client()).retry(RetryPolicy::none()).agent(curious);
        let agents = runtime.start().await.unwrap();
        agents.client().publish(HAPPENED, &Event { number: 997 }).await.unwrap();
        eventually("the dead letter", async || (dead_letters(&bus, "curious").await == 1).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(outcomes.lock().unwrap().is_empty(), "no follow-up for a request nobody got");
        agents.stop().await;
    }

    async fn a_store_that_keeps_for_a_short_time_takes_back_what_is_retried(bus: Bus) {
        let curious = Curious { mood: Mood::FailsFirst, ..Curious::default() };
        let store = Arc::new(MemoryConversations::new(10, Duration::from_secs(40)));
        let runtime = Runtime::new(bus.client()).conversations(store).agent(curious.clone()).agent(Oracle);
        let agents = runtime.start().await.unwrap();
        agents.client().publish(HAPPENED, &Event { number: 1 }).await.unwrap();
        eventually("the outcome", async || (curious.outcomes.lock().unwrap().get(&1)? == &[expected(1)]).then_some(())).await;
        assert_eq!(dead_letters(&bus, "curious").await, 0);
        agents.stop().await;
    }

    async fn what_a_stopped_replica_had_begun_another_goes_on_with(bus: Bus) {
        let store = Store::new(Scope::Shared);
        let mut config = bus.config.clone();
        config.shutdown_grace = Duration::from_millis(200);
        let client = agentbus::Client::with_config(Arc::clone(bus.broker()), config);
        let runtime = |agent| Runtime::new(client.clone()).conversations(store.clone()).agent(agent);
        let oracle = Runtime::new(bus.client()).agent(Oracle).start().await.unwrap();

        let stuck = Curious { mood: Mood::Hangs, ..Curious::default() };
        let agents = runtime(stuck.clone()).start().await.unwrap();
        // One with an answer, and one without.
        for number in [1, 997] {
            client.publish(HAPPENED, &Event { number }).await.unwrap();
        }
        eventually("both follow-ups", async || (stuck.begun.load(Ordering::Relaxed) == 2).then_some(())).await;
        agents.stop().await;

        let curious = Curious::default();
        let agents = runtime(curious.clone()).start().await.unwrap();
        eventually("both outcomes", async || (curious.outcomes.lock().unwrap().len() == 2).then_some(())).await;
        for (number, outcome) in &*curious.outcomes.lock().unwrap() {
            assert_eq!(outcome, &[expected(*number)], "question {number}");
        }
        assert_eq!(dead_letters(&bus, "curious").await, 0);
        agents.stop().await;
        oracle.stop().await;
    }

    async fn a_dead_letter_of_a_missed_deadline_holds_the_state(bus: Bus) {
        let curious = Curious { mood: Mood::Rejects, ..Curious::default() };
        let runtime = Runtime::new(bus.client()).agent(curious).agent(Oracle);
        let agents = runtime.start().await.unwrap();
        agents.client().publish(HAPPENED, &Event { number: 997 }).await.unwrap();
        let mut letters = bus.broker().consume(&bus.queue("curious.dlq"), 1).await.unwrap();
        let letter = tokio::time::timeout(Duration::from_secs(10), letters.next()).await;
        let letter = letter.expect("a dead letter").expect("an open queue");
        let envelope = letter.envelope();
        let failure = envelope.metadata.failure.as_ref().unwrap();
        assert_eq!((&failure.kind, &*failure.error), (&FailureKind::Rejected, "never"));
        assert_eq!(envelope.metadata.headers.text("follow-up"), Some("then"));
        assert_eq!(envelope.metadata.content_type.as_deref(), Some("application/json"));
        let state: Pending = serde_json::from_slice(&envelope.payload).unwrap();
        assert_eq!(state, Pending { number: 997 });
        letter.ack();
        agents.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_outage_of_a_moment_loses_no_conversation() {
    let bus = Bus::memory();
    let store = Store::new(Scope::Process);
    for outage in &store.outages {
        outage.store(3, Ordering::Relaxed);
    }
    let curious = Curious { mood: Mood::FailsFirst, ..Curious::default() };
    let runtime = Runtime::new(bus.client()).conversations(store.clone()).agent(Oracle);
    let agents = runtime.agent(curious.clone()).start().await.unwrap();
    for number in [1, 997] {
        agents.client().publish(HAPPENED, &Event { number }).await.unwrap();
    }
    tokio::time::sleep(Duration::from_mins(2)).await;
    let outcomes = curious.outcomes.lock().unwrap().clone();
    assert_eq!(outcomes, [1, 997].map(|number| (number, vec![expected(number)])).into());
    assert_eq!(dead_letters(&bus, "curious").await, 0);
    assert_eq!(store.count().await.unwrap(), 0);
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_missed_deadlines_no_more_than_the_prefetch_are_handled_at_once() {
    let mut bus = Bus::memory();
    bus.config.prefetch = 4;
    let store = Store::new(Scope::Process);
    let stuck = Curious { mood: Mood::Hangs, ..Curious::default() };
    let runtime = Runtime::new(bus.client()).conversations(store.clone()).agent(Oracle);
    let agents = runtime.agent(stuck.clone()).start().await.unwrap();
    for thousand in 0..20 {
        let event = Event { number: thousand * 1000 + 997 };
        agents.client().publish(HAPPENED, &event).await.unwrap();
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(stuck.begun.load(Ordering::Relaxed), 4);
    agents.stop().await;
    assert_eq!(store.count().await.unwrap(), 20, "those begun are put back");
}
