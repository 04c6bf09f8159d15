//! No more than allowed, and what waits loses nothing.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use agentbus::{
    Agent, Context, HandlerError, Id, PublishOptions, RequestError, Routes, Runtime,
    agent::{Counts, middleware::Throttle},
    message::Code,
};

use tokio::time::Instant;

use crate::{
    on_each_bus,
    support::{
        self,
        messages::{Event, HAPPENED},
    },
    worker::{Worker, ask_as, counted, publish, ready},
};

/// Lets one through, and no second while the test lasts.
fn one() -> Throttle {
    Throttle::new(1, Duration::from_hours(1))
}

/// Takes events five at a time.
#[derive(Clone, Default)]
struct Bulk {
    taken: Arc<Mutex<Vec<(u32, u32)>>>,
}

impl Agent for Bulk {
    fn name(&self) -> &'static str {
        "worker"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on_batch(HAPPENED, 5, Duration::from_hours(1), Self::happened)
    }
}

impl Bulk {
    async fn happened(&self, events: Vec<Event>, ctx: &Context) -> Result<(), HandlerError> {
        let attempts = ctx.batch().iter().map(|metadata| metadata.attempt.unwrap_or(1));
        let events = events.iter().map(|event| event.number);
        self.taken.lock().unwrap().extend(events.zip(attempts));
        Ok(())
    }
}

