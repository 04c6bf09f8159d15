//! While nothing works, messages wait instead of using up their attempts.

use std::{sync::Arc, time::Duration};

use agentbus::{
    Client, Id, RequestError, RequestOptions, Runtime, agent::middleware::CircuitBreaker,
    broker::Stage, message::Code, retry::RetryPolicy,
};

use crate::{
    on_each_bus,
    support::{
        self, eventually,
        messages::{ASK, question},
    },
    worker::{Worker, ask_as, counted, publish, ready, soon},
};

/// Opens after three failures, and is not tried while the test lasts.
fn fuse() -> CircuitBreaker {
    CircuitBreaker::new().failures(3).open_for(Duration::from_hours(1))
}

on_each_bus! {
    async fn an_open_breaker_pauses_the_agent_and_a_stop_gives_back(bus: Bus) {
        let mut config = bus.config.clone();
        config.prefetch = 6;
        let client = Client::with_config(Arc::clone(bus.broker()), config);
        let worker = Worker::new();
        worker.breaks(true);
        let runtime = Runtime::new(client.clone()).layer(fuse()).retry(RetryPolicy::none());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        for number in 0..3 {
            publish(&client, [number]).await;
            counted(&agents, "a failure", |counts| counts.dead_lettered == u64::from(number) + 1).await;
        }
        let health = agents.health();
        assert!(health.stage == Stage::Connected && health.detail.contains("nothing works"), "{health:?}");

        publish(&client, 3..13).await;
        counted(&agents, "six that wait", |counts| counts.waiting == 6).await;
        ready(&bus, "worker", 4).await;
        assert_eq!(worker.calls(), 3, "no handler is called");
        // By default the grace period is half a minute: what is held is not waited for.
        agents.stop().await;
        ready(&bus, "worker", 10).await;

        worker.breaks(false);
        let agents = Runtime::new(client).agent(worker.clone()).start().await.unwrap();
        counted(&agents, "the rest", |counts| counts.handled == 10).await;
        assert_eq!(worker.handled(), (3..13).map(|number| (number, 1)).collect::<Vec<_>>());
        agents.stop().await;
        ready(&bus, "worker.dlq", 3).await;
    }

    async fn it_closes_once_a_message_succeeds(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::new());
        worker.breaks(true);
        let breaker = CircuitBreaker::new().failures(3).open_for(Duration::from_millis(300));
        let mut policy = soon();
        policy.attempts = u32::MAX;
        let runtime = Runtime::new(client.clone()).layer(breaker).retry(policy);
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        publish(&client, 0..20).await;
        eventually("an open breaker", async || (!agents.health().is_healthy()).then_some(())).await;
        // A handler that began before it opened may still fail, each at most once.
        counted(&agents, "some that wait", |counts| counts.waiting > 0).await;
        worker.breaks(false);
        counted(&agents, "all", |counts| counts.handled == 20).await;
        let numbers: Vec<_> = worker.handled().iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
        eventually("health", async || agents.health().is_healthy().then_some(())).await;
        agents.stop().await;
        ready(&bus, "worker.dlq", 0).await;
    }

    async fn a_request_that_would_wait_too_long_is_told_so_at_once(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::new());
        let runtime = Runtime::new(client.clone()).layer(fuse()).retry(RetryPolicy::none());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        for calls in [1, 2, 3, 3] {
            let error = ask_as(&client, &Id::new(), "unavailable").await.unwrap_err();
            let RequestError::Replied { error, .. } = error else { panic!("{error:?}") };
            assert_eq!((error.code, error.is_retryable), (Code::Unavailable, true));
            assert_eq!(worker.calls(), calls);
        }
        counted(&agents, "the ends", |counts| (counts.expired, counts.dead_lettered) == (1, 3)).await;
        agents.stop().await;
        ready(&bus, "worker", 0).await;
    }

    async fn answers_and_rejections_do_not_open_it(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::new());
        let runtime = Runtime::new(client.clone()).layer(fuse());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        for _ in 0..5 {
            ask_as(&client, &Id::new(), "not found").await.unwrap_err();
        }
        assert!(ask_as(&client, &Id::new(), "still there?").await.is_ok());
        assert!(agents.health().is_healthy());
        agents.stop().await;
    }

    async fn each_topic_has_a_circuit_of_its_own(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::new());
        worker.breaks(true);
        let runtime = Runtime::new(client.clone()).layer(fuse().per_topic()).retry(RetryPolicy::none());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        publish(&client, 0..3).await;
        counted(&agents, "three failures", |counts| counts.dead_lettered == 3).await;
        publish(&client, 3..6).await;
        counted(&agents, "three that wait", |counts| counts.waiting == 3).await;
        assert!(ask_as(&client, &Id::new(), "another topic").await.is_ok());
        let detail = agents.health().detail;
        assert!(detail.contains("test.happened"), "{detail}");
        agents.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_used_up_while_it_is_open() {
    let (client, worker) = (support::bus::Bus::memory().client(), Worker::new());
    worker.breaks(true);
    let breaker = CircuitBreaker::new().failures(5).open_for(Duration::from_secs(30));
    let agents = Runtime::new(client.clone()).layer(breaker).agent(worker.clone());
    let agents = agents.start().await.unwrap();
    publish(&client, 0..20).await;
    // An hour: twelve times as long as a message is held, and a probe each half minute.
    tokio::time::sleep(Duration::from_hours(1)).await;
    let calls = worker.calls();
    assert!((100..=140).contains(&calls), "{calls} calls: one each 30 s, and those that opened it");
    let counts = agents.counts("worker").unwrap();
    // Without the breaker all would be dead after eight seconds.
    assert!(counts.retried <= 20 && counts.dead_lettered == 0, "{counts:?}");
    worker.breaks(false);
    tokio::time::sleep(Duration::from_mins(10)).await;
    let handled = worker.handled();
    assert_eq!(handled.len(), 20, "{handled:?}");
    assert!(handled.iter().all(|(_, attempt)| *attempt <= 2), "{handled:?}");
    assert!(agents.health().is_healthy());
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn panics_and_handlers_that_never_end_open_it() {
    for panics in [true, false] {
        let (client, worker) = (support::bus::Bus::memory().client(), Worker::new());
        let runtime = Runtime::new(client.clone()).layer(fuse()).retry(RetryPolicy::none());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        for _ in 0..3 {
            assert!(agents.health().is_healthy());
            if panics {
                publish(&client, [101]).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            } else {
                let options = RequestOptions::default().timeout(Duration::from_secs(1));
                client.request_with(ASK, &question("hang"), options).await.unwrap_err();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        assert!(!agents.health().is_healthy(), "panics: {panics}");
        agents.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_tries_it_and_never_ends_does_not_hold_the_others() {
    let (client, worker) = (support::bus::Bus::memory().client(), Worker::new());
    worker.breaks(true);
    let breaker = CircuitBreaker::new().failures(3).open_for(Duration::from_secs(30));
    let runtime = Runtime::new(client.clone()).layer(breaker).retry(RetryPolicy::none());
    let agents = runtime.agent(worker.clone()).start().await.unwrap();
    publish(&client, 0..3).await;
    counted(&agents, "three failures", |counts| counts.dead_lettered == 3).await;
    worker.breaks(false);
    client.publish(ASK.topic().clone(), &question("hang")).await.unwrap();
    counted(&agents, "one that waits", |counts| counts.waiting == 1).await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    publish(&client, 3..6).await;
    counted(&agents, "three that wait", |counts| counts.waiting == 3).await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    counted(&agents, "three that are handled", |counts| counts.handled == 3).await;
    assert!(agents.health().is_healthy());
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_counts_is_for_the_user_to_say() {
    let (client, worker) = (support::bus::Bus::memory().client(), Worker::new());
    let breaker = fuse().counts(|error| matches!(error, agentbus::HandlerError::Reply(_)));
    let runtime = Runtime::new(client.clone()).layer(breaker).retry(RetryPolicy::none());
    let agents = runtime.agent(worker.clone()).start().await.unwrap();
    for _ in 0..5 {
        ask_as(&client, &Id::new(), "unavailable").await.unwrap_err();
    }
    assert!(agents.health().is_healthy());
    for _ in 0..3 {
        ask_as(&client, &Id::new(), "not found").await.unwrap_err();
    }
    assert!(!agents.health().is_healthy());
    agents.stop().await;
}
