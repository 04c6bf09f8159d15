//! What is kept: listed, counted, filtered, removed, and each agent has its own.

use std::time::Duration;

use agentbus::{
    Pattern, Runtime,
    client::{DeadLetter, DeadLetterError, ReplayOptions},
    message::FailureKind,
};

use crate::{
    moody::{Moody, all, counted, letter, numbers, prepared},
    on_each_bus,
    support::{
        self, eventually,
        messages::{Event, HAPPENED},
    },
};

on_each_bus! {
    async fn two_hundred_lists_lose_nothing_and_keep_the_order(bus: Bus) {
        let (_, running) = prepared(&bus, 50).await;
        let client = bus.client();
        let expected: Vec<_> = (0..50).collect();
        for _ in 0..200 {
            assert_eq!(numbers(&client, all()).await, expected);
        }
        counted(&client, "data", 50).await;
        running.stop().await;
    }

    async fn more_letters_than_a_consumer_is_handed_are_listed(bus: Bus) {
        let (_, running) = prepared(&bus, 1101).await;
        assert_eq!(numbers(&bus.client(), all()).await, (0..1101).collect::<Vec<_>>());
        counted(&bus.client(), "data", 1101).await;
        running.stop().await;
    }

    async fn a_list_that_is_cut_short_gives_everything_back(bus: Bus) {
        let (_, running) = prepared(&bus, 20).await;
        let client = bus.client();
        assert_eq!(numbers(&client, all().limit(3)).await, [0, 1, 2]);
        assert_eq!(numbers(&client, all()).await, (0..20).collect::<Vec<_>>());
        let mut dropped = client.dead_letters("data").list(all());
        assert!(dropped.next().await.unwrap().is_some());
        drop(dropped);
        counted(&client, "data", 20).await;
        running.stop().await;
    }

    async fn two_who_list_at_once_see_everything(bus: Bus) {
        let (_, running) = prepared(&bus, 40).await;
        let client = bus.client();
        let list = async || {
            let mut list = client.dead_letters("data").list(all());
            let mut seen = 0;
            while list.next().await.unwrap().is_some() {
                seen += 1;
                tokio::task::yield_now().await;
            }
            (seen, list.is_partial())
        };
        for (seen, partial) in <[_; 2]>::from(tokio::join!(list(), list())) {
            assert!(seen == 40 || partial, "{seen} of 40 letters, and it was said to be all");
        }
        counted(&client, "data", 40).await;
        running.stop().await;
    }

    async fn filters_take_what_they_say(bus: Bus) {
        let (_, running) = prepared(&bus, 6).await;
        let client = bus.client();
        assert_eq!(numbers(&client, all().kind(FailureKind::Timeout)).await, [1, 3, 5]);
        assert_eq!(numbers(&client, all().id("event 00004").id("event 00002")).await, [2, 4]);
        assert_eq!(numbers(&client, all().older_than(Duration::from_hours(1))).await, [0; 0]);
        let pattern = Pattern::parse("other.#").unwrap();
        assert_eq!(numbers(&client, all().topic(pattern)).await, [0; 0]);
        let letters = client.dead_letters("data");
        let found = letters.get("event 00003").await.unwrap().expect("it is there");
        assert_eq!(found.failure().map(|failure| &failure.kind), Some(&FailureKind::Timeout));
        assert_eq!(letters.get("event 99999").await.unwrap(), None);
        running.stop().await;
    }

    async fn where_there_is_no_queue_there_are_no_letters(bus: Bus) {
        let letters = bus.client().dead_letters("nobody");
        let error = letters.list(all()).next().await.unwrap_err();
        assert!(matches!(error, DeadLetterError::NotFound { .. }), "{error}");
    }

    async fn a_purge_removes_what_the_filter_takes(bus: Bus) {
        let (_, running) = prepared(&bus, 10).await;
        let client = bus.client();
        let letters = client.dead_letters("data");
        assert_eq!(letters.purge(all().kind(FailureKind::Timeout).limit(2)).run().await.unwrap(), 2);
        assert_eq!(letters.purge(all().kind(FailureKind::Timeout)).run().await.unwrap(), 3);
        assert_eq!(numbers(&client, all()).await, [0, 2, 4, 6, 8]);
        assert_eq!(letters.purge(all()).run().await.unwrap(), 5);
        counted(&client, "data", 0).await;
        running.stop().await;
    }

    async fn an_export_is_put_back_as_it_was(bus: Bus) {
        let (_, running) = prepared(&bus, 3).await;
        let client = bus.client();
        let letters = client.dead_letters("data");
        let found = letters.get("event 00001").await.unwrap().expect("it is there");
        let line = found.to_json(None).to_string();
        assert_eq!(letters.purge(all().id("event 00001")).run().await.unwrap(), 1);
        letters.put(DeadLetter::from_json(&line).unwrap()).await.unwrap();
        assert_eq!(letters.get("event 00001").await.unwrap(), Some(found));
        running.stop().await;
    }

    async fn the_dead_letters_of_agents_are_their_own(bus: Bus) {
        let (failing, healthy) = (Moody::new("data"), Moody::new("healthy"));
        healthy.work();
        let client = bus.client();
        let runtime = Runtime::new(client.clone()).agent(failing.clone()).agent(healthy.clone());
        let running = runtime.start().await.unwrap();
        for number in 0..10 {
            client.publish(HAPPENED, &Event { number }).await.unwrap();
        }
        counted(&client, "data", 10).await;
        eventually("all events", async || (healthy.ids().len() == 10).then_some(())).await;
        assert_eq!(client.dead_letters("healthy").count().await.unwrap(), 0);
        failing.work();
        let letters = client.dead_letters("data");
        assert_eq!(letters.replay(all(), ReplayOptions::default()).run().await.unwrap(), 10);
        eventually("all events", async || (failing.ids().len() == 10).then_some(())).await;
        let handled: usize = healthy.handled.lock().unwrap().values().map(Vec::len).sum();
        assert_eq!(handled, 10, "a replay is for the agent that failed");
        running.stop().await;
    }

    async fn dead_letters_expire_and_work_does_not(bus: Bus) {
        let mut bus = bus;
        bus.config.dead_letters.ttl = Duration::from_secs(1);
        let (_, running) = prepared(&bus, 0).await;
        running.stop().await;
        let client = bus.client();
        client.publish(HAPPENED, &Event { number: 1 }).await.unwrap();
        client.dead_letters("data").put(letter(1)).await.unwrap();
        counted(&client, "data", 0).await;
        let work = bus.queue("data");
        assert_eq!(client.broker().stats(&work).await.unwrap().ready, 1);
    }
}
