//! A bus that does not take what it is given: nothing is lost, and nothing goes unseen.

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use agentbus::{
    Agent, Config, Context, Envelope, HandlerError, Name, PublishOptions, RequestError,
    RequestOptions, Routes, Runtime,
    broker::Destination,
    message::{Code, FailureKind},
    retry::RetryPolicy,
    store::{Conversations, MemoryConversations},
    testing::{Fault, TestBus},
};
use support::{
    eventually,
    messages::{ASK, Answer, Event, HAPPENED, Pending, Question, THEN, question},
};
use tokio::time::sleep;

/// Fails, each event in the way of its number.
struct Failing;

const RETRY: u32 = 1;
const RETRY_AT_ONCE: u32 = 2;
const REJECT: u32 = 3;

impl Agent for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened)
    }
}

impl Failing {
    async fn happened(&self, event: Event, _: &Context) -> Result<(), HandlerError> {
        match event.number {
            RETRY => Err(std::io::Error::other("disk on fire"))?,
            RETRY_AT_ONCE => {
                sleep(Duration::from_secs(1)).await;
                Err(HandlerError::retry_after(Duration::ZERO, "at once"))
            }
            _ => Err(HandlerError::reject("no such thing")),
        }
    }
}

/// Asks on every event, and keeps what came of it, by the event's number.
#[derive(Clone, Default)]
struct Curious {
    asked: Arc<AtomicU32>,
    outcomes: Arc<Mutex<BTreeMap<u32, Vec<String>>>>,
}

impl Agent for Curious {
    fn name(&self) -> &'static str {
        "curious"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened).on_reply(THEN, Self::then)
    }
}

impl Curious {
    async fn happened(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let number = event.number;
        let question = Question { number, ..question("why") };
        let options = RequestOptions::default().timeout(Duration::from_secs(20));
        ctx.request_later_with(THEN, &question, &Pending { number }, options).await?;
        Ok(())
    }

    async fn then(
        &self,
        answer: Result<Answer, RequestError>,
        pending: Pending,
        _: &Context,
    ) -> Result<(), HandlerError> {
        let outcome = match answer {
            Ok(answer) => answer.text,
            Err(RequestError::TimedOut { .. }) => "timed out".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        self.outcomes.lock().unwrap().entry(pending.number).or_default().push(outcome);
        Ok(())
    }
}

struct Oracle;

impl Agent for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(ASK, Self::answer)
    }
}

