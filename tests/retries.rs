//! A message that fails is tried again as the nearest policy says, and as it says itself.

mod support;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use agentbus::{
    Agent, Client, Context, Envelope, HandlerError, Name, Pattern, PublishOptions, RequestError,
    RequestOptions, Routes, Running, Runtime, Topic,
    message::{Code, FailureKind, Id},
    retry::{Backoff, RetryPolicy},
};
use support::{
    bus::Bus,
    eventually,
    messages::{ASK, Answer, Event, HAPPENED, Pending, Question, THEN, question},
};
use tokio::{sync::watch, time::Instant};

const ONE_HOP: Topic<Event> = Topic::new("test.one-hop");
const TWO_HOPS: Topic<Event> = Topic::new("test.two-hops");
const NEWER: Topic<Event> = Topic::new("test.newer");
const BULK: Topic<Event> = Topic::new("test.bulk");

/// A unit of delay: one queue to wait in.
const UNIT: Duration = Duration::from_millis(250);

/// Waits that no test waits for.
const HOURS: Duration = Duration::from_hours(2);

/// Longer than any bus keeps a message.
const YEARS: Duration = Duration::from_hours(3 * 366 * 24);

/// Fails at everything, and notes each call.
#[derive(Clone)]
struct Clumsy {
    name: &'static str,
    instance: usize,
    table: fn() -> Routes<Self>,
    policy: Option<RetryPolicy>,
    calls: Arc<Mutex<Vec<Call>>>,
    /// Which instances were called; some handlers wait for all of them.
    met: watch::Sender<[bool; 2]>,
}

#[derive(Clone, Debug)]
struct Call {
    instance: usize,
    topic: Option<Name>,
    number: u32,
    id: Option<Id>,
    attempt: u32,
    at: Instant,
}

#[derive(Debug, thiserror::Error)]
#[error("a broken leg")]
struct Fatal;

impl Agent for Clumsy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn routes(&self) -> Routes<Self> {
        (self.table)()
    }

    fn retry(&self) -> Option<RetryPolicy> {
        self.policy.clone()
    }
}

impl Clumsy {
    fn new(table: fn() -> Routes<Self>) -> Self {
        Self {
            name: "clumsy",
            instance: 0,
            table,
            policy: None,
            calls: Arc::default(),
            met: watch::Sender::default(),
        }
    }

    fn note(&self, number: u32, ctx: &Context) {
        self.calls.lock().unwrap().push(Call {
            instance: self.instance,
            topic: ctx.topic().cloned(),
            number,
            id: ctx.message_id().cloned(),
            attempt: ctx.attempt(),
            at: Instant::now(),
        });
    }

    fn calls(&self, which: impl Fn(&Call) -> bool) -> Vec<Call> {
        self.calls.lock().unwrap().iter().filter(|call| which(call)).cloned().collect()
    }

    async fn fail(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        self.note(event.number, ctx);
        match event.number {
            1 => Err(Fatal)?,
            2 => panic!("off by one"),
            40 => Err(HandlerError::Snooze(YEARS)),
            41 => Err(HandlerError::retry_after(YEARS, "disk on fire")),
            3 => Err(HandlerError::retry_after(UNIT, Fatal)),
            _ => Err(io::Error::other("disk on fire"))?,
        }
    }

    async fn fail_bulk(&self, events: Vec<Event>, ctx: &Context) -> Result<(), HandlerError> {
        let event = events.into_iter().next().unwrap();
        self.fail(event, ctx).await
    }

    async fn fail_once_all_met(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        self.all_met().await;
        self.fail(event, ctx).await
    }

    async fn all_met(&self) {
        self.met.send_modify(|met| met[self.instance] = true);
        self.met.subscribe().wait_for(|met| *met == [true; 2]).await.unwrap();
    }

    async fn handle_once_all_met(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        self.all_met().await;
        self.note(event.number, ctx);
        Ok(())
    }

    async fn answer(&self, asked: Question, ctx: &Context) -> Result<Answer, HandlerError> {
        self.note(0, ctx);
        match asked.text.as_str() {
            "retry" => Err(io::Error::other("disk on fire"))?,
            "retry after" => Err(HandlerError::retry_after(HOURS, "disk on fire")),
            "snooze" => Err(HandlerError::Snooze(HOURS)),
            "huge" => Ok(Answer { text: "x".repeat((16 << 20) + 1) }),
            text => Ok(Answer { text: text.to_owned() }),
        }
    }

