//! Follow-ups whose state all replicas share: whichever replica gets the answer, the error or the
//! deadline goes on, and none does twice.

mod support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use agentbus::{
    Client, Envelope, Running, Runtime,
    broker::Destination,
    proto::v1::RequestDeadline,
    retry::{Backoff, RetryPolicy},
    store::{Conversations, MemoryConversations, Scope},
};
use futures::StreamExt;
use support::{
    bus::Bus,
    curious::{Curious, Mood, Oracle, Store, dead_letters, expected},
    eventually,
    messages::{Event, HAPPENED},
};

/// A number of every third kind: answered, answered with an error, not answered.
fn number(count: u32) -> u32 {
    let ending = [1, 998, 997][count as usize % 3];
    count / 3 * 1000 + ending
}

async fn publish(client: &Client, count: u32) {
    let events = futures::stream::iter((0..count).map(|count| Event { number: number(count) }));
    let mut published = std::pin::pin!(client.publish_many(HAPPENED, events));
    while let Some(result) = published.next().await {
        result.unwrap();
    }
}

async fn oracle(bus: &Bus) -> Running {
    let mut config = bus.config.clone();
    // For a hundred that never end.
    config.prefetch = 200;
    let client = Client::with_config(Arc::clone(bus.broker()), config);
    Runtime::new(client).agent(Oracle).start().await.unwrap()
}

on_each_bus! {
    async fn replicas_that_come_and_go_end_each_of_300_requests_once(bus: Bus) {
        let store = Arc::new(MemoryConversations::default().shared_by_replicas());
        let curious = Curious::default();
        let oracle = oracle(&bus).await;
        let start = async || {
            let runtime = Runtime::new(bus.client()).conversations(store.clone());
            runtime.agent(curious.clone()).start().await.unwrap()
        };
        let mut replicas = [start().await, start().await];
        let done = || curious.outcomes.lock().unwrap().len();
        let client = bus.client();
        let come_and_go = async {
            for round in 0.. {
                // At least four times, with the work under way.
                if round >= 4 && done() == 300 {
                    break;
                }
                assert!(round < 300, "still waiting for {} outcomes", 300 - done());
                tokio::time::sleep(Duration::from_millis(100)).await;
                let [first, _] = &mut replicas;
                let leaving = std::mem::replace(first, start().await);
                replicas.swap(0, 1);
                leaving.stop().await;
            }
        };
        tokio::join!(publish(&client, 300), come_and_go);
        for replica in replicas {
            replica.stop().await;
        }
        let outcomes = curious.outcomes.lock().unwrap().clone();
        assert_eq!(outcomes.len(), 300);
        for (number, outcome) in outcomes {
            assert_eq!(outcome, [expected(number)], "question {number}");
        }
        assert_eq!(curious.begun.load(Ordering::Relaxed), 300);
        assert_eq!(store.count().await.unwrap(), 0);
        assert_eq!(dead_letters(&bus, "curious").await, 0);
        oracle.stop().await;
    }

    async fn a_deadline_after_the_answer_is_dropped_in_silence(bus: Bus) {
        let store = Store::new(Scope::Shared);
        let runtime = Runtime::new(bus.client()).conversations(store.clone());
        let agents = runtime.agent(Curious::default()).start().await.unwrap();
        let queue = bus.queue("curious");
        // The one the store is asked for comes last.
        for id in [None, Some("answered long ago".into())] {
            let mut deadline = Envelope::encode(&RequestDeadline {});
            deadline.metadata.correlation_id = id;
            bus.broker().publish(Destination::Queue(&queue), deadline).await.unwrap();
        }
        eventually("the question", async || {
            (store.asked.load(Ordering::Relaxed) == 1).then_some(())
        }).await;
        agents.stop().await;
        assert_eq!(bus.broker().stats(&queue).await.unwrap().ready, 0);
        assert_eq!(dead_letters(&bus, "curious").await, 0);
    }
}

/// Runs a replica that shares a store, in time that passes only when nothing happens.
async fn start(bus: &Bus, store: &Arc<Store>, curious: &Curious, delay: Duration) -> Running {
    let policy = RetryPolicy::default().with_backoff(Backoff::constant(delay));
    let runtime = Runtime::new(bus.client()).retry(policy).conversations(store.clone());
    runtime.agent(curious.clone()).agent(Oracle).start().await.unwrap()
}

