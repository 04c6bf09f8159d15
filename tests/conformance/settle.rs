//! Settling: what is acked is gone, what is not comes again and says so.

use std::collections::HashMap;

use futures::future::join_all;

use crate::bench::{Bench, ack_next, assert_each_once, consume, next, number, silent};

async fn an_acked_message_never_returns(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, 0..10).await;
    let other = bench.connect().await;
    let mut deliveries = consume(&*other, &queue, 10).await;
    ack_next(&mut deliveries, 10).await;
    bench.counts(&queue, |stats| stats.ready == 0 && stats.unsettled.is_none_or(|n| n == 0)).await;
    drop(deliveries);
    other.close().await;
    let mut again = bench.consume(&queue, 10).await;
    silent(&mut again).await;
}

async fn a_released_message_comes_again_marked(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, 0..100).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    for expected in 0..100 {
        for round in 0..3 {
            let delivery = next(&mut deliveries).await;
            assert_eq!((number(&delivery), delivery.is_redelivered()), (expected, round > 0));
            assert_eq!(delivery.returns(), Some(round));
            if round < 2 { delivery.release() } else { delivery.ack() }
        }
    }
    silent(&mut deliveries).await;
}

async fn a_dropped_delivery_is_released(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, [7]).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    drop(next(&mut deliveries).await);
    let again = next(&mut deliveries).await;
    assert_eq!((number(&again), again.is_redelivered()), (7, true));
    again.ack();
}

async fn what_is_released_takes_its_old_place(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, 0..6).await;
    let mut deliveries = bench.consume(&queue, 4).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(next(&mut deliveries).await);
    }
    deliveries.cancel();
    assert!(crate::bench::rest(deliveries).await.is_empty());
    for at in [2, 0, 1, 0] {
        held.remove(at).release();
    }
    bench.ready(&queue, 6).await;
    let mut again = bench.consume(&queue, 10).await;
    // Released were 2, 0, 3 and 1.
    let order = if bench.backend.keeps_places() { [0, 1, 2, 3, 4, 5] } else { [2, 0, 3, 1, 4, 5] };
    for expected in order {
        let delivery = next(&mut again).await;
        assert_eq!((number(&delivery), delivery.is_redelivered()), (expected, expected < 4));
        delivery.ack();
    }
}

async fn what_one_consumer_releases_another_gets(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, [1]).await;
    let mut first = bench.consume(&queue, 1).await;
    let held = next(&mut first).await;
    let mut second = bench.consume(&queue, 1).await;
    first.cancel();
    held.release();
    let delivery = next(&mut second).await;
    assert!(delivery.is_redelivered());
    delivery.ack();
}

async fn all_arrive_in_spite_of_errors(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, 0..50).await;
    let mut consumers = join_all((0..3).map(|_| bench.consume(&queue, 10))).await;
    let mut releases: HashMap<u32, u32> = HashMap::new();
    let mut acked = Vec::new();
    let mut turn = 0;
    while acked.len() < 50 {
        turn += 1;
        let deliveries = &mut consumers[turn % 3];
        let wait = std::time::Duration::from_millis(20);
        let Ok(delivery) = tokio::time::timeout(wait, deliveries.next()).await else {
            // The others may have it all.
            assert!(turn < 5000, "only {} of 50 messages arrived", acked.len());
            continue;
        };
        let delivery = delivery.expect("the stream goes on");
        let count = releases.entry(number(&delivery)).or_default();
        if *count < 6 {
            *count += 1;
            delivery.release();
        } else {
            acked.push(number(&delivery));
            delivery.ack();
        }
    }
    assert_each_once(acked, 0..50);
}

async fn settling_in_any_order_settles_each(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, 0..64).await;
    let mut deliveries = bench.consume(&queue, 64).await;
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(next(&mut deliveries).await);
    }
    deliveries.cancel();
    drop(deliveries);
    fastrand::shuffle(&mut held);
    let mut released = Vec::new();
    for delivery in held {
        if fastrand::bool() {
            released.push(number(&delivery));
            delivery.release();
        } else {
            delivery.ack();
        }
    }
    released.sort_unstable();
    let mut again = bench.consume(&queue, 64).await;
    let mut numbers = ack_next(&mut again, released.len()).await;
    if !bench.backend.keeps_places() {
        numbers.sort_unstable();
    }
    assert_eq!(numbers, released);
    silent(&mut again).await;
}

async fn changes_to_an_envelope_are_not_kept_by_a_release(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, [1]).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    let mut delivery = next(&mut deliveries).await;
    let before = delivery.envelope().clone();
    delivery.envelope_mut().payload = "changed".into();
    delivery.envelope_mut().metadata.headers.set("tenant", "acme").unwrap();
    delivery.release();
    let again = next(&mut deliveries).await;
    assert_eq!(*again.envelope(), before);
    again.ack();
}

async fn what_comes_back_too_often_becomes_a_dead_letter(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, [1]).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    for _ in 0..101 {
        next(&mut deliveries).await.release();
    }
    silent(&mut deliveries).await;
    let mut dead = bench.consume(&bench.name("q.dlq"), 1).await;
    let delivery = next(&mut dead).await;
    assert_eq!((number(&delivery), delivery.envelope().topic.as_ref()), (1, Some(&topic)));
    delivery.ack();
    bench.publish_numbers(&topic, [2]).await;
    assert_eq!(ack_next(&mut deliveries, 1).await, [2]);
}

cases! {
    an_acked_message_never_returns,
    a_released_message_comes_again_marked,
    a_dropped_delivery_is_released,
    what_is_released_takes_its_old_place,
    what_one_consumer_releases_another_gets,
    all_arrive_in_spite_of_errors,
    settling_in_any_order_settles_each,
    changes_to_an_envelope_are_not_kept_by_a_release,
    what_comes_back_too_often_becomes_a_dead_letter,
}