    async fn ask(&self, _: Event, ctx: &Context) -> Result<(), HandlerError> {
        ctx.request_later(THEN, &question("why"), &Pending { number: 0 }).await?;
        Ok(())
    }

    async fn then(
        &self,
        _: Result<Answer, RequestError>,
        _: Pending,
        ctx: &Context,
    ) -> Result<(), HandlerError> {
        self.note(0, ctx);
        Err(io::Error::other("disk on fire"))?
    }
}

/// A policy of so many attempts, with the same delay between all of them.
fn every(delay: Duration, attempts: u32) -> RetryPolicy {
    RetryPolicy::attempts(attempts).with_backoff(Backoff::constant(delay))
}

/// A client that takes two messages at a time, no more.
fn taking_two(bus: &Bus) -> Client {
    Client::with_config(Arc::clone(bus.broker()), bus.config.clone().with_prefetch(2))
}

async fn start(client: Client, agent: &Clumsy) -> Running {
    Runtime::new(client).agent(agent.clone()).start().await.unwrap()
}

async fn publish(agents: &Running, topic: &Topic<Event>, number: u32) {
    agents.client().publish(topic.clone(), &Event { number }).await.unwrap();
}

/// Takes dead letters, sorted by number and topic.
async fn dead_letters(bus: &Bus, agent: &str, count: usize) -> Vec<Envelope> {
    let queue = bus.queue(&format!("{agent}.dlq"));
    let mut letters = bus.broker().consume(&queue, 100).await.unwrap();
    let mut taken = Vec::new();
    while taken.len() < count {
        let letter = tokio::time::timeout(Duration::from_mins(1), letters.next()).await;
        let letter = letter.expect("a dead letter").expect("an open queue");
        taken.push(letter.envelope().clone());
        letter.ack();
    }
    taken.sort_by_key(|letter| (letter.payload.clone(), letter.topic.clone()));
    taken
}

fn failure(letter: &Envelope) -> (FailureKind, u32) {
    let failure = letter.metadata.failure.as_ref().expect("a failure");
    (failure.kind.clone(), failure.attempts)
}