async fn nothing_is_left(bus: &Bus, store: &Arc<Store>) {
    assert_eq!(store.count().await.unwrap(), 0);
    let stats = bus.broker().stats("curious").await.unwrap();
    assert_eq!((stats.ready, stats.unsettled), (0, Some(0)));
    assert_eq!(dead_letters(bus, "curious").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_makes_way_for_an_answer_that_is_tried_again() {
    let bus = Bus::memory();
    let store = Store::new(Scope::Shared);
    let curious = Curious { mood: Mood::FailsFirst, ..Curious::default() };
    // Longer than the 30 s that the answer had.
    let agents = start(&bus, &store, &curious, Duration::from_mins(2)).await;
    agents.client().publish(HAPPENED, &Event { number: 1 }).await.unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(store.asked.load(Ordering::Relaxed), 1, "the deadline came");
    assert!(curious.outcomes.lock().unwrap().is_empty(), "and was put off");
    tokio::time::sleep(Duration::from_mins(30)).await;
    assert_eq!(curious.outcomes.lock().unwrap()[&1], [expected(1)]);
    assert_eq!(store.asked.load(Ordering::Relaxed), 2, "it came once more, in vain");
    nothing_is_left(&bus, &store).await;
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_missed_deadline_whose_route_fails_comes_again() {
    let bus = Bus::memory();
    let store = Store::new(Scope::Shared);
    let curious = Curious { mood: Mood::FailsFirst, ..Curious::default() };
    let agents = start(&bus, &store, &curious, Duration::from_secs(5)).await;
    agents.client().publish(HAPPENED, &Event { number: 997 }).await.unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(curious.outcomes.lock().unwrap()[&997], [expected(997)]);
    assert_eq!(curious.begun.load(Ordering::Relaxed), 2);
    assert_eq!(agents.counts("curious").unwrap().retried, 1);
    nothing_is_left(&bus, &store).await;
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_or_a_deadline_that_snoozes_comes_again_and_counts_no_attempt() {
    for scope in [Scope::Shared, Scope::Process] {
        for number in [1, 997] {
            let bus = Bus::memory();
            let store = Store::new(scope);
            let curious = Curious { mood: Mood::SnoozesFirst, ..Curious::default() };
            let agents = start(&bus, &store, &curious, Duration::from_mins(2)).await;
            agents.client().publish(HAPPENED, &Event { number }).await.unwrap();
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert_eq!(curious.outcomes.lock().unwrap()[&number], [expected(number)]);
            let counts = agents.counts("curious").unwrap();
            assert_eq!((counts.snoozed, counts.retried, counts.dead_lettered), (1, 0, 0));
            // What comes of the deadline later is nothing.
            tokio::time::sleep(Duration::from_mins(30)).await;
            assert_eq!(curious.begun.load(Ordering::Relaxed), 2, "{scope:?} {number}");
            nothing_is_left(&bus, &store).await;
            agents.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_a_deadline_waits_and_does_not_spin() {
    let bus = Bus::memory();
    let store = Store::new(Scope::Shared);
    let curious = Curious::default();
    let agents = start(&bus, &store, &curious, Duration::from_secs(5)).await;
    agents.client().publish(HAPPENED, &Event { number: 997 }).await.unwrap();
    store.outages[0].store(60, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(50)).await;
    let asked = store.asked.load(Ordering::Relaxed);
    assert!((40..=51).contains(&asked), "asked {asked} times in 50 s");
    assert!(curious.outcomes.lock().unwrap().is_empty());
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(curious.outcomes.lock().unwrap()[&997], [expected(997)]);
    nothing_is_left(&bus, &store).await;
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_store_that_is_down_for_good() {
    for (mood, number) in [(Mood::FailsFirst, 1), (Mood::FailsFirst, 997), (Mood::Hangs, 1)] {
        let bus = Bus::memory();
        let store = Store::new(Scope::Shared);
        store.outages[1].store(u32::MAX, Ordering::Relaxed);
        let curious = Curious { mood, ..Curious::default() };
        let agents = start(&bus, &store, &curious, Duration::from_secs(5)).await;
        agents.client().publish(HAPPENED, &Event { number }).await.unwrap();
        let begun = async || (curious.begun.load(Ordering::Relaxed) == 1).then_some(());
        eventually("the follow-up", begun).await;
        agents.stop().await;
        // Nobody goes on asking it.
        assert_eq!(Arc::strong_count(&store), 1, "question {number}");
    }
}
