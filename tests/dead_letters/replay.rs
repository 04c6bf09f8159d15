//! What is replayed is handled again, and nothing is lost on the way.

use std::time::{Duration, Instant};

use agentbus::{
    Client, Envelope, RequestError,
    broker::{Destination, PublishError},
    client::{DeadLetterError, ReplayOptions, ReplayOutcome},
    message::{FailureKind, Metadata, Timestamp},
};

use crate::{
    moody::{Moody, SEEN, all, counted, numbers, prepared},
    on_each_bus,
    support::{
        self,
        bus::Bus,
        eventually,
        messages::{ASK, Event, HAPPENED, question},
    },
};

on_each_bus! {
    async fn what_is_replayed_is_handled_as_if_it_were_new(bus: Bus) {
        let (data, running) = prepared(&bus, 0).await;
        let client = bus.client();
        let id = client.publish(HAPPENED, &Event { number: 7 }).await.unwrap().to_string();
        counted(&client, "data", 1).await;
        data.work();
        let letters = client.dead_letters("data");
        let mut dry = letters.replay(all(), ReplayOptions::default().dry_run());
        let planned = dry.next().await.unwrap().expect("a letter");
        assert_eq!(planned.outcome, ReplayOutcome::WouldBeSent);
        assert_eq!(planned.to.as_str(), bus.queue("data"));
        assert!(dry.next().await.unwrap().is_none());
        assert!(data.ids().is_empty());
        assert_eq!(letters.replay(all(), ReplayOptions::default()).run().await.unwrap(), 1);
        eventually("the event", async || (!data.ids().is_empty()).then_some(())).await;
        let handled = data.handled.lock().unwrap()[&id].clone();
        assert_eq!(handled, [("test.happened".to_owned(), 1)]);
        counted(&client, "data", 0).await;
        running.stop().await;
    }

    async fn what_a_replayed_request_is_answered_goes_nowhere(bus: Bus) {
        let (data, running) = prepared(&bus, 0).await;
        let client = bus.client();
        let error = client.request(ASK, &question("why?")).await.unwrap_err();
        assert!(matches!(error, RequestError::Replied { .. }), "{error}");
        counted(&client, "data", 1).await;
        data.work();
        let letters = client.dead_letters("data");
        assert_eq!(letters.replay(all(), ReplayOptions::default()).run().await.unwrap(), 1);
        eventually("the answer", async || {
            (running.counts("data").unwrap().handled == 1).then_some(())
        })
        .await;
        assert_eq!(running.counts("data").unwrap().undeliverable_replies, 0);
        running.stop().await;
    }

    async fn what_fails_again_is_left_alone_by_the_replay(bus: Bus) {
        let (_, running) = prepared(&bus, 10).await;
        let client = bus.client();
        let letters = client.dead_letters("data");
        assert_eq!(letters.replay(all(), ReplayOptions::default()).run().await.unwrap(), 10);
        counted(&client, "data", 10).await;
        running.stop().await;
    }

    async fn a_replay_that_is_dropped_loses_nothing(bus: Bus) {
        let (data, running) = prepared(&bus, 30).await;
        data.work();
        let client = bus.client();
        let letters = client.dead_letters("data");
        for stop_after in [1, 7, 12] {
            let mut replay = letters.replay(all(), ReplayOptions::default());
            for _ in 0..stop_after {
                replay.next().await.unwrap().expect("there are more");
            }
            drop(replay);
        }
        let mut replay = letters.replay(all(), ReplayOptions::default());
        replay.run().await.unwrap();
        // What the dropped ones held may not have been back yet.
        eventually("all events", async || {
            letters.replay(all(), ReplayOptions::default()).run().await.unwrap();
            (data.ids().len() == 30).then_some(())
        })
        .await;
        counted(&client, "data", 0).await;
        running.stop().await;
    }

    async fn a_replay_whose_publish_is_dropped_loses_nothing(bus: Bus) {
        let (data, running) = prepared(&bus, 30).await;
        data.work();
        let letters = bus.client().dead_letters("data");
        let mut replay = letters.replay(all(), ReplayOptions::default());
        // At any await: each call goes a little further than the one before.
        for polls in 0..200 {
            let mut left = polls % 20;
            let next = replay.next();
            tokio::pin!(next);
            std::future::poll_fn(|cx| {
                left -= i32::from(left > 0);
                let polled = next.as_mut().poll(cx);
                if left == 0 || polled.is_ready() { return std::task::Poll::Ready(()) }
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            })
            .await;
            tokio::task::yield_now().await;
        }
        drop(replay);
        eventually("all events", async || {
            letters.replay(all(), ReplayOptions::default()).run().await.unwrap();
            (data.ids().len() == 30).then_some(())
        })
        .await;
        counted(&bus.client(), "data", 0).await;
        running.stop().await;
    }

    async fn a_replay_keeps_to_its_rate(bus: Bus) {
        let (data, running) = prepared(&bus, 6).await;
        data.work();
        let started = Instant::now();
        let letters = bus.client().dead_letters("data");
        let slowly = ReplayOptions::default().at_most(10);
        assert_eq!(letters.replay(all(), slowly).run().await.unwrap(), 6);
        assert!(started.elapsed() >= Duration::from_millis(490), "after {:?}", started.elapsed());
        running.stop().await;
    }

    async fn one_letter_is_replayed_with_another_payload(bus: Bus) {
        let (_, running) = prepared(&bus, 2).await;
        let client = bus.client();
        running.stop().await;
        let letters = client.dead_letters("data");
        let edited = || ReplayOptions::default().payload(Envelope::encode(&Event { number: 9 }).payload);
        let error = letters.replay(all(), edited()).run().await.unwrap_err();
        assert!(matches!(error, DeadLetterError::EditsMany), "{error}");
        let one = all().id("event 00001");
        assert_eq!(letters.replay(one, edited()).run().await.unwrap(), 1);
        let mut work = client.broker().consume(&bus.queue("data"), 1).await.unwrap();
        let copy = work.next().await.expect("the copy");
        assert_eq!(copy.envelope().decode::<Event>().unwrap().number, 9);
        let Metadata { message_id, failure, attempt, .. } = copy.envelope().metadata.clone();
        assert_eq!((message_id, failure, attempt), (Some("event 00001".into()), None, None));
        copy.ack();
    }

    async fn what_cannot_be_published_stays(bus: Bus) {
        let (_, running) = prepared(&bus, 2).await;
        running.stop().await;
        let client = bus.client();
        client.broker().delete(&bus.queue("data")).await.unwrap();
        let letters = client.dead_letters("data");
        let error = letters.replay(all(), ReplayOptions::default()).run().await.unwrap_err();
        let DeadLetterError::Publish { source, .. } = error else { panic!("{error}") };
        assert!(matches!(*source, PublishError::Unroutable { .. }), "{source}");
        assert_eq!(numbers(&client, all()).await, [0, 1]);
    }

    async fn the_letter_of_a_replica_that_is_gone_is_handled_by_another(bus: Bus) {
        let (_, running) = prepared(&bus, 0).await;
        let client = bus.client();
        client.publish(SEEN, &Event { number: 1 }).await.unwrap();
        counted(&client, "data", 1).await;
        let letters = client.dead_letters("data");
        let failed = letters.list(all()).next().await.unwrap().expect("a letter");
        let instance = failed.failure().unwrap().instance.clone().expect("of a replica");
        let mut dry = letters.replay(all(), ReplayOptions::default().dry_run());
        assert!(dry.next().await.unwrap().is_some());
        drop(dry);
        running.stop().await;

        let other = Moody::new("data");
        other.work();
        let running = other.start(&client).await;
        eventually("the letter", async || {
            let mut replay = letters.replay(all(), ReplayOptions::default());
            let replayed = replay.next().await.unwrap()?;
            assert_eq!((replayed.to, replayed.outcome), (bus.queue("data").into(), ReplayOutcome::Sent));
            Some(())
        })
        .await;
        eventually("the event", async || (!other.ids().is_empty()).then_some(())).await;
        let handled: Vec<_> = other.handled.lock().unwrap().values().flatten().cloned().collect();
        assert_eq!(handled, [("test.seen".to_owned(), 1)]);
        assert!(!instance.is_empty());
        running.stop().await;
    }

    async fn the_letter_of_a_replica_goes_back_to_it(bus: Bus) {
        let (data, running) = prepared(&bus, 0).await;
        let client = bus.client();
        client.publish(SEEN, &Event { number: 1 }).await.unwrap();
        counted(&client, "data", 1).await;
        data.work();
        let letters = client.dead_letters("data");
        let replayed = letters.replay(all(), ReplayOptions::default()).next().await.unwrap();
        let replayed = replayed.expect("a letter");
        let instance = replayed.letter.failure().unwrap().instance.clone().unwrap();
        assert_eq!(replayed.to.as_str(), format!("{}.{instance}", bus.queue("data")));
        eventually("the event", async || (!data.ids().is_empty()).then_some(())).await;
        running.stop().await;
    }

    async fn a_crash_loop_is_shown_as_one_and_replayed(bus: Bus) {
        let (data, running) = prepared(&bus, 0).await;
        running.stop().await;
        let client = bus.client();
        client.publish(HAPPENED, &Event { number: 1 }).await.unwrap();
        let mut crashing = client.broker().consume(&bus.queue("data"), 1).await.unwrap();
        for _ in 0..=100 {
            crashing.next().await.expect("it comes again").release();
        }
        drop(crashing);
        counted(&client, "data", 1).await;
        let letters = client.dead_letters("data");
        let found = letters.list(all().kind(FailureKind::CrashLoop)).next().await.unwrap();
        assert_eq!(found.expect("a crash loop").topic(), Some(HAPPENED.name()));
        data.work();
        assert_eq!(letters.replay(all(), ReplayOptions::default()).run().await.unwrap(), 1);
        let running = data.start(&client).await;
        eventually("the event", async || (!data.ids().is_empty()).then_some(())).await;
        assert_eq!(data.handled.lock().unwrap().values().next().unwrap(), &[("test.happened".to_owned(), 1)]);
        running.stop().await;
    }
}

