//! Agents answer, fail, and go on.

mod support;

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use agentbus::{
    Agent, Context, Envelope, HandlerError, PublishOptions, RequestError, RequestOptions, Routes,
    Runtime,
    message::{Code, FailureKind, Timestamp},
    retry::RetryPolicy,
    testing::TestBus,
};
use support::{
    eventually,
    messages::{ASK, Answer, Event, HAPPENED, Question, RELAY, question},
};

/// Answers questions, each in another way.
#[derive(Default)]
struct Oracle {
    calls: Arc<AtomicU32>,
}

impl Agent for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(ASK, Self::answer).on(HAPPENED, Self::happened)
    }
}

impl Oracle {
    async fn answer(&self, asked: Question, ctx: &Context) -> Result<Answer, HandlerError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match asked.text.as_str() {
            "panic" => panic!("off by one"),
            "fail" => Err(std::io::Error::other("disk on fire"))?,
            "reject" => Err(HandlerError::reject("no such thing")),
            "not found" => Err(HandlerError::reply(Code::NotFound, "no prices for `XMR`")),
            "unshowable" => Err(HandlerError::reject(Unshowable)),
            "hang" => std::future::pending().await,
            "flaky" if ctx.attempt() == 1 => Err(std::io::Error::other("try again"))?,
            "snooze" if self.calls.load(Ordering::Relaxed) == 1 => {
                Err(HandlerError::Snooze(Duration::from_millis(10)))
            }
            text => Ok(Answer { text: format!("{text}, attempt {}", ctx.attempt()) }),
        }
    }

    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Panics when it is shown.
#[derive(Debug)]
struct Unshowable;

impl fmt::Display for Unshowable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no words")
    }
}

impl std::error::Error for Unshowable {}

/// Asks to be called again without a delay.
struct Impatient {
    snoozes: bool,
}

impl Agent for Impatient {
    fn name(&self) -> &'static str {
        "impatient"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened)
    }
}

impl Impatient {
    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        if self.snoozes {
            return Err(HandlerError::Snooze(Duration::ZERO));
        }
        Err(HandlerError::retry_after(Duration::ZERO, "at once"))
    }
}

/// Asks the oracle.
struct Go;

impl Agent for Go {
    fn name(&self) -> &'static str {
        "go-between"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(RELAY, Self::relay)
    }
}

impl Go {
    async fn relay(&self, asked: Question, ctx: &Context) -> Result<Answer, HandlerError> {
        Ok(ctx.request(ASK, &asked).await?)
    }
}

fn once() -> RetryPolicy {
    RetryPolicy::none()
}

/// Takes the one dead letter of a queue.
async fn dead_letter(bus: &support::bus::Bus, agent: &str) -> Envelope {
    let queue = bus.queue(&format!("{agent}.dlq"));
    let mut letters = bus.broker().consume(&queue, 10).await.unwrap();
    let letter = tokio::time::timeout(Duration::from_secs(10), letters.next()).await;
    let letter = letter.expect("a dead letter").expect("an open queue");
    let envelope = letter.envelope().clone();
    letter.ack();
    envelope
}

