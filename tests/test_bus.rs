//! What users test their agents with tells what happened, and breaks what it is told to break.

mod support;

use std::time::Duration;

use agentbus::{
    Agent, Client, Context, HandlerError, PublishError, PublishOptions, RequestError,
    RequestOptions, Routes, Running,
    broker::Stage,
    message::{Code, ErrorReply, FailureKind},
    retry::RetryPolicy,
    testing::{Fault, TestBus, handle},
};
use support::messages::{ASK, Answer, Event, HAPPENED, Pending, Question, THEN, question};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// Handles events by their numbers, and answers questions by their texts.
struct Worker;

const OK: u32 = 0;
const FAIL_ONCE: u32 = 1;
const FAIL: u32 = 2;
const REJECT: u32 = 3;
const SNOOZE_ONCE: u32 = 4;
const SLOW: u32 = 5;
const ASK_LATER: u32 = 6;

impl Agent for Worker {
    fn name(&self) -> &'static str {
        "worker"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened).on(ASK, Self::answer).on_reply(THEN, Self::then)
    }
}

impl Worker {
    async fn happened(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        match event.number {
            FAIL_ONCE if ctx.attempt() == 1 => Err(HandlerError::Retry("once".into())),
            FAIL => Err(HandlerError::Retry("always".into())),
            REJECT => Err(HandlerError::reject("no such thing")),
            SNOOZE_ONCE if ctx.metadata().due_at.is_none() => {
                Err(HandlerError::Snooze(Duration::from_mins(1)))
            }
            SLOW => {
                sleep(Duration::from_secs(10)).await;
                Ok(())
            }
            ASK_LATER => {
                let pending = Pending { number: 1 };
                ctx.request_later(THEN, &question("later"), &pending).await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn answer(&self, asked: Question, _: &Context) -> Result<Answer, HandlerError> {
        match asked.text.as_str() {
            "nothing" => Err(HandlerError::reply(Code::NotFound, "nothing is there")),
            text => Ok(Answer { text: format!("{text}!") }),
        }
    }

    async fn then(
        &self,
        answer: Result<Answer, RequestError>,
        _: Pending,
        ctx: &Context,
    ) -> Result<(), HandlerError> {
        ctx.publish(HAPPENED, &Event { number: u32::from(answer.is_err()) * 100 }).await?;
        Ok(())
    }
}

async fn worker(bus: &TestBus) -> Running {
    bus.start(|runtime| runtime.agent(Worker)).await
}

async fn publish(client: &Client, number: u32) {
    client.publish(HAPPENED, &Event { number }).await.expect("somebody listens");
}

/// Returns what a check that must fail says.
fn complaint(check: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(check).expect_err("the check fails");
    *panic.downcast::<String>().expect("the complaint is text")
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_a_message_is_told() {
    let bus = TestBus::new();
    let agents = worker(&bus).await;
    for number in [OK, FAIL_ONCE, REJECT, SNOOZE_ONCE] {
        publish(&bus.client(), number).await;
    }
    bus.settled().await;
    let sent: Vec<_> = bus.published(HAPPENED).messages();
    assert_eq!(sent.iter().map(|event| event.number).collect::<Vec<_>>(), [0, 1, 3, 4]);
    bus.published("test").times(4);
    bus.published("worker").none();
    bus.delivered(HAPPENED).times(4);
    bus.handled(HAPPENED).with(|event| event.number == OK).once();
    bus.handled("worker").once();
    let retry = bus.retried(HAPPENED).by("worker").after(SECOND).once();
    assert_eq!((retry.message().number, retry.attempt()), (FAIL_ONCE, 2));
    bus.snoozed(HAPPENED).after(Duration::from_mins(1)).attempt(1).once();
    let letter = bus.dead_lettered("worker").kind(FailureKind::Rejected).once();
    assert_eq!(&*letter.failure().unwrap().error, "no such thing");
    assert_eq!(bus.dead_lettered(HAPPENED).once().message().number, REJECT);

    bus.drained().await;
    bus.handled(HAPPENED).times(3);
    bus.handled(HAPPENED).attempt(2).with(|event| event.number == FAIL_ONCE).once();
    bus.delivered(HAPPENED).times(6);
    bus.expired(HAPPENED).none();
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn replies_are_told_with_the_request_they_answer() {
    let bus = TestBus::new();
    let agents = worker(&bus).await;
    let answer = bus.client().request(ASK, &question("why")).await.unwrap();
    let error = bus.client().request(ASK, &question("nothing")).await.unwrap_err();
    assert_eq!(
        (answer.text.as_str(), error.reply().map(|it| it.code)),
        ("why!", Some(Code::NotFound))
    );
    bus.settled().await;
    let replies = bus.replied(ASK).times(2);
    assert_eq!(replies[0].message().text, "why!");
    bus.replied(ASK).code(Code::NotFound).by("worker").once();
    bus.replied(ASK).with(|answer| answer.text == "why!").once();
    bus.handled(ASK).times(2);
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn time_passes_as_far_as_it_is_told_and_no_further() {
    let bus = TestBus::new();
    let agents = worker(&bus).await;
    let start = Instant::now();
    publish(&bus.client(), FAIL).await;
    bus.settled().await;
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    // At once, after one second, after three, after seven.
    for (seconds, retries) in [(1, 2), (1, 2), (1, 3), (3, 3)] {
        bus.advance(Duration::from_secs(seconds)).await;
        bus.retried(HAPPENED).times(retries);
        bus.dead_lettered(HAPPENED).none();
    }
    bus.advance(SECOND).await;
    bus.dead_lettered(HAPPENED).kind(FailureKind::Handler).once();
    let elapsed = start.elapsed();
    assert!(elapsed.abs_diff(Duration::from_secs(7)) < Duration::from_millis(100), "{elapsed:?}");
    let failures: Vec<_> = bus.retried(HAPPENED).all_seen();
    let gaps: Vec<_> =
        failures.iter().map(|it| it.delay().unwrap().as_secs_f64().round()).collect();
    assert_eq!(gaps, [1.0, 2.0, 4.0]);
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deadlines_delays_and_slow_handlers_follow_the_clock() {
    let bus = TestBus::new();
    let agents = worker(&bus).await;
    let later = PublishOptions::default().deliver_after(Duration::from_hours(1));
    bus.client().publish_with(HAPPENED, &Event { number: OK }, later).await.unwrap();
    bus.advance(Duration::from_mins(59)).await;
    bus.delivered(HAPPENED).none();
    bus.advance(Duration::from_mins(1)).await;
    bus.handled(HAPPENED).once();

    let start = Instant::now();
    publish(&bus.client(), SLOW).await;
    bus.settled().await;
    bus.handled(HAPPENED).times(2);
    assert!(start.elapsed() >= Duration::from_secs(10));

    publish(&bus.client(), ASK_LATER).await;
    bus.drained().await;
    bus.replied(ASK).once();
    bus.published("worker").with(|it| it.topic.as_deref() == Some("test.happened")).once();
    agents.stop().await;

    let options = RequestOptions::default().timeout(SECOND);
    let late = bus.client().request_with(ASK, &question("why"), options).await.unwrap_err();
    assert!(matches!(late, RequestError::TimedOut { .. }), "{late:?}");
    let agents = worker(&bus).await;
    bus.settled().await;
    bus.expired(ASK).once();
    bus.handled(ASK).once(); // The one of `request_later`.
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_fails_says_what_happened() {
    let bus = TestBus::new();
    let agents = worker(&bus).await;
    publish(&bus.client(), FAIL_ONCE).await;
    bus.settled().await;
    let handled = bus.handled(HAPPENED).with(|event| event.number == 7);
    let text = complaint(std::panic::AssertUnwindSafe(|| drop(handled.once())));
    let expected = [
        "expected exactly one of the messages handled on topic `test.happened`, with what line ",
        "found 0 (tests/test_bus.rs:",
        "test    published  test.happened  #1 test.v1.Event {1: 1}",
        "worker  got        test.happened  #1",
        "worker  failed     test.happened  #1, again in ",
        "delayed: 1, the next is due in ",
    ];
    for part in expected {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    bus.drained().await;
    let text = complaint(std::panic::AssertUnwindSafe(|| drop(handled.once())));
    let near_miss = "worker, attempt 2: Event { number: 1 }";
    assert!(text.contains("  not with what line ") && text.contains(near_miss), "{text}");
    let none = bus.handled(HAPPENED);
    let text = complaint(std::panic::AssertUnwindSafe(|| none.none()));
    assert!(text.contains("expected no of") || text.contains("expected none of"), "{text}");
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "`worker` has held `test.happened` for 5s")]
async fn a_bus_that_does_not_settle_says_why() {
    let bus = TestBus::new().with_patience(Duration::from_secs(5));
    let _agents = worker(&bus).await;
    publish(&bus.client(), SLOW).await;
    bus.settled().await;
}

#[tokio::test(start_paused = true)]
async fn publishes_fail_as_they_are_told_to() {
    let bus = TestBus::new();
    let agents = worker(&bus).await;
    let second = bus.inject(Fault::refused().topic(HAPPENED).nth(2));
    let client = bus.client();
    publish(&client, OK).await;
    let refused = client.publish(HAPPENED, &Event { number: OK }).await.unwrap_err();
    assert!(matches!(refused, PublishError::Refused { .. }), "{refused}");
    client.publish_envelope(refused.into_envelope()).await.unwrap();
    assert_eq!(second.hits(), 1);
    second.remove();

    for (fault, arrives) in [(Fault::lost(), 0), (Fault::unconfirmed(), 1)] {
        bus.settled().await;
        let before = bus.handled(HAPPENED).count();
        let fault = bus.inject(fault.topic(HAPPENED).once());
        let doubt = client.publish(HAPPENED, &Event { number: OK }).await.unwrap_err();
        assert!(matches!(doubt, PublishError::Unconfirmed { .. }), "{doubt}");
        bus.settled().await;
        bus.handled(HAPPENED).times(before + arrives);
        assert_eq!(fault.hits(), 1);
    }
    let nobody = bus.inject(Fault::unroutable().rpc(ASK).once());
    let error = client.request(ASK, &question("why")).await.unwrap_err();
    assert!(matches!(error, RequestError::NobodyListens { .. }), "{error:?}");
    assert_eq!(nobody.hits(), 1);
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_holds_on_to_what_the_bus_does_not_take() {
    let bus = TestBus::new();
    let agents = worker(&bus).await;
    let retries = bus.inject(Fault::lost().retries().queue("worker").times(3));
    let letters = bus.inject(Fault::refused().dead_letters().times(2));
    publish(&bus.client(), FAIL_ONCE).await;
    publish(&bus.client(), REJECT).await;
    bus.drained().await;
    assert_eq!((retries.hits(), letters.hits()), (3, 2));
    bus.retried(HAPPENED).once();
    bus.dead_lettered(HAPPENED).once();
    bus.handled(HAPPENED).once();
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deliveries_come_late_and_twice() {
    let bus = TestBus::new();
    let agents = worker(&bus).await;
    let late = bus.inject(Fault::late_delivery(SECOND).topic(HAPPENED).once());
    let twice = bus.inject(Fault::duplicate().topic(HAPPENED).once());
    for number in [10, 11] {
        publish(&bus.client(), number).await;
    }
    bus.settled().await;
    assert_eq!((late.hits(), twice.hits()), (1, 1));
    let handled = bus.handled(HAPPENED).messages();
    assert_eq!(handled.iter().map(|it| it.number).collect::<Vec<_>>(), [11, 11, 10]);
    let again = bus.delivered(HAPPENED).redelivered().once();
    assert_eq!(again.message().number, 11);
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_publish_comes_late() {
    let bus = TestBus::new();
    let agents = worker(&bus).await;
    bus.inject(Fault::late_publish(SECOND).topic(HAPPENED).once());
    let start = Instant::now();
    publish(&bus.client(), OK).await;
    assert!(start.elapsed() >= SECOND);
    bus.settled().await;
    bus.handled(HAPPENED).once();
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_connection_gives_back_what_was_unsettled_and_heals() {
    let bus = TestBus::new();
    let agents = worker(&bus).await;
    publish(&bus.client(), SLOW).await;
    bus.delivered(HAPPENED).wait_for(1).await;
    bus.disconnect_for(Duration::from_secs(5));
    assert_eq!(agents.health().stage, Stage::Dialling);
    let start = Instant::now();
    // Waits for the end of the outage.
    publish(&bus.client(), OK).await;
    assert!(start.elapsed() >= Duration::from_secs(5), "{:?}", start.elapsed());
    bus.settled().await;
    assert!(agents.health().is_healthy(), "{:?}", agents.health());
    // The first handler could not ack what it had done.
    let slow = |bus: &TestBus| bus.handled(HAPPENED).with(|event| event.number == SLOW);
    slow(&bus).once();
    let again = bus.delivered(HAPPENED).redelivered().once();
    assert_eq!((again.message().number, again.attempt()), (SLOW, 1));
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_lasts_is_told_to_publishers_and_requesters() {
    let bus = TestBus::new();
    let agents = worker(&bus).await;
    let asked = tokio::spawn({
        let client = bus.client();
        bus.inject(Fault::late_delivery(SECOND).rpc(ASK).once());
        async move { client.request(ASK, &question("why")).await }
    });
    bus.delivered(ASK).wait_for(1).await;
    bus.disconnect();
    let error = bus.client().publish(HAPPENED, &Event { number: OK }).await.unwrap_err();
    assert!(matches!(error, PublishError::Unconfirmed { .. }), "{error}");
    bus.reconnect();
    bus.settled().await;
    bus.published(HAPPENED).none();
    // The reply went to an address that is no more.
    let error = asked.await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::TimedOut { .. }), "{error:?}");
    // And the next one to one that is there.
    bus.client().request(ASK, &question("why")).await.unwrap();
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_leaves_its_messages_to_others() {
    let bus = TestBus::new();
    let first = worker(&bus).await;
    publish(&bus.client(), SLOW).await;
    bus.delivered(HAPPENED).wait_for(1).await;
    bus.crash(first).await;
    let second = worker(&bus).await;
    bus.settled().await;
    bus.handled(HAPPENED).once();
    bus.retried(HAPPENED).none();
    let again = bus.delivered(HAPPENED).redelivered().once();
    assert_eq!(again.attempt(), 1);
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stand_in_answers_for_an_agent_that_is_not_there() {
    let bus = TestBus::new();
    let stand_in = bus
        .answer(ASK, |asked| match asked.text.as_str() {
            "why" => Ok(Answer { text: "because".into() }),
            _ => Err(ErrorReply::new(Code::NotFound, "no idea")),
        })
        .await;
    assert_eq!(bus.client().request(ASK, &question("why")).await.unwrap().text, "because");
    let error = bus.client().request(ASK, &question("how")).await.unwrap_err();
    assert_eq!(error.reply().map(|it| it.code), Some(Code::NotFound));
    bus.replied(ASK).by("stand-in.test.ask").times(2);
    stand_in.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_called_alone() {
    assert_eq!(handle(&Worker, ASK, &question("why")).await.unwrap().text, "why!");
    handle(&Worker, HAPPENED, &Event { number: OK }).await.unwrap();
    let error = handle(&Worker, HAPPENED, &Event { number: FAIL_ONCE }).await.unwrap_err();
    assert!(matches!(error, HandlerError::Retry(_)), "{error:?}");

    let bus = TestBus::new();
    // Nobody listens to what it asks.
    let error = bus.handle(&Worker, HAPPENED, &Event { number: ASK_LATER }).await.unwrap_err();
    assert!(error.to_string().contains("nobody answers `test.ask`"), "{error}");
    let stand_in = bus.answer(ASK, |_| Ok(Answer::default())).await;
    bus.handle(&Worker, HAPPENED, &Event { number: ASK_LATER }).await.unwrap();
    bus.published(ASK).by("worker").with(|asked| asked.text == "later").once();
    stand_in.stop().await;
}

#[tokio::test]
#[should_panic(expected = "agent `worker` cannot be called: it has no route for `test.relay`")]
async fn a_handler_that_is_not_there_is_named() {
    drop(handle(&Worker, support::messages::RELAY, &question("why")).await);
}

#[tokio::test]
async fn it_works_in_real_time_and_over_any_broker() {
    let Some(config) = support::rabbitmq::config() else { return };
    let broker = agentbus::broker::connect(&config).await.unwrap();
    let bus = TestBus::over(broker, config.clone());
    let agents = bus.runtime().retry(RetryPolicy::attempts(2)).agent(Worker).start().await.unwrap();
    let client = bus.client();
    let duplicate = bus.inject(Fault::duplicate().topic(HAPPENED).once());
    for number in [OK, REJECT, FAIL_ONCE] {
        publish(&client, number).await;
    }
    client.request(ASK, &question("why")).await.unwrap();
    bus.settled().await;
    assert_eq!(duplicate.hits(), 1);
    bus.handled(ASK).by("worker").once();
    bus.replied(ASK).once();
    bus.dead_lettered("worker").once();
    bus.retried(HAPPENED).attempt(2).once();
    bus.handled(HAPPENED).attempt(1).times(2);
    let retried = bus.handled(HAPPENED).attempt(2);
    retried.wait_for(1).await;
    retried.once();

    // Unsettled when the connection was cut, and delivered again by the broker.
    bus.inject(Fault::late_delivery(Duration::from_hours(1)).topic(HAPPENED).once());
    publish(&client, 20).await;
    let held = bus.delivered(HAPPENED).with(|event| event.number == 20);
    held.wait_for(1).await;
    bus.disconnect();
    bus.reconnect();
    bus.handled(HAPPENED).with(|event| event.number == 20).wait_for(1).await;
    held.redelivered().once();
    agents.stop().await;
    client.close().await;
    let queues = bus.queues().iter().map(ToString::to_string).collect();
    support::rabbitmq::sweep(&config, queues);
}

/// Has a policy of its own, with the jitter that policies have.
struct Stubborn;

impl Agent for Stubborn {
    fn name(&self) -> &'static str {
        "stubborn"
    }

    fn retry(&self) -> Option<RetryPolicy> {
        Some(RetryPolicy::attempts(3))
    }

    fn routes(&self) -> Routes<Self> {
        let policy = RetryPolicy::attempts(2);
        Routes::new().on(HAPPENED, Self::happened).on(ASK, Self::answer).retry(policy)
    }
}

impl Stubborn {
    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        Err(HandlerError::Retry("always".into()))
    }

    async fn answer(&self, _: Question, _: &Context) -> Result<Answer, HandlerError> {
        Err(HandlerError::Retry("always".into()))
    }
}

#[tokio::test(start_paused = true)]
async fn policies_of_agents_and_routes_have_no_jitter_here() {
    let bus = TestBus::new();
    let agents = bus.start(|runtime| runtime.agent(Stubborn)).await;
    bus.client().publish(HAPPENED, &Event { number: FAIL }).await.unwrap();
    bus.client().request(ASK, &question("why")).await.unwrap_err();
    bus.drained().await;
    bus.retried(HAPPENED).times(2);
    bus.retried(HAPPENED).after(SECOND).once();
    bus.retried(HAPPENED).after(2 * SECOND).once();
    bus.retried(ASK).after(SECOND).once();
    agents.stop().await;
}
