//! Publishing: what is taken arrives, and what is not taken is said so.

use std::time::{Duration, Instant};

use agentbus::{
    Envelope, Id,
    broker::{Destination, PublishError},
    message::{Failure, FailureKind, HeaderValue, Metadata, Priority, Timestamp},
};
use futures::future::join_all;

use crate::bench::{
    Bench, IMPATIENCE, ack_next, assert_each_once, body, consume, error, next, number, numbered,
    publish, silent, within,
};

async fn every_message_arrives_with_body_and_metadata(bench: &Bench) {
    let topic = bench.name("price.moved");
    let queue = bench.work("prices", &[&topic]).await;
    let mut sent = Vec::new();
    for number in 0..100 {
        let envelope = described(number);
        sent.push(Envelope { topic: Some(topic.clone()), ..envelope.clone() });
        bench.publish(&topic, envelope).await;
    }
    let mut deliveries = bench.consume(&queue, 10).await;
    for expected in sent {
        let delivery = next(&mut deliveries).await;
        assert_eq!(*delivery.envelope(), expected);
        delivery.ack();
    }
    silent(&mut deliveries).await;
}

/// Makes a message that has everything a message can have.
fn described(number: u32) -> Envelope {
    // Engines carry whole seconds as the time of publishing.
    let at = Timestamp::from_millis(1_700_000_000_000);
    let mut envelope = numbered(number);
    envelope.metadata = Metadata {
        content_type: Some("application/x-protobuf".into()),
        message_type: Some("market.v1.PriceMoved".into()),
        message_id: Some(Id::new()),
        correlation_id: Some("order 17".into()),
        reply_to: Some("query".into()),
        sender: Some("data".into()),
        timestamp: Some(at),
        priority: Some(Priority::HIGH),
        conversation_id: Some(Id::new()),
        causation_id: Some(Id::new()),
        deadline: Some(Timestamp::now().after(Duration::from_mins(1))),
        due_at: Some(at.after(Duration::from_millis(2))),
        attempt: Some(3),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        tracestate: Some("vendor=value".into()),
        failure: Some(Box::new(Failure {
            kind: FailureKind::Handler,
            error: "no price".into(),
            agent: "data".into(),
            instance: Some("data.7".into()),
            topic: Some("price.moved".into()),
            attempts: 3,
            at: at.after(Duration::from_millis(3)),
        })),
        ..Metadata::default()
    };
    let headers = &mut envelope.metadata.headers;
    headers.set("tenant", "acme").unwrap();
    headers.set("shard", HeaderValue::Int(i64::MIN + i64::from(number))).unwrap();
    envelope
}

async fn fifty_publishers_and_fifty_consumers(bench: &Bench) {
    const EACH: u32 = 100;
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let consumers = join_all((0..50).map(|_| bench.consume(&queue, 5))).await;
    let publishers = (0..50)
        .map(|publisher| bench.publish_numbers(&topic, publisher * EACH..(publisher + 1) * EACH));
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    for mut deliveries in consumers {
        let arrived = arrived.clone();
        tokio::spawn(async move {
            while let Some(delivery) = deliveries.next().await {
                let _ = arrived.send(number(&delivery));
                delivery.ack();
            }
        });
    }
    join_all(publishers).await;
    let mut numbers = Vec::new();
    while numbers.len() < 5000 {
        numbers.extend(within("all messages", arrivals.recv()).await);
    }
    assert_each_once(numbers, 0..5000);
    bench.counts(&queue, |stats| stats.ready == 0 && stats.unsettled.is_none_or(|n| n == 0)).await;
}

async fn twenty_topics_at_once(bench: &Bench) {
    let one_topic = async |number: u32| {
        let topic = bench.name(&format!("t{number}"));
        let queue = bench.work(&format!("q{number}"), &[&topic]).await;
        let mut deliveries = bench.consume(&queue, 10).await;
        bench.publish_numbers(&topic, 0..100).await;
        assert_eq!(ack_next(&mut deliveries, 100).await, (0..100).collect::<Vec<_>>());
    };
    join_all((0..20).map(one_topic)).await;
}

async fn a_topic_reaches_only_who_is_bound_to_it(bench: &Bench) {
    let topics = [bench.name("one"), bench.name("two")];
    let first = bench.work("first", &[&topics[0]]).await;
    let second = bench.work("second", &[&topics[1]]).await;
    bench.publish_numbers(&topics[0], [1]).await;
    bench.publish_numbers(&topics[1], [2]).await;
    for (queue, expected) in [(first, 1), (second, 2)] {
        let mut deliveries = bench.consume(&queue, 10).await;
        assert_eq!(ack_next(&mut deliveries, 1).await, [expected]);
        silent(&mut deliveries).await;
    }
}

async fn what_nobody_listens_to_comes_back(bench: &Bench) {
    let (topic, nowhere) = (bench.name("t"), bench.name("nowhere"));
    let queue = bench.work("q", &[&topic]).await;
    for to in [
        Destination::Topic(&nowhere),
        Destination::Queue(&nowhere),
        Destination::Reply(&nowhere),
        // The name of a queue is no topic.
        Destination::Topic(&queue),
    ] {
        let sent = described(7);
        match error(within("publish", bench.broker.publish(to, sent.clone())).await) {
            PublishError::Unroutable { envelope, .. } => {
                assert_eq!((envelope.metadata, envelope.payload), (sent.metadata, sent.payload));
            }
            other => panic!("publishing to {to} gave {other:?}"),
        }
    }
    bench.ready(&queue, 0).await;
}

