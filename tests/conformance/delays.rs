//! Delayed messages: delivered when they are due, and never before.

use std::time::{Duration, Instant};

use agentbus::{Name, broker::Destination, message::Timestamp};

use crate::bench::{
    Bench, ack_next, assert_each_once, consume, due_in, next, number, numbered, silent, within,
};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn a_delayed_message_is_never_early(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut deliveries = bench.consume(&queue, 10).await;
    for to in [Destination::Topic(&topic), Destination::Queue(&queue)] {
        let (sent, started) = (due_in(millis(700), 1), Instant::now());
        bench.broker.publish(to, sent.clone()).await.expect("it is held");
        silent(&mut deliveries).await;
        let delivery = next(&mut deliveries).await;
        // A timestamp has whole milliseconds.
        assert!(started.elapsed() >= millis(699), "early, after {:?}", started.elapsed());
        assert_eq!(delivery.envelope().metadata, sent.metadata, "when it was due is still known");
        assert!(!delivery.is_redelivered());
        delivery.ack();
    }
}

async fn messages_arrive_in_the_order_they_are_due(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut deliveries = bench.consume(&queue, 10).await;
    for (delay, number) in [(2100, 4), (700, 2), (1400, 3)] {
        bench.publish(&topic, due_in(millis(delay), number)).await;
    }
    bench.publish_numbers(&topic, [1]).await;
    assert_eq!(ack_next(&mut deliveries, 4).await, [1, 2, 3, 4]);
}

async fn what_is_due_already_is_delivered_at_once(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut deliveries = bench.consume(&queue, 10).await;
    for (number, due) in (0..).zip([Timestamp::from_millis(0), Timestamp::now()]) {
        let mut sent = numbered(number);
        sent.metadata.due_at = Some(due);
        bench.publish(&topic, sent).await;
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.envelope().metadata.due_at, Some(due));
        delivery.ack();
    }
}

async fn a_delayed_message_waits_in_nobodys_way(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.bounded("q", 1, &[&topic]).await;
    for number in 0..20 {
        bench.publish(&topic, due_in(Duration::from_hours(1), number)).await;
    }
    bench.publish_numbers(&topic, [99]).await;
    let mut deliveries = bench.consume(&queue, 10).await;
    assert_eq!(ack_next(&mut deliveries, 1).await, [99]);
    silent(&mut deliveries).await;
}

async fn a_delayed_message_is_routed_by_patterns(bench: &Bench) {
    let topic = bench.name("price.moved");
    let prefix = bench.name("#");
    let all = bench.work("all", &[&prefix]).await;
    let one = bench.work("one", &[&topic]).await;
    bench.publish(&topic, due_in(millis(500), 1)).await;
    for queue in [all, one] {
        let mut deliveries = bench.consume(&queue, 10).await;
        let delivery = next(&mut deliveries).await;
        assert_eq!((number(&delivery), delivery.envelope().topic.as_ref()), (1, Some(&topic)));
        delivery.ack();
        silent(&mut deliveries).await;
    }
}

async fn what_nobody_is_bound_to_when_due_is_kept_aside(bench: &Bench) {
    let nowhere = bench.name("nowhere");
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    // More than a level of RabbitMQ hands on at a time, on the way that the good one takes.
    for number in 0..100 {
        bench.publish(&nowhere, due_in(millis(500), number)).await;
        let to = Destination::Queue(&nowhere);
        bench.broker.publish(to, due_in(millis(500), 100 + number)).await.expect("it is held");
    }
    // The others are neither lost nor late for it.
    bench.publish(&topic, due_in(millis(700), 1)).await;
    let mut deliveries = bench.consume(&queue, 10).await;
    assert_eq!(ack_next(&mut deliveries, 1).await, [1]);

    let undeliverable = bench.backend.undeliverable();
    let aside = async {
        let stats = async || bench.broker.stats(&undeliverable).await;
        let all = async || stats().await.is_ok_and(|stats| stats.ready >= 200);
        while !all().await {
            tokio::time::sleep(millis(50)).await;
        }
    };
    within("two hundred undeliverable messages", aside).await;
    let mut kept = consume(&*bench.broker, &undeliverable, 200).await;
    assert_each_once(ack_next(&mut kept, 200).await, 0..200);
}

async fn what_was_undeliverable_comes_when_its_queue_is_there(bench: &Bench) {
    let (topic, queue, other) = (bench.name("t.x"), bench.name("q"), bench.name("other"));
    let mut sent = Vec::new();
    for (to, number) in [
        (Destination::Topic(&topic), 1),
        (Destination::Queue(&queue), 2),
        (Destination::Queue(&other), 3),
        (Destination::Topic(&other), 4),
    ] {
        let mut envelope = due_in(millis(300), number);
        envelope.metadata.message_id = Some(format!("id-{number}").into());
        envelope.metadata.attempt = Some(3);
        bench.broker.publish(to, envelope.clone()).await.expect("it is held");
        sent.push(envelope);
    }
    let undeliverable = bench.backend.undeliverable();
    let holds = async |count| {
        let stats = async || bench.broker.stats(&undeliverable).await;
        while !stats().await.is_ok_and(|stats| stats.ready == count) {
            tokio::time::sleep(millis(50)).await;
        }
    };
    within("four undeliverable messages", holds(4)).await;

    let pattern = bench.name("t.*");
    bench.work("q", &[&pattern]).await;
    let mut deliveries = bench.consume(&queue, 10).await;
    let mut came = Vec::new();
    for _ in 0..2 {
        let delivery = next(&mut deliveries).await;
        let number = number(&delivery);
        let as_sent = &sent[number as usize - 1].metadata;
        assert_eq!(&delivery.envelope().metadata, as_sent, "it is as it was");
        came.push(number);
        delivery.ack();
    }
    assert_each_once(came, 1..3);
    // What belongs to others is left to them.
    within("two undeliverable messages", holds(2)).await;
    silent(&mut deliveries).await;
    let mut kept = consume(&*bench.broker, &undeliverable, 10).await;
    assert_each_once(ack_next(&mut kept, 2).await, 3..5);
}

async fn who_binds_before_it_is_due_gets_it(bench: &Bench) {
    let topic: Name = bench.name("t");
    bench.publish(&topic, due_in(millis(1500), 1)).await;
    let queue = bench.work("q", &[&topic]).await;
    let mut deliveries = bench.consume(&queue, 10).await;
    assert_eq!(ack_next(&mut deliveries, 1).await, [1]);
}

async fn a_delayed_message_outlives_its_connection(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let broker = bench.connect().await;
    let held = broker.publish(Destination::Topic(&topic), due_in(millis(500), 1)).await;
    held.expect("it is held");
    broker.close().await;
    drop(broker);
    let mut deliveries = bench.consume(&queue, 10).await;
    assert_eq!(ack_next(&mut deliveries, 1).await, [1]);
}

cases! {
    a_delayed_message_is_never_early,
    messages_arrive_in_the_order_they_are_due,
    what_is_due_already_is_delivered_at_once,
    a_delayed_message_waits_in_nobodys_way,
    a_delayed_message_is_routed_by_patterns,
    what_nobody_is_bound_to_when_due_is_kept_aside,
    what_was_undeliverable_comes_when_its_queue_is_there,
    who_binds_before_it_is_due_gets_it,
    a_delayed_message_outlives_its_connection,
}
