//! Queues: declared, counted, purged and deleted.

use std::time::Duration;

use agentbus::{
    Name,
    broker::{Destination, PublishError, QueueError, QueueRole, QueueSpec, TopologyError},
};

use crate::bench::{
    Bench, ack_next, consume, error, next, numbered, parse, publish, rest, silent, within,
};

async fn declaring_twice_changes_nothing(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, [1]).await;
    bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, [2]).await;
    let mut deliveries = bench.consume(&queue, 10).await;
    assert_eq!(ack_next(&mut deliveries, 2).await, [1, 2]);
    silent(&mut deliveries).await;
}

async fn declaring_on_two_connections_is_one_queue(bench: &Bench) {
    let topic = bench.name("t");
    let spec = bench.spec("q", bench.work_role("q", 10), &[&topic]);
    let other = bench.connect().await;
    let (ours, theirs) = tokio::join!(bench.broker.declare(&spec), other.declare(&spec));
    ours.expect("declared");
    theirs.expect("declared");
    bench.publish_numbers(&topic, [1]).await;
    let mut deliveries = consume(&*other, &spec.name, 10).await;
    assert_eq!(ack_next(&mut deliveries, 1).await, [1]);
    silent(&mut deliveries).await;
}

async fn declaring_with_more_patterns_adds_them(bench: &Bench) {
    let (first, second) = (bench.name("one"), bench.name("two"));
    bench.work("q", &[&first]).await;
    let queue = bench.work("q", &[&second]).await;
    bench.publish_numbers(&first, [1]).await;
    bench.publish_numbers(&second, [2]).await;
    bench.ready(&queue, 2).await;
}

async fn a_retired_pattern_is_unbound(bench: &Bench) {
    let (old, new) = (bench.name("old"), bench.name("new"));
    let queue = bench.work("q", &[&old]).await;
    let mut spec = bench.spec("q", bench.work_role("q", 1_000_000), &[&new]);
    spec.retired = vec![parse(&old), parse("never.bound")];
    for _ in 0..2 {
        bench.broker.declare(&spec).await.expect("the queue is declared");
    }
    let refused = error(publish(&*bench.broker, &old, numbered(1)).await);
    assert!(matches!(refused, PublishError::Unroutable { .. }), "{refused:?}");
    bench.publish_numbers(&new, [2]).await;
    bench.ready(&queue, 1).await;
}

async fn other_arguments_are_a_mismatch(bench: &Bench) {
    let queue = bench.bounded("q", 10, &[]).await;
    // A connection that has declared nothing, as another program would be.
    let other = bench.connect().await;
    let spec = bench.spec("q", bench.work_role("q", 20), &[]);
    match error(within("declare", other.declare(&spec)).await) {
        TopologyError::Mismatch { queue: named, argument, ours, theirs } => {
            assert_eq!(named, queue);
            assert!(argument.replace('_', "-").contains("max-length"), "{argument}");
            assert!(ours.contains("20") && theirs.contains("10"), "{ours}, {theirs}");
        }
        other => panic!("expected a mismatch, got {other:?}"),
    }
    let spec = bench.spec("q", bench.work_role("q", 10), &[]);
    within("declare", other.declare(&spec)).await.expect("these are its arguments");
}

async fn another_role_is_a_mismatch(bench: &Bench) {
    bench.work("q", &[]).await;
    let role = QueueRole::Private { max_length: 1_000_000, expires: Duration::from_mins(1) };
    let other = bench.connect().await;
    let spec = bench.spec("q", role, &[]);
    let refused = error(within("declare", other.declare(&spec)).await);
    assert!(matches!(refused, TopologyError::Mismatch { .. }), "{refused:?}");
}

async fn bad_names_are_refused(bench: &Bench) {
    let long = "n".repeat(198);
    for name in ["", "amq.mine", "two words", "tab\t", &long] {
        let spec = QueueSpec::new(Name::from(name), bench.work_role("q", 10));
        let refused = error(bench.broker.declare(&spec).await);
        assert!(matches!(refused, TopologyError::InvalidName { .. }), "{name}: {refused:?}");
    }
}

async fn counts_follow_what_happens(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, 0..5).await;
    bench.counts(&queue, |stats| stats.ready == 5 && stats.consumers == 0).await;
    let mut deliveries = bench.consume(&queue, 2).await;
    bench.counts(&queue, |stats| stats.ready == 3 && stats.consumers == 1).await;
    bench.counts(&queue, |stats| stats.unsettled.is_none_or(|unsettled| unsettled == 2)).await;
    ack_next(&mut deliveries, 5).await;
    bench.counts(&queue, |stats| stats.ready == 0 && stats.unsettled.is_none_or(|n| n == 0)).await;
    drop(deliveries);
    bench.counts(&queue, |stats| stats.consumers == 0).await;
}