on_each_bus! {
    async fn an_agent_asks_another_and_answers(bus: Bus) {
        let runtime = Runtime::new(bus.client()).agent(Oracle::default()).agent(Go);
        let agents = runtime.start().await.unwrap();
        let answer = agents.client().request(RELAY, &question("why")).await.unwrap();
        assert_eq!(answer.text, "why, attempt 1");
        agents.stop().await;
    }

    async fn nobody_to_answer_is_an_immediate_error(bus: Bus) {
        let error = bus.client().request(ASK, &question("why")).await.unwrap_err();
        assert!(matches!(error, RequestError::NobodyListens { .. }), "{error:?}");
    }

    async fn a_failing_handler_answers_with_an_error_and_keeps_the_message(bus: Bus) {
        let agents = Runtime::new(bus.client()).retry(once()).agent(Oracle::default());
        let agents = agents.start().await.unwrap();
        let cases = [
            ("fail", Code::Unavailable, FailureKind::Handler, "disk on fire"),
            ("reject", Code::FailedPrecondition, FailureKind::Rejected, "no such thing"),
            ("panic", Code::Internal, FailureKind::Panic, "the handler panicked: off by one"),
            ("unshowable", Code::Internal, FailureKind::Panic, "the handler panicked: no words"),
        ];
        for (text, code, kind, reason) in cases {
            let error = agents.client().request(ASK, &question(text)).await.unwrap_err();
            assert_eq!(error.reply().map(|reply| reply.code), Some(code), "{text}: {error:?}");
            let letter = dead_letter(&bus, "oracle").await;
            let failure = letter.metadata.failure.clone().unwrap();
            assert_eq!((failure.kind, &*failure.error), (kind, reason));
            assert_eq!(failure.topic.as_deref(), Some("test.ask"));
            assert_eq!(letter.topic.as_deref(), Some("test.ask"));
            assert_eq!(letter.decode::<Question>().unwrap(), question(text));
        }
        let answer = agents.client().request(ASK, &question("still there")).await.unwrap();
        assert_eq!(answer.text, "still there, attempt 1");
        agents.stop().await;
    }

    async fn an_error_that_is_the_answer_leaves_no_dead_letter(bus: Bus) {
        let agents = Runtime::new(bus.client()).agent(Oracle::default()).start().await.unwrap();
        let error = agents.client().request(ASK, &question("not found")).await.unwrap_err();
        assert_eq!(error.reply().map(|reply| reply.code), Some(Code::NotFound));
        // The count follows the reply.
        let handled = async || (agents.counts("oracle").unwrap().handled == 1).then_some(());
        eventually("the request to count as handled", handled).await;
        assert_eq!(agents.counts("oracle").unwrap().dead_lettered, 0);
        agents.stop().await;
    }

    async fn a_retry_counts_and_the_requester_waits_for_it(bus: Bus) {
        let policy = RetryPolicy::default().with_backoff(agentbus::retry::Backoff::constant(Duration::from_millis(10)));
        let agents = Runtime::new(bus.client()).retry(policy).agent(Oracle::default());
        let agents = agents.start().await.unwrap();
        let answer = agents.client().request(ASK, &question("flaky")).await.unwrap();
        assert_eq!(answer.text, "flaky, attempt 2");
        agents.stop().await;
    }

    async fn a_snooze_does_not_count(bus: Bus) {
        let agents = Runtime::new(bus.client()).agent(Oracle::default()).start().await.unwrap();
        let answer = agents.client().request(ASK, &question("snooze")).await.unwrap();
        assert_eq!(answer.text, "snooze, attempt 1");
        agents.stop().await;
    }

    async fn a_request_ends_at_its_deadline(bus: Bus) {
        let agents = Runtime::new(bus.client()).retry(once()).agent(Oracle::default());
        let agents = agents.start().await.unwrap();
        let options = RequestOptions::default().timeout(Duration::from_millis(100));
        let asked = question("hang");
        let error = agents.client().request_with(ASK, &asked, options).await.unwrap_err();
        assert!(matches!(&error, RequestError::TimedOut { .. }), "{error:?}");
        // The handler ends with the deadline that the request travelled with.
        let letter = dead_letter(&bus, "oracle").await;
        assert_eq!(letter.metadata.failure.unwrap().kind, FailureKind::Timeout);
        agents.stop().await;
    }

    async fn a_message_of_the_wrong_type_is_a_dead_letter_at_once(bus: Bus) {
        let oracle = Oracle::default();
        let calls = Arc::clone(&oracle.calls);
        let agents = Runtime::new(bus.client()).agent(oracle).start().await.unwrap();
        let mut wrong = Envelope::encode(&Answer { text: "not a question".into() });
        wrong.topic = Some("test.ask".into());
        agents.client().publish_envelope(wrong).await.unwrap();
        let failure = dead_letter(&bus, "oracle").await.metadata.failure.unwrap();
        assert_eq!(failure.kind, FailureKind::WrongType);
        assert_eq!(&*failure.error, "expected a `test.v1.Question`, got a `test.v1.Answer`");
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        agents.stop().await;
    }

    async fn a_message_after_its_deadline_is_dropped_and_counted(bus: Bus) {
        let agents = Runtime::new(bus.client()).agent(Oracle::default()).start().await.unwrap();
        let mut late = Envelope::encode(&question("too late"));
        late.topic = Some("test.ask".into());
        late.metadata.deadline = Some(Timestamp::from_millis(Timestamp::now().as_millis() - 1000));
        agents.client().publish_envelope(late).await.unwrap();
        eventually("the count", async || (agents.counts("oracle")?.expired == 1).then_some(())).await;
        agents.stop().await;
    }

    async fn headers_ids_and_conversations_travel(bus: Bus) {
        let agents = Runtime::new(bus.client()).retry(once()).agent(Oracle::default());
        let agents = agents.start().await.unwrap();
        let options = PublishOptions::default().header("tenant", "acme").unwrap();
        let options = options.conversation_id("talk").message_id("first");
        agents.client().named("tester").publish_with(ASK.topic().clone(), &question("reject"), options).await.unwrap();
        let letter = dead_letter(&bus, "oracle").await;
        assert_eq!(letter.metadata.headers.text("tenant"), Some("acme"));
        assert_eq!(letter.metadata.conversation_id, Some("talk".into()));
        assert_eq!(letter.metadata.message_id, Some("first".into()));
        assert_eq!(letter.metadata.sender.as_deref(), Some("tester"));
        agents.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_never_tried_again_at_once() {
    // Due times are whole milliseconds, so one may be lost.
    let shortest = Duration::from_millis(249);
    for snoozes in [true, false] {
        let bus = TestBus::new();
        let policy = RetryPolicy::attempts(10);
        let agents = bus.start(|runtime| runtime.retry(policy).agent(Impatient { snoozes })).await;
        bus.client().publish(HAPPENED, &Event { number: 1 }).await.unwrap();
        let calls = bus.delivered("impatient").wait_for(10).await;
        for pair in calls.windows(2) {
            let gap = pair[1].at().abs_diff(pair[0].at());
            assert!(gap >= shortest, "called again after {gap:?}, snoozing: {snoozes}");
        }
        agents.stop().await;
    }
}

/// Blocks the thread of its handler until as many handlers run as there are messages.
struct Blocking {
    running: Arc<(Mutex<usize>, Condvar)>,
    together: usize,
    held_up: Arc<AtomicBool>,
}

impl Agent for Blocking {
    fn name(&self) -> &'static str {
        "blocking"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened)
    }
}