on_each_bus! {
    async fn no_more_are_handled_than_allowed(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::new());
        let throttle = Throttle::new(10, Duration::from_secs(1)).burst(2);
        let runtime = Runtime::new(client.clone()).layer(throttle);
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        let start = Instant::now();
        publish(&client, 0..8).await;
        counted(&agents, "all", |counts| counts.handled == 8).await;
        assert_eq!(worker.handled(), (0..8).map(|number| (number, 1)).collect::<Vec<_>>());
        let last = worker.events.lock().unwrap().iter().map(|event| event.2).max().unwrap();
        // Two at once, then one each 100 ms; the last is the sixth after those.
        assert!(last - start >= Duration::from_millis(600), "{:?}", last - start);
        agents.stop().await;
    }

    async fn what_waits_when_the_agent_stops_is_given_back(bus: Bus) {
        let (client, first) = (bus.client(), Worker::new());
        let runtime = Runtime::new(client.clone()).layer(one());
        let agents = runtime.agent(first.clone()).start().await.unwrap();
        publish(&client, 0..10).await;
        counted(&agents, "nine that wait", |counts| (counts.handled, counts.waiting) == (1, 9)).await;
        // By default the grace period is half a minute: what waits is not waited for.
        agents.stop().await;
        ready(&bus, "worker", 9).await;

        let second = Worker::new();
        let agents = Runtime::new(client).agent(second.clone()).start().await.unwrap();
        counted(&agents, "the rest", |counts| counts.handled == 9).await;
        let mut all = [first.handled(), second.handled()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).map(|number| (number, 1)).collect::<Vec<_>>());
        agents.stop().await;
        ready(&bus, "worker.dlq", 0).await;
    }

    async fn a_batch_counts_as_its_messages_and_is_given_back_whole(bus: Bus) {
        let (client, bulk) = (bus.client(), Bulk::default());
        let throttle = Throttle::new(1, Duration::from_hours(1)).burst(7);
        let runtime = Runtime::new(client.clone()).layer(throttle);
        let agents = runtime.agent(bulk.clone()).start().await.unwrap();
        publish(&client, 0..10).await;
        counted(&agents, "a batch that waits", |counts| (counts.handled, counts.waiting) == (5, 1)).await;
        agents.stop().await;
        ready(&bus, "worker", 5).await;
        let agents = Runtime::new(client).agent(bulk.clone()).start().await.unwrap();
        counted(&agents, "the rest", |counts| counts.handled == 5).await;
        let mut taken = bulk.taken.lock().unwrap().clone();
        taken.sort_unstable();
        assert_eq!(taken, (0..10).map(|number| (number, 1)).collect::<Vec<_>>());
        agents.stop().await;
    }

    async fn a_request_whose_turn_comes_too_late_is_told_so_at_once(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::new());
        let runtime = Runtime::new(client.clone()).layer(one());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        assert!(ask_as(&client, &Id::new(), "first").await.is_ok());
        let error = ask_as(&client, &Id::new(), "second").await.unwrap_err();
        let RequestError::Replied { error, .. } = error else { panic!("{error:?}") };
        assert_eq!((error.code, error.is_retryable), (Code::Unavailable, true));
        counted(&agents, "one that is not handled", |counts| counts.expired == 1).await;
        assert_eq!(worker.calls(), 1);
        agents.stop().await;
        ready(&bus, "worker", 0).await;
        ready(&bus, "worker.dlq", 0).await;
    }

    async fn each_topic_has_an_allowance_of_its_own(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::new());
        let runtime = Runtime::new(client.clone()).layer(one().per_topic());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        publish(&client, 0..3).await;
        counted(&agents, "two that wait", |counts| counts.waiting == 2).await;
        assert!(ask_as(&client, &Id::new(), "another topic").await.is_ok());
        agents.stop().await;
    }

    async fn each_sender_has_an_allowance_of_its_own(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::new());
        let runtime = Runtime::new(client.clone()).layer(one().per_sender());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        publish(&client.named("loud"), 0..3).await;
        counted(&agents, "two that wait", |counts| counts.waiting == 2).await;
        publish(&client.named("quiet"), [3]).await;
        publish(&client, [4, 5]).await;
        counted(&agents, "four", |counts| (counts.handled, counts.waiting) == (4, 2)).await;
        agents.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn they_pass_in_order_and_not_before_their_time() {
    let (client, worker) = (support::bus::Bus::memory().client(), Worker::new());
    let throttle = Throttle::new(2, Duration::from_secs(1));
    let agents = Runtime::new(client.clone()).layer(throttle).agent(worker.clone());
    let agents = agents.start().await.unwrap();
    publish(&client, 0..30).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let events = worker.events.lock().unwrap().clone();
    let order: Vec<_> = events.iter().map(|event| event.0).collect();
    assert_eq!(order, (0..30).collect::<Vec<_>>());
    for (&(_, _, earlier), &(_, _, later)) in events.iter().zip(&events[1..]) {
        let gap = later - earlier;
        assert!(gap >= Duration::from_millis(490) && gap <= Duration::from_millis(510), "{gap:?}");
    }
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_too_long_comes_back_and_no_attempt_is_counted() {
    let (client, worker) = (support::bus::Bus::memory().client(), Worker::new());
    let throttle = one().patience(Duration::from_mins(2));
    let agents = Runtime::new(client.clone()).layer(throttle).agent(worker.clone());
    let agents = agents.start().await.unwrap();
    publish(&client, 0..3).await;
    tokio::time::sleep(Duration::from_mins(30)).await;
    let counts = agents.counts("worker").unwrap();
    assert!(counts.snoozed >= 10 && counts.retried == 0 && counts.handled == 1, "{counts:?}");
    tokio::time::sleep(Duration::from_hours(3)).await;
    assert_eq!(worker.handled(), [(0, 1), (1, 1), (2, 1)]);
    let Counts { dead_lettered, expired, .. } = agents.counts("worker").unwrap();
    assert_eq!((dead_lettered, expired), (0, 0));
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_needs_longer_than_it_may_wait_passes_in_the_end() {
    let (client, bulk) = (support::bus::Bus::memory().client(), Bulk::default());
    let throttle = Throttle::new(1, Duration::from_mins(1)).patience(Duration::from_secs(130));
    let agents = Runtime::new(client.clone()).layer(throttle).agent(bulk.clone());
    let agents = agents.start().await.unwrap();
    publish(&client, 0..15).await;
    tokio::time::sleep(Duration::from_hours(2)).await;
    let mut taken = bulk.taken.lock().unwrap().clone();
    taken.sort_unstable();
    assert_eq!(taken, (0..15).map(|number| (number, 1)).collect::<Vec<_>>());
    assert!(agents.counts("worker").unwrap().snoozed > 0, "none waited too long");
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_key_not_used_for_longest_is_forgotten() {
    for throttle in [one().keys(1).per_sender(), one().per_sender().keys(1)] {
        let (client, worker) = (support::bus::Bus::memory().client(), Worker::new());
        let agents = Runtime::new(client.clone()).layer(throttle).agent(worker.clone());
        let agents = agents.start().await.unwrap();
        for (handled, sender) in [(1, "loud"), (2, "quiet"), (3, "loud")] {
            publish(&client.named(sender), [1]).await;
            counted(&agents, "one more", |counts| counts.handled == handled).await;
        }
        publish(&client.named("loud"), [1]).await;
        counted(&agents, "one that waits", |counts| counts.waiting == 1).await;
        agents.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_expires_while_it_waits_is_not_handled() {
    let (client, worker) = (support::bus::Bus::memory().client(), Worker::new());
    let throttle = Throttle::new(1, Duration::from_secs(20));
    let agents = Runtime::new(client.clone()).layer(throttle).agent(worker.clone());
    let agents = agents.start().await.unwrap();
    for number in 0..4 {
        let options = PublishOptions::default().expires_after(Duration::from_secs(30));
        client.publish_with(HAPPENED, &Event { number }, options).await.unwrap();
    }
    tokio::time::sleep(Duration::from_mins(5)).await;
    let counts = agents.counts("worker").unwrap();
    assert_eq!((counts.handled, counts.expired, counts.waiting), (2, 2, 0), "{counts:?}");
    assert_eq!(counts.dead_lettered, 0);
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_deadline_passes_in_the_line_is_dropped_and_counted() {
    let (client, worker) = (support::bus::Bus::memory().client(), Worker::new());
    let throttle = Throttle::new(1, Duration::from_secs(20));
    let agents = Runtime::new(client.clone()).layer(throttle).agent(worker.clone());
    let agents = agents.start().await.unwrap();
    let id = Id::new;
    // Asked together: the second is due after 20 s, the third after 40 s and its 30 s.
    let (ids, texts) = ([id(), id(), id()], ["1", "2", "3"]);
    let asked = ids.iter().zip(texts).map(|(id, text)| ask_as(&client, id, text));
    let answers = futures::future::join_all(asked).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2);
    tokio::time::sleep(Duration::from_mins(2)).await;
    let counts = agents.counts("worker").unwrap();
    assert_eq!((counts.expired, counts.dead_lettered, counts.waiting), (1, 0, 0), "{counts:?}");
    assert_eq!(worker.calls(), 2);
    // The place in line was left: the next is not held up by it.
    client.publish(HAPPENED, &Event { number: 1 }).await.unwrap();
    counted(&agents, "the next", |counts| counts.handled == 3).await;
    agents.stop().await;
}