/// The connection goes in the middle of a replay, and with it what it held.
#[cfg(feature = "rabbitmq")]
#[tokio::test]
async fn a_replay_whose_connection_goes_loses_nothing() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let (data, running) = prepared(&bus, 40).await;
    data.work();
    for _ in 0..3 {
        let client = Client::connect(bus.config.clone()).await.unwrap();
        let mut replay = client.dead_letters("data").replay(all(), ReplayOptions::default());
        for _ in 0..8 {
            replay.next().await.unwrap().expect("there are more");
        }
        // Closes the connection at once, without a word.
        drop((replay, client));
    }
    let letters = bus.client().dead_letters("data");
    eventually("all events", async || {
        letters.replay(all(), ReplayOptions::default()).run().await.unwrap();
        (data.ids().len() == 40).then_some(())
    })
    .await;
    counted(&bus.client(), "data", 0).await;
    running.stop().await;
}

#[tokio::test]
async fn what_could_not_be_delivered_is_replayed_to_where_one_says() {
    let bus = Bus::memory();
    let client = bus.client();
    let mut event = Envelope::encode(&Event { number: 3 });
    event.metadata.due_at = Some(Timestamp::now().after(Duration::from_millis(20)));
    client.broker().publish(Destination::Queue("nowhere"), event).await.ok();
    let letters = client.undeliverable();
    eventually("an undeliverable message", async || {
        (letters.count().await.ok()? == 1).then_some(())
    })
    .await;
    let mut replay = letters.replay(all(), ReplayOptions::default());
    let kept = replay.next().await.unwrap().expect("a letter");
    assert!(matches!(kept.outcome, ReplayOutcome::Kept(_)), "{kept:?}");
    drop(replay);
    let running = Moody::new("data").start(&client).await;
    let there = ReplayOptions::default().to("data");
    assert_eq!(letters.replay(all(), there).run().await.unwrap(), 1);
    running.stop().await;
}