impl Blocking {
    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        let (running, changed) = &*self.running;
        let mut running = running.lock().unwrap();
        *running += 1;
        changed.notify_all();
        let limit = Duration::from_secs(10);
        let (running, late) =
            changed.wait_timeout_while(running, limit, |running| *running < self.together).unwrap();
        drop(running);
        if late.timed_out() {
            self.held_up.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_blocks_its_thread_holds_up_no_other() {
    for round in 0..20 {
        let held_up = Arc::default();
        let agent =
            Blocking { running: Arc::default(), together: 3, held_up: Arc::clone(&held_up) };
        let bus = support::bus::Bus::memory();
        let agents = Runtime::new(bus.client()).agent(agent).start().await.unwrap();
        let client = agents.client().clone();
        // From outside and from within the runtime's threads.
        let publish = async move {
            for number in 0..3 {
                client.publish(HAPPENED, &Event { number }).await.unwrap();
            }
        };
        if round % 2 == 0 {
            publish.await;
        } else {
            tokio::spawn(publish).await.unwrap();
        }
        eventually("all are handled", async || {
            (agents.counts("blocking")?.handled == 3).then_some(())
        })
        .await;
        assert!(!held_up.load(Ordering::Relaxed), "one waits for another in round {round}");
        agents.stop().await;
    }
}