async fn purging_removes_what_is_ready(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    bench.publish_numbers(&topic, 0..10).await;
    let held = next(&mut deliveries).await;
    bench.ready(&queue, 9).await;
    assert_eq!(bench.broker.purge(&queue).await.expect("the queue is purged"), 9);
    assert_eq!(bench.broker.purge(&queue).await.expect("the queue is purged"), 0);
    held.release();
    assert_eq!(ack_next(&mut deliveries, 1).await, [0]);
    silent(&mut deliveries).await;
}

async fn a_deleted_queue_is_gone_with_its_bindings(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, 0..3).await;
    bench.broker.delete(&queue).await.expect("the queue is deleted");
    bench.broker.delete(&queue).await.expect("deleting it again is fine");
    let refused = error(publish(&*bench.broker, &topic, numbered(1)).await);
    assert!(matches!(refused, PublishError::Unroutable { .. }), "{refused:?}");
    let missing = error(bench.broker.stats(&queue).await);
    assert!(matches!(missing, QueueError::NotFound { .. }), "{missing:?}");
    // It can be made anew, even otherwise, and is empty.
    let queue = bench.bounded("q", 7, &[&topic]).await;
    bench.ready(&queue, 0).await;
    bench.publish_numbers(&topic, [4]).await;
    bench.ready(&queue, 1).await;
}

async fn deleting_ends_the_consumers(bench: &Bench) {
    let queue = bench.work("q", &[]).await;
    let deliveries = bench.consume(&queue, 1).await;
    bench.broker.delete(&queue).await.expect("the queue is deleted");
    assert!(rest(deliveries).await.is_empty());
}

async fn a_missing_queue_is_an_error(bench: &Bench) {
    let missing = bench.name("missing");
    let errors = [
        error(within("stats", bench.broker.stats(&missing)).await),
        error(within("purge", bench.broker.purge(&missing)).await),
        error(within("consume", bench.broker.consume(&missing, 1)).await),
    ];
    for error in errors {
        match error {
            QueueError::NotFound { queue } => assert_eq!(missing, queue.as_str()),
            other => panic!("expected `NotFound`, got {other:?}"),
        }
    }
    // The connection is as good as before.
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, [1]).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    assert_eq!(ack_next(&mut deliveries, 1).await, [1]);
}

async fn a_replicas_queue_vanishes_after_its_consumer(bench: &Bench) {
    let (topic, expires) = (bench.name("t"), Duration::from_secs(1));
    let dead_letters = bench.name("data.dlq");
    let role =
        |max_length| QueueRole::Replica { dead_letters: dead_letters.clone(), max_length, expires };
    let used = bench.queue("data.1", role(100), &[&topic]).await;
    let unused = bench.queue("data.2", role(100), &[&topic]).await;
    let deliveries = bench.consume(&used, 1).await;
    vanishes(bench, &unused).await;
    assert!(bench.broker.stats(&used).await.is_ok(), "it has a consumer");
    drop(deliveries);
    vanishes(bench, &used).await;
    let refused = error(publish(&*bench.broker, &topic, numbered(1)).await);
    assert!(matches!(refused, PublishError::Unroutable { .. }), "{refused:?}");
}

async fn who_watches_refuses_nobody_and_counts_what_it_dropped(bench: &Bench) {
    let topic = bench.name("t");
    let role = |max_length, dropped| QueueRole::Watch {
        max_length,
        max_bytes: 1 << 20,
        expires: Duration::from_mins(1),
        dropped,
    };
    let dropped = bench.spec("q.dropped", role(100, None), &[]);
    let watch = bench.spec("q", role(3, Some(dropped.name.clone())), &[&topic]);
    for spec in [&dropped, &watch, &watch] {
        within("declare", bench.broker.declare(spec)).await.expect("it is declared");
    }
    bench.publish_numbers(&topic, 0..10).await;
    bench.ready(&watch.name, 3).await;
    bench.ready(&dropped.name, 7).await;
    assert_eq!(bench.broker.purge(&dropped.name).await.expect("it is purged"), 7);
    let mut deliveries = bench.consume(&watch.name, 10).await;
    assert_eq!(ack_next(&mut deliveries, 3).await, [7, 8, 9]);
    silent(&mut deliveries).await;
}

/// Waits until a queue is no more. Publishing asks, since counting might count as use.
async fn vanishes(bench: &Bench, queue: &Name) {
    within("the end of an unused queue", async {
        while bench.broker.publish(Destination::Queue(queue), numbered(1)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

cases! {
    declaring_twice_changes_nothing,
    declaring_on_two_connections_is_one_queue,
    declaring_with_more_patterns_adds_them,
    a_retired_pattern_is_unbound,
    other_arguments_are_a_mismatch,
    another_role_is_a_mismatch,
    bad_names_are_refused,
    counts_follow_what_happens,
    purging_removes_what_is_ready,
    a_deleted_queue_is_gone_with_its_bindings,
    deleting_ends_the_consumers,
    a_missing_queue_is_an_error,
    a_replicas_queue_vanishes_after_its_consumer,
    who_watches_refuses_nobody_and_counts_what_it_dropped,
}