on_each_bus! {
    async fn a_message_is_retried_three_times_over_one_hop_and_over_two(bus: Bus) {
        let agent = Clumsy::new(|| {
            Routes::new()
                .on(ONE_HOP, Clumsy::fail)
                .retry(every(UNIT, 4))
                .on(TWO_HOPS, Clumsy::fail)
                .retry(every(UNIT * 3, 4))
        });
        let agents = start(bus.client(), &agent).await;
        // The first delivery comes over two hops as well; marks of them must not add up.
        for topic in [ONE_HOP, TWO_HOPS] {
            let options = PublishOptions::default().deliver_after(UNIT * 3);
            agents.client().publish_with(topic, &Event { number: 0 }, options).await.unwrap();
        }
        for letter in dead_letters(&bus, "clumsy", 2).await {
            assert_eq!(failure(&letter), (FailureKind::Handler, 4));
        }
        for (topic, delay) in [(ONE_HOP, UNIT), (TWO_HOPS, UNIT * 3)] {
            let calls = agent.calls(|call| call.topic.as_ref() == Some(topic.name()));
            let attempts: Vec<_> = calls.iter().map(|call| call.attempt).collect();
            assert_eq!(attempts, [1, 2, 3, 4], "{topic:?}");
            for pair in calls.windows(2) {
                assert_eq!(pair[0].id, pair[1].id);
                // Due times are whole milliseconds, so one may be lost.
                let gap = pair[1].at - pair[0].at;
                assert!(gap + Duration::from_millis(1) >= delay, "early: {gap:?} of {delay:?}");
            }
        }
        let counts = eventually("the counts", async || {
            agents.counts("clumsy").filter(|counts| counts.dead_lettered == 2)
        }).await;
        assert_eq!(counts.retried, 6);
        agents.stop().await;
    }

    async fn who_listens_to_everything_does_not_get_the_retries_of_others(bus: Bus) {
        let agent = Clumsy::new(|| Routes::new().on(HAPPENED, Clumsy::fail));
        let agent = Clumsy { policy: Some(every(UNIT * 3, 3)), ..agent };
        let mut everything = bus.client().subscribe(Pattern::parse("#").unwrap()).await.unwrap();
        let agents = start(bus.client(), &agent).await;
        publish(&agents, &HAPPENED, 0).await;
        assert_eq!(failure(&dead_letters(&bus, "clumsy", 1).await[0]), (FailureKind::Handler, 3));
        publish(&agents, &NEWER, 0).await;
        for topic in [HAPPENED, NEWER] {
            let seen = everything.next().await.unwrap();
            assert_eq!(seen.envelope().topic.as_ref(), Some(topic.name()));
            seen.ack();
        }
        agents.stop().await;
    }

    async fn attempts_are_equal_across_two_instances(bus: Bus) {
        let one = Clumsy::new(|| Routes::new().on(HAPPENED, Clumsy::fail_once_all_met));
        let one = Clumsy { policy: Some(every(UNIT, 4)), ..one };
        let two = Clumsy { instance: 1, ..one.clone() };
        let replicas = [start(taking_two(&bus), &one).await, start(taking_two(&bus), &two).await];
        for number in 10..20 {
            publish(&replicas[0], &HAPPENED, number).await;
        }
        for letter in dead_letters(&bus, "clumsy", 10).await {
            assert_eq!(failure(&letter), (FailureKind::Handler, 4));
        }
        for number in 10..20 {
            let calls = one.calls(|call| call.number == number);
            let attempts: Vec<_> = calls.iter().map(|call| call.attempt).collect();
            assert_eq!(attempts, [1, 2, 3, 4], "{calls:?}");
        }
        for instance in [0, 1] {
            assert!(!one.calls(|call| call.instance == instance).is_empty(), "{instance}");
        }
        for replica in replicas {
            replica.stop().await;
        }
    }

    async fn a_topic_that_only_the_newer_replica_knows_reaches_it(bus: Bus) {
        let old = Clumsy::new(|| Routes::new().on(HAPPENED, Clumsy::fail));
        let old = Clumsy { policy: Some(every(UNIT, 1000)), ..old };
        let new = Clumsy {
            instance: 1,
            table: || Routes::new().on(HAPPENED, Clumsy::fail).on(NEWER, Clumsy::handle_once_all_met),
            ..old.clone()
        };
        let old_replica = start(taking_two(&bus), &old).await;
        let new_replica = start(taking_two(&bus), &new).await;
        for number in 0..10 {
            publish(&new_replica, &NEWER, number).await;
        }
        // The new one holds on to the two that it has until the old one had some of the others.
        eventually("a retry by the old replica", async || {
            (old_replica.counts("clumsy")?.retried > 0).then_some(())
        }).await;
        old.met.send_modify(|met| met[0] = true);
        eventually("all of them", async || (new_replica.counts("clumsy")?.handled == 10).then_some(())).await;
        let mut calls = new.calls(|call| call.instance == 1);
        calls.sort_by_key(|call| call.number);
        assert_eq!(calls.iter().map(|call| call.number).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert!(calls.iter().any(|call| call.attempt > 1));
        assert_eq!(bus.broker().stats(&bus.queue("clumsy.dlq")).await.unwrap().ready, 0);
        old_replica.stop().await;
        new_replica.stop().await;
    }

    async fn a_topic_that_no_replica_knows_becomes_a_dead_letter_in_the_end(bus: Bus) {
        let new = Clumsy::new(|| Routes::new().on(NEWER, Clumsy::fail));
        let old = Clumsy {
            table: || Routes::new().on(HAPPENED, Clumsy::fail),
            policy: Some(every(UNIT, 2)),
            ..new.clone()
        };
        // The queue stays bound to the topic after the newer replica was rolled back.
        start(bus.client(), &new).await.stop().await;
        let agents = start(bus.client(), &old).await;
        publish(&agents, &NEWER, 0).await;
        assert_eq!(failure(&dead_letters(&bus, "clumsy", 1).await[0]), (FailureKind::NoRoute, 2));
        agents.stop().await;
    }

    async fn the_policy_nearest_to_the_handler_counts(bus: Bus) {
        let agent = Clumsy::new(|| {
            Routes::new().on(ONE_HOP, Clumsy::fail).retry(RetryPolicy::none()).on(TWO_HOPS, Clumsy::fail)
        });
        let agent = Clumsy { policy: Some(every(UNIT, 2)), ..agent };
        let other = Clumsy { name: "other", ..Clumsy::new(|| Routes::new().on(HAPPENED, Clumsy::fail)) };
        let runtime = Runtime::new(bus.client()).retry(every(UNIT, 3)).agent(agent).agent(other);
        let agents = runtime.start().await.unwrap();
        for topic in [&ONE_HOP, &TWO_HOPS, &HAPPENED] {
            publish(&agents, topic, 0).await;
        }
        let own = dead_letters(&bus, "clumsy", 2).await;
        assert_eq!(failure(&own[0]), (FailureKind::Handler, 1), "the route's");
        assert_eq!(failure(&own[1]), (FailureKind::Handler, 2), "the agent's");
        let others = dead_letters(&bus, "other", 1).await;
        assert_eq!(failure(&others[0]), (FailureKind::Handler, 3), "the runtime's");
        agents.stop().await;
    }

    async fn a_policy_says_which_errors_are_retried(bus: Bus) {
        let agent = Clumsy::new(|| {
            Routes::new().on(HAPPENED, Clumsy::fail).on_batch(BULK, 1, UNIT, Clumsy::fail_bulk)
        });
        let policy = every(UNIT, 2).only_if(<dyn std::error::Error>::is::<io::Error>);
        let agent = Clumsy { policy: Some(policy), ..agent };
        let agents = start(bus.client(), &agent).await;
        for topic in [HAPPENED, BULK] {
            for number in 0..4 {
                publish(&agents, &topic, number).await;
            }
        }
        let letters = dead_letters(&bus, "clumsy", 8).await;
        let expected = [
            (FailureKind::Handler, 2),
            (FailureKind::Handler, 1),
            // A panic is no error of the handler's making.
            (FailureKind::Panic, 2),
            (FailureKind::Handler, 1),
        ];
        for letter in letters {
            let number = letter.decode::<Event>().unwrap().number;
            assert_eq!(failure(&letter), expected[number as usize], "{letter:?}");
        }
        agents.stop().await;
    }

    async fn a_follow_up_has_a_policy_of_its_own(bus: Bus) {
        let agent = Clumsy::new(|| {
            Routes::new()
                .on(HAPPENED, Clumsy::ask)
                .on(ASK, Clumsy::answer)
                .on_reply(THEN, Clumsy::then)
                .retry(every(UNIT, 2))
        });
        let agent = Clumsy { policy: Some(RetryPolicy::none()), ..agent };
        let agents = start(bus.client(), &agent).await;
        publish(&agents, &HAPPENED, 0).await;
        assert_eq!(failure(&dead_letters(&bus, "clumsy", 1).await[0]), (FailureKind::Handler, 2));
        let calls = agent.calls(|call| call.topic.is_none());
        assert_eq!(calls.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1, 2]);
        agents.stop().await;
    }

    async fn a_message_may_allow_more_attempts_or_fewer(bus: Bus) {
        let agent = Clumsy::new(|| Routes::new().on(HAPPENED, Clumsy::fail));
        let agent = Clumsy { policy: Some(every(UNIT, 2)), ..agent };
        let agents = start(bus.client(), &agent).await;
        for (number, attempts) in [(11, 1), (12, 2), (13, 3)] {
            let options = PublishOptions::default().attempts(attempts);
            agents.client().publish_with(HAPPENED, &Event { number }, options).await.unwrap();
        }
        publish(&agents, &HAPPENED, 14).await;
        let letters = dead_letters(&bus, "clumsy", 4).await;
        let attempts: Vec<_> = letters.iter().map(|letter| failure(letter).1).collect();
        assert_eq!(attempts, [1, 2, 3, 2]);
        agents.stop().await;
    }

    async fn a_retry_after_the_deadline_is_not_scheduled_and_the_requester_told_at_once(bus: Bus) {
        let agent = Clumsy::new(|| Routes::new().on(ASK, Clumsy::answer));
        let agent = Clumsy { policy: Some(every(HOURS, 4)), ..agent };
        let agents = start(bus.client(), &agent).await;
        let ask = async |text| {
            let options = RequestOptions::default().timeout(Duration::from_mins(5));
            let asked = question(text);
            let asked = agents.client().request_with(ASK, &asked, options);
            // Long before the deadline, that is.
            let error = tokio::time::timeout(Duration::from_mins(1), asked).await.unwrap().unwrap_err();
            let reply = error.reply().expect("an error in place of the reply").clone();
            assert!(reply.is_retryable, "{text}: {reply:?}");
            reply.code
        };
        for text in ["retry", "retry after"] {
            assert_eq!(ask(text).await, Code::Unavailable, "{text}");
            assert_eq!(failure(&dead_letters(&bus, "clumsy", 1).await[0]), (FailureKind::Handler, 1));
        }
        // Nothing failed here, so there is no dead letter.
        assert_eq!(ask("snooze").await, Code::Unavailable);
        let counts = eventually("the counts", async || {
            agents.counts("clumsy").filter(|counts| (counts.expired, counts.dead_lettered) == (1, 2))
        }).await;
        assert_eq!((counts.retried, counts.snoozed), (0, 0));
        assert_eq!(agent.calls(|_| true).len(), 3);
        agents.stop().await;
    }

    async fn a_delay_that_nothing_is_kept_for_is_a_dead_letter_that_says_so(bus: Bus) {
        let agent = Clumsy::new(|| Routes::new().on(HAPPENED, Clumsy::fail));
        let agents = start(bus.client(), &agent).await;
        for (number, kind) in [(40, FailureKind::Rejected), (41, FailureKind::Handler)] {
            agents.client().publish(HAPPENED, &Event { number }).await.unwrap();
            let letter = dead_letters(&bus, "clumsy", 1).await.remove(0);
            assert_eq!(failure(&letter), (kind, 1));
            let text = letter.metadata.failure.unwrap().error;
            assert!(text.contains("more than two years"), "{text}");
        }
        agents.stop().await;
    }

    async fn a_reply_over_the_limit_is_a_dead_letter_that_says_so(bus: Bus) {
        let agent = Clumsy::new(|| Routes::new().on(ASK, Clumsy::answer));
        let agents = start(bus.client(), &agent).await;
        let error = agents.client().request(ASK, &question("huge")).await.unwrap_err();
        assert_eq!(error.reply().map(|reply| reply.code), Some(Code::OutOfRange), "{error:?}");
        let letter = dead_letters(&bus, "clumsy", 1).await.remove(0);
        assert_eq!(failure(&letter), (FailureKind::TooLarge, 1));
        let text = letter.metadata.failure.unwrap().error;
        assert!(text.starts_with("the reply has 16777") && text.contains("max_message_bytes"), "{text}");
        agents.stop().await;
    }

    async fn what_cannot_be_read_is_never_tried_again(bus: Bus) {
        let agent = Clumsy::new(|| Routes::new().on(ASK, Clumsy::answer));
        let agents = start(bus.client(), &agent).await;
        let mut wrong = [(); 3].map(|()| Envelope::encode(&question("retry")));
        wrong[0].payload = vec![0xff; 20].into();
        wrong[1].metadata.message_type = Some("test.v1.Answer".into());
        wrong[2].metadata.content_type = Some("application/json".into());
        let kinds = [FailureKind::Decode, FailureKind::WrongType, FailureKind::ContentType];
        for (mut wrong, kind) in wrong.into_iter().zip(kinds) {
            wrong.topic = Some(ASK.name().clone());
            wrong.metadata.max_attempts = Some(10);
            agents.client().publish_envelope(wrong).await.unwrap();
            assert_eq!(failure(&dead_letters(&bus, "clumsy", 1).await[0]), (kind, 1));
        }
        assert_eq!(agents.counts("clumsy").unwrap().retried, 0);
        assert_eq!(agent.calls(|_| true).len(), 0);
        agents.stop().await;
    }
}
