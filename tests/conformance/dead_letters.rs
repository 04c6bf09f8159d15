//! Dead-letter queues: bounded in time, number and size.

use std::time::{Duration, Instant};

use agentbus::broker::{DeadLetterLimits, Destination, Overflow, PublishError};

use crate::bench::{Bench, ack_next, body, next, number, numbered, silent, within};

async fn a_dead_letter_goes_when_its_time_is_over(bench: &Bench) {
    let ttl = Duration::from_secs(1);
    let limits = DeadLetterLimits { ttl, ..DeadLetterLimits::default() };
    let queue = bench.dead_letters("q.dlq", limits).await;
    let started = Instant::now();
    for number in 0..3 {
        bench.broker.publish(Destination::Queue(&queue), numbered(number)).await.expect("kept");
    }
    bench.counts(&queue, |stats| stats.ready == 3 || started.elapsed() >= ttl).await;
    bench.ready(&queue, 0).await;
    assert!(started.elapsed() >= ttl, "early, after {:?}", started.elapsed());
    let mut deliveries = bench.consume(&queue, 10).await;
    silent(&mut deliveries).await;
}

/// How long a message may wait for its agent is nobody's to limit.
async fn the_time_of_dead_letters_is_not_that_of_work(bench: &Bench) {
    let ttl = Duration::from_secs(1);
    let limits = DeadLetterLimits { ttl, ..DeadLetterLimits::default() };
    let dead = bench.dead_letters("q.dlq", limits).await;
    let topic = bench.name("t");
    let queue = bench.queue("q", bench.work_role("q", 1_000_000), &[&topic]).await;
    bench.publish_numbers(&topic, 0..3).await;
    bench.broker.publish(Destination::Queue(&dead), numbered(9)).await.expect("kept");
    // What went before it was there longer.
    bench.ready(&dead, 0).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    assert_eq!(ack_next(&mut deliveries, 3).await, [0, 1, 2]);
    silent(&mut deliveries).await;
    // What the broker itself gives up on is kept no longer than the others.
    bench.publish_numbers(&topic, [3]).await;
    for _ in 0..101 {
        next(&mut deliveries).await.release();
    }
    silent(&mut deliveries).await;
    bench.ready(&dead, 0).await;
    bench.ready(&queue, 0).await;
}

async fn the_dead_letters_of_one_queue_are_not_those_of_another(bench: &Bench) {
    let topic = bench.name("t");
    let (one, two) = (bench.work("one", &[&topic]).await, bench.work("two", &[&topic]).await);
    bench.publish_numbers(&topic, [1]).await;
    let mut deliveries = bench.consume(&one, 1).await;
    for _ in 0..101 {
        next(&mut deliveries).await.release();
    }
    bench.ready(&bench.name("one.dlq"), 1).await;
    bench.ready(&two, 1).await;
    bench.ready(&bench.name("two.dlq"), 0).await;
}

async fn looking_at_a_dead_letter_does_not_wear_it_out(bench: &Bench) {
    let queue = bench.dead_letters("q.dlq", DeadLetterLimits::default()).await;
    bench.broker.publish(Destination::Queue(&queue), numbered(1)).await.expect("kept");
    let mut deliveries = bench.consume(&queue, 1).await;
    for _ in 0..150 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(number(&delivery), 1);
        delivery.release();
    }
    assert_eq!(ack_next(&mut deliveries, 1).await, [1]);
}

/// Publishes to a queue until it refuses, and returns how many it took.
async fn fill(bench: &Bench, queue: &str, bytes: usize, most: u64) -> u64 {
    let broker = bench.connect_impatiently().await;
    let mut taken = 0;
    loop {
        let message = body(vec![0; bytes]);
        match within("publish", broker.publish(Destination::Queue(queue), message)).await {
            Ok(()) => taken += 1,
            Err(PublishError::Refused { .. }) => return taken,
            Err(other) => panic!("{other}"),
        }
        assert!(taken <= most, "{taken} messages were taken, at most {most} were expected");
    }
}

async fn a_full_one_refuses_by_number(bench: &Bench) {
    let limits = DeadLetterLimits { max_length: 5, ..DeadLetterLimits::default() };
    let queue = bench.dead_letters("q.dlq", limits).await;
    let taken = fill(bench, &queue, 4, 5 + bench.backend.overshoot()).await;
    assert!(taken >= 5, "only {taken} messages were taken");
    bench.ready(&queue, taken).await;
}

async fn a_full_one_refuses_by_size(bench: &Bench) {
    let limits = DeadLetterLimits { max_bytes: 10_000, ..DeadLetterLimits::default() };
    let queue = bench.dead_letters("q.dlq", limits).await;
    let taken = fill(bench, &queue, 1000, 10 + bench.backend.overshoot()).await;
    // Engines may count headers as well.
    assert!(taken >= 5, "only {taken} messages were taken");
    bench.ready(&queue, taken).await;
}

async fn a_full_one_may_drop_the_oldest(bench: &Bench) {
    let limits = DeadLetterLimits {
        max_length: 5,
        overflow: Overflow::DropOldest,
        ..DeadLetterLimits::default()
    };
    let queue = bench.dead_letters("q.dlq", limits).await;
    for number in 0..20 {
        bench.broker.publish(Destination::Queue(&queue), numbered(number)).await.expect("kept");
    }
    bench.ready(&queue, 5).await;
    let mut deliveries = bench.consume(&queue, 10).await;
    assert_eq!(ack_next(&mut deliveries, 5).await, (15..20).collect::<Vec<_>>());
}

cases! {
    a_dead_letter_goes_when_its_time_is_over,
    the_time_of_dead_letters_is_not_that_of_work,
    the_dead_letters_of_one_queue_are_not_those_of_another,
    looking_at_a_dead_letter_does_not_wear_it_out,
    a_full_one_refuses_by_number,
    a_full_one_refuses_by_size,
    a_full_one_may_drop_the_oldest,
}