async fn a_message_to_a_queue_keeps_its_topic(bench: &Bench) {
    let queue = bench.work("q", &[]).await;
    let sent = Envelope { topic: Some("price.moved".into()), ..described(1) };
    let to = Destination::Queue(&queue);
    bench.broker.publish(to, sent.clone()).await.expect("the queue takes it");
    bench.broker.publish(to, numbered(2)).await.expect("the queue takes it");
    let mut deliveries = bench.consume(&queue, 10).await;
    let first = next(&mut deliveries).await;
    assert_eq!(*first.envelope(), sent);
    first.ack();
    let second = next(&mut deliveries).await;
    assert_eq!(second.envelope().topic, None);
    second.ack();
}

/// A peer in another language may leave out everything but the body.
async fn a_bare_message_arrives_bare(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish(&topic, Envelope { payload: "body".into(), ..Envelope::default() }).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    let delivery = next(&mut deliveries).await;
    let Envelope { topic: found, metadata, payload } = delivery.envelope();
    assert_eq!((found.as_ref(), &payload[..]), (Some(&topic), &b"body"[..]));
    assert_eq!((&metadata.message_type, &metadata.reply_to), (&None, &None));
    assert!(metadata.headers.is_empty());
    delivery.ack();
}

async fn a_full_queue_refuses_in_the_end(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.bounded("q", 3, &[&topic]).await;
    let broker = bench.connect_impatiently().await;
    let mut taken = 0;
    let refused = loop {
        let started = Instant::now();
        match publish(&*broker, &topic, numbered(taken)).await {
            Ok(()) => taken += 1,
            Err(error) => break (error, started.elapsed()),
        }
        assert!(u64::from(taken) <= 3 + bench.backend.overshoot(), "{taken} messages were taken");
    };
    assert!(taken >= 3, "only {taken} messages were taken");
    match refused {
        (PublishError::Refused { envelope, .. }, waited) => {
            assert_eq!(envelope.payload, numbered(taken).payload);
            assert!(!bench.waits_for_room() || waited >= IMPATIENCE, "after {waited:?}");
        }
        (other, _) => panic!("expected a refusal, got {other:?}"),
    }
    let mut deliveries = bench.consume(&queue, 10).await;
    assert_eq!(ack_next(&mut deliveries, taken as usize).await, (0..taken).collect::<Vec<_>>());
    silent(&mut deliveries).await;
    publish(&*broker, &topic, numbered(9)).await.expect("there is room again");
}

async fn a_publish_waits_for_room_in_a_full_queue(bench: &Bench) {
    if !bench.waits_for_room() {
        return;
    }
    let topic = bench.name("t");
    let queue = bench.bounded("q", 2, &[&topic]).await;
    bench.publish_numbers(&topic, 0..2).await;
    let waiting = bench.publish_numbers(&topic, 2..10);
    let consuming = async {
        let mut deliveries = bench.consume(&queue, 1).await;
        ack_next(&mut deliveries, 10).await
    };
    let ((), numbers) = tokio::join!(waiting, consuming);
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
}

async fn room_is_made_by_purging(bench: &Bench) {
    if !bench.waits_for_room() {
        return;
    }
    let topic = bench.name("t");
    let queue = bench.bounded("q", 1, &[&topic]).await;
    bench.publish_numbers(&topic, [0]).await;
    let waiting = bench.publish_numbers(&topic, [1]);
    let purging = async {
        assert_eq!(bench.broker.purge(&queue).await.expect("the queue is purged"), 1);
    };
    tokio::join!(waiting, purging);
    bench.ready(&queue, 1).await;
}

async fn who_has_room_gets_what_another_refuses(bench: &Bench) {
    let topic = bench.name("t");
    bench.bounded("full", 1, &[&topic]).await;
    let roomy = bench.work("roomy", &[&topic]).await;
    let broker = bench.connect_impatiently().await;
    let mut sent = 0;
    let refused = loop {
        sent += 1;
        match publish(&*broker, &topic, numbered(sent)).await {
            Ok(()) => assert!(u64::from(sent) <= 1 + bench.backend.overshoot()),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, PublishError::Refused { .. }), "{refused:?}");
    let mut deliveries = consume(&*broker, &roomy, 10).await;
    assert_eq!(ack_next(&mut deliveries, sent as usize).await, (1..=sent).collect::<Vec<_>>());
}

async fn a_dropped_publish_leaves_nothing_behind(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.bounded("q", 1, &[&topic]).await;
    bench.publish_numbers(&topic, [0]).await;
    for number in 1..50 {
        let publish = bench.broker.publish(Destination::Topic(&topic), numbered(number));
        let _ = tokio::time::timeout(Duration::from_millis(1), publish).await;
    }
    let mut deliveries = bench.consume(&queue, 100).await;
    // Some may have been taken; whatever was is delivered, and the queue works on.
    bench.publish_numbers(&topic, [99]).await;
    loop {
        let delivery = next(&mut deliveries).await;
        let number = number(&delivery);
        delivery.ack();
        if number == 99 {
            break;
        }
    }
    silent(&mut deliveries).await;
}

async fn publishes_at_once_are_all_confirmed(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let publish = |number| publish(&*bench.broker, &topic, body(format!("{number}")));
    for result in join_all((0..1000).map(publish)).await {
        result.expect("the message is taken");
    }
    bench.ready(&queue, 1000).await;
}

cases! {
    every_message_arrives_with_body_and_metadata,
    fifty_publishers_and_fifty_consumers,
    twenty_topics_at_once,
    a_topic_reaches_only_who_is_bound_to_it,
    what_nobody_listens_to_comes_back,
    a_message_to_a_queue_keeps_its_topic,
    a_bare_message_arrives_bare,
    a_full_queue_refuses_in_the_end,
    a_publish_waits_for_room_in_a_full_queue,
    room_is_made_by_purging,
    who_has_room_gets_what_another_refuses,
    a_dropped_publish_leaves_nothing_behind,
    publishes_at_once_are_all_confirmed,
}