impl Oracle {
    async fn answer(&self, _: Question, _: &Context) -> Result<Answer, HandlerError> {
        Ok(Answer { text: "because".into() })
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_cannot_be_sent_is_a_dead_letter_with_all_it_had() {
    let bus = TestBus::new();
    let retries = bus.inject(Fault::invalid().retries());
    let agents = bus.start(|runtime| runtime.agent(Failing)).await;
    let options = PublishOptions::default().message_id("first").header("tenant", "acme").unwrap();
    bus.client().publish_with(HAPPENED, &Event { number: RETRY }, options).await.unwrap();
    bus.settled().await;
    assert_eq!(retries.hits(), 1);
    bus.retried("failing").none();
    let letter = bus.dead_lettered(HAPPENED).by("failing").kind(FailureKind::Handler).once();
    let metadata = &letter.envelope().metadata;
    assert_eq!(metadata.message_type.as_deref(), Some("test.v1.Event"));
    assert_eq!(metadata.message_id, Some("first".into()));
    assert_eq!(metadata.headers.text("tenant"), Some("acme"));
    let failure = letter.failure().unwrap();
    // What failed, and why it is not tried again.
    assert!(failure.error.starts_with("disk on fire; "), "{}", failure.error);
    assert!(failure.error.ends_with("a fault that the test injected"), "{}", failure.error);
    assert_eq!(failure.attempts, 1);
    assert_eq!(failure.topic.as_deref(), Some("test.happened"));
    assert_eq!(*letter.message(), Event { number: RETRY });
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_have_been_sent_is_asked_once_and_keeps_its_conversation() {
    let bus = TestBus::new();
    let asks = |number: u32| {
        move |envelope: &Envelope| {
            envelope.decode::<Question>().is_ok_and(|question| question.number == number)
        }
    };
    let taken = bus.inject(Fault::unconfirmed().rpc(ASK).when(asks(1)));
    let lost = bus.inject(Fault::lost().rpc(ASK).when(asks(2)));
    let curious = Curious::default();
    let agents = bus.start(|runtime| runtime.agent(curious.clone()).agent(Oracle)).await;
    for number in [1, 2] {
        bus.client().publish(HAPPENED, &Event { number }).await.unwrap();
    }
    bus.advance(Duration::from_mins(5)).await;
    assert_eq!((taken.hits(), lost.hits()), (1, 1));
    let outcomes = curious.outcomes.lock().unwrap().clone();
    let once = |outcome: &str| vec![outcome.to_owned()];
    assert_eq!(outcomes, [(1, once("because")), (2, once("timed out"))].into());
    assert_eq!(curious.asked.load(Ordering::Relaxed), 2);
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_process_ends_before_it_is_sent_ends_at_its_deadline() {
    let mut config = Config::default();
    config.shutdown_grace = Duration::from_secs(1);
    let bus = TestBus::with_config(config);
    // What is asked first is never sent; with the deadline it was different.
    let stuck = bus.inject(Fault::late_publish(Duration::from_hours(24)).rpc(ASK).once());
    let store = Arc::new(MemoryConversations::default().shared_by_replicas());
    let curious = Curious::default();
    let replica = |client| Runtime::new(client).conversations(store.clone()).agent(curious.clone());
    let ending = replica(bus.connect()).start().await.unwrap();
    bus.client().publish(HAPPENED, &Event { number: 1 }).await.unwrap();
    let asked = async || (stuck.hits() == 1).then_some(());
    eventually("the question", asked).await;
    ending.shutdown().await;

    let agents = replica(bus.client()).agent(Oracle).start().await.unwrap();
    sleep(Duration::from_mins(1)).await;
    // It was given back, and so asked once more.
    let outcomes = curious.outcomes.lock().unwrap()[&1].clone();
    assert_eq!(outcomes, ["because", "timed out"]);
    assert_eq!(store.count().await.unwrap(), 0);
    assert_eq!(bus.client().broker().stats("curious.dlq").await.unwrap().ready, 0);
    agents.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_deadline_cannot_be_set_is_not_sent() {
    for fault in [Fault::invalid(), Fault::unconfirmed()] {
        let bus = TestBus::new();
        let fault = bus.inject(fault.when(|envelope| envelope.metadata.due_at.is_some()));
        let client = bus.client();
        let store = Arc::new(MemoryConversations::default().shared_by_replicas());
        let curious = Curious::default();
        let runtime = Runtime::new(client.clone()).retry(RetryPolicy::none());
        let runtime = runtime.conversations(store.clone()).agent(curious.clone()).agent(Oracle);
        let agents = runtime.start().await.unwrap();
        client.publish(HAPPENED, &Event { number: 1 }).await.unwrap();
        sleep(Duration::from_mins(1)).await;
        assert!(fault.hits() > 0);
        let mut letters = client.broker().consume("curious.dlq", 1).await.unwrap();
        let letter = letters.next().await.unwrap();
        let failure = letter.envelope().metadata.failure.clone().unwrap();
        let reason = "the deadline of a request on `test.ask` could not be set, so it was not sent";
        assert!(failure.error.starts_with(reason), "{}", failure.error);
        assert!(curious.outcomes.lock().unwrap().is_empty());
        assert_eq!(store.count().await.unwrap(), 0);
        assert_eq!(agents.counts("oracle").unwrap().handled, 0);
        agents.stop().await;
    }
}

/// Asks on every event, and rejects what comes of it while told to.
#[derive(Clone, Default)]
struct Choosy {
    rejects: Arc<AtomicBool>,
    rejected: Arc<AtomicU32>,
    taken: Arc<Mutex<Vec<u32>>>,
}

impl Agent for Choosy {
    fn name(&self) -> &'static str {
        "choosy"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened).on_reply(THEN, Self::then)
    }
}

impl Choosy {
    async fn happened(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        let number = event.number;
        let options = RequestOptions::default().timeout(Duration::from_secs(20));
        ctx.request_later_with(THEN, &question("why"), &Pending { number }, options).await?;
        Ok(())
    }

    async fn then(
        &self,
        _: Result<Answer, RequestError>,
        pending: Pending,
        _: &Context,
    ) -> Result<(), HandlerError> {
        if self.rejects.load(Ordering::Relaxed) {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return Err(HandlerError::reject("not today"));
        }
        self.taken.lock().unwrap().push(pending.number);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_state_of_an_answer_whose_dead_letter_was_not_taken_survives_the_stop() {
    for answered in [true, false] {
        let mut config = Config::default();
        config.dead_letters.max_length = 1;
        config.shutdown_grace = Duration::from_secs(1);
        let bus = TestBus::with_config(config);
        let question = bus.inject(Fault::lost().rpc(ASK).when(move |_| !answered));
        let store = Arc::new(MemoryConversations::default().shared_by_replicas());
        let choosy = Choosy::default();
        choosy.rejects.store(true, Ordering::Relaxed);
        let replica = |client| {
            let runtime = Runtime::new(client).conversations(store.clone());
            runtime.agent(choosy.clone()).agent(Oracle)
        };
        let ending = replica(bus.connect()).start().await.unwrap();
        let filler = Envelope::encode(&Event { number: 0 });
        let full = Name::from_static("choosy.dlq");
        bus.client().broker().publish(Destination::Queue(&full), filler).await.unwrap();
        bus.client().publish(HAPPENED, &Event { number: 7 }).await.unwrap();
        let held = async || (ending.counts("choosy").unwrap().held == 1).then_some(());
        eventually("a dead letter that is not taken", held).await;
        assert_eq!(question.hits() == 0, answered);
        ending.shutdown().await;
        assert_eq!(choosy.rejected.load(Ordering::Relaxed), 1);
        assert_eq!(store.count().await.unwrap(), 1, "the state is back in the store");

        choosy.rejects.store(false, Ordering::Relaxed);
        let agents = replica(bus.client()).start().await.unwrap();
        sleep(Duration::from_mins(30)).await;
        assert_eq!(*choosy.taken.lock().unwrap(), [7], "answered: {answered}");
        assert_eq!(store.count().await.unwrap(), 0);
        assert_eq!(bus.client().broker().stats("choosy.dlq").await.unwrap().ready, 1);
        agents.shutdown().await;
    }
}

/// Refuses each question by an error that is the answer.
struct Refusing;

impl Agent for Refusing {
    fn name(&self) -> &'static str {
        "refusing"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(ASK, Self::answer)
    }
}

impl Refusing {
    async fn answer(&self, _: Question, _: &Context) -> Result<Answer, HandlerError> {
        Err(HandlerError::reply(Code::NotFound, "no such thing"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_error_reply_was_not_taken_is_not_done() {
    let bus = TestBus::new();
    let replies = bus.inject(Fault::lost().replies());
    let agents = bus.start(|runtime| runtime.retry(RetryPolicy::none()).agent(Refusing)).await;
    let mut asked = Envelope::encode(&question("why"));
    asked.topic = Some(ASK.name().clone());
    asked.metadata.reply_to = Some("refusing.dlq".into());
    bus.client().publish_envelope(asked).await.unwrap();
    bus.settled().await;
    assert!(replies.hits() > 0);
    bus.replied(ASK).none();
    bus.handled(ASK).none();
    bus.dead_lettered(ASK).once();
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn retries_into_a_full_queue_go_on_when_there_is_room() {
    let mut config = Config::default();
    config.max_queue_length = 10;
    config.prefetch = 4;
    let bus = TestBus::with_config(config);
    let agents = bus.start(|runtime| runtime.retry(RetryPolicy::attempts(2)).agent(Failing)).await;
    for _ in 0..14 {
        bus.client().publish(HAPPENED, &Event { number: RETRY_AT_ONCE }).await.unwrap();
    }
    bus.drained().await;
    bus.retried("failing").times(14);
    bus.dead_lettered("failing").times(14);
    let counts = agents.counts("failing").unwrap();
    assert_eq!((counts.retried, counts.dead_lettered, counts.held), (14, 14, 0));
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_held_by_full_dead_letters_is_not_healthy() {
    let mut config = Config::default();
    config.dead_letters.max_length = 1;
    let bus = TestBus::with_config(config);
    let client = bus.client();
    let agents = bus.start(|runtime| runtime.agent(Failing)).await;
    assert!(agents.health().is_healthy());
    for _ in 0..2 {
        client.publish(HAPPENED, &Event { number: REJECT }).await.unwrap();
    }
    let held = async || agents.counts("failing").unwrap().held;
    eventually("one held", async || (held().await == 1).then_some(())).await;
    let health = agents.health();
    assert!(!health.is_healthy());
    assert!(health.detail.contains("`failing` is paused"), "{}", health.detail);

    assert_eq!(client.broker().purge("failing.dlq").await.unwrap(), 1);
    eventually("none held", async || (held().await == 0).then_some(())).await;
    assert!(agents.health().is_healthy());
    assert_eq!(agents.counts("failing").unwrap().dead_lettered, 2);
    agents.stop().await;
}
