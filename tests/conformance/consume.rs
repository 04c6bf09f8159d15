//! Consuming: order, fairness, prefetch, and consumers that come and go.

use std::collections::HashSet;

use futures::future::join_all;
use tokio::sync::mpsc;

use crate::bench::{
    Bench, ack_next, assert_each_once, consume, next, number, numbered, rest, silent, within,
};

async fn one_consumer_sees_the_order_of_one_publisher(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut deliveries = bench.consume(&queue, 16).await;
    let publishing = bench.publish_numbers(&topic, 0..1000);
    let ((), numbers) = tokio::join!(publishing, ack_next(&mut deliveries, 1000));
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
}

async fn a_backlog_is_delivered_in_order(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, 0..200).await;
    let mut deliveries = bench.consume(&queue, 7).await;
    assert_eq!(ack_next(&mut deliveries, 200).await, (0..200).collect::<Vec<_>>());
}

async fn competing_consumers_share_the_work(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    for consumer in 0..3 {
        let mut deliveries = bench.consume(&queue, 1).await;
        let arrived = arrived.clone();
        tokio::spawn(async move {
            while let Some(delivery) = deliveries.next().await {
                let _ = arrived.send((consumer, number(&delivery)));
                tokio::task::yield_now().await;
                delivery.ack();
            }
        });
    }
    bench.publish_numbers(&topic, 0..300).await;
    let (mut numbers, mut busy) = (Vec::new(), HashSet::new());
    while numbers.len() < 300 {
        let (consumer, number) = within("all messages", arrivals.recv()).await.unwrap();
        numbers.push(number);
        busy.insert(consumer);
    }
    assert_each_once(numbers, 0..300);
    assert_eq!(busy.len(), 3, "a consumer got nothing");
}

async fn idle_consumers_are_served_in_turn(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut consumers = join_all((0..4).map(|_| bench.consume(&queue, 10))).await;
    bench.publish_numbers(&topic, 0..12).await;
    let mut numbers = Vec::new();
    for deliveries in &mut consumers {
        numbers.extend(ack_next(deliveries, 3).await);
        silent(deliveries).await;
    }
    assert_each_once(numbers, 0..12);
}

async fn every_replica_gets_its_copy(bench: &Bench) {
    let topic = bench.name("t");
    let mut replicas = Vec::new();
    for number in 0..3 {
        let queue = bench.private(&format!("q.{number}"), &[&topic]).await;
        replicas.push(bench.consume(&queue, 10).await);
    }
    bench.publish_numbers(&topic, 0..50).await;
    for deliveries in &mut replicas {
        assert_eq!(ack_next(deliveries, 50).await, (0..50).collect::<Vec<_>>());
        silent(deliveries).await;
    }
}

async fn every_group_gets_all_and_shares_it(bench: &Bench) {
    let topic = bench.name("t");
    let groups = [bench.work("one", &[&topic]).await, bench.work("two", &[&topic]).await];
    bench.publish_numbers(&topic, 0..50).await;
    for group in groups {
        let mut consumers = join_all((0..2).map(|_| bench.consume(&group, 1))).await;
        let (second, first) = (consumers.pop().unwrap(), consumers.pop().unwrap());
        let merged = futures::stream::select(first, second);
        let numbers = within("all messages of a group", async {
            use futures::StreamExt as _;
            let settle = |delivery: agentbus::broker::Delivery| {
                let number = number(&delivery);
                delivery.ack();
                number
            };
            merged.map(settle).take(50).collect::<Vec<_>>().await
        });
        assert_each_once(numbers.await, 0..50);
    }
}

async fn prefetch_is_respected_exactly(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut deliveries = bench.consume(&queue, 5).await;
    bench.publish_numbers(&topic, 0..20).await;
    let mut held = Vec::new();
    for expected in 0..5 {
        held.push(next(&mut deliveries).await);
        assert_eq!(number(&held[expected as usize]), expected);
    }
    silent(&mut deliveries).await;
    // In any order: it is the number of unsettled ones that counts.
    held.remove(3).ack();
    held.remove(0).ack();
    assert_eq!(number(&next(&mut deliveries).await), 5, "dropped, so it comes again later");
    held.push(next(&mut deliveries).await);
    held.push(next(&mut deliveries).await);
    silent(&mut deliveries).await;
}

async fn the_next_waits_for_the_ack(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    bench.publish_numbers(&topic, 0..2).await;
    let first = next(&mut deliveries).await;
    silent(&mut deliveries).await;
    first.ack();
    assert_eq!(ack_next(&mut deliveries, 1).await, [1]);
}

async fn one_slow_delivery_stalls_nobody(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut deliveries = bench.consume(&queue, 8).await;
    bench.publish_numbers(&topic, 0..500).await;
    let slow = next(&mut deliveries).await;
    assert_eq!(ack_next(&mut deliveries, 499).await, (1..500).collect::<Vec<_>>());
    assert_eq!(number(&slow), 0);
    slow.ack();
    bench.counts(&queue, |stats| stats.ready == 0 && stats.unsettled.is_none_or(|n| n == 0)).await;
}

async fn none_is_lost_while_consumers_come_and_go(bench: &Bench) {
    const MESSAGES: u32 = 2000;
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    bench.publish_numbers(&topic, 0..MESSAGES).await;
    let mut seen = HashSet::new();
    for _ in 0..20 {
        let mut deliveries = bench.consume(&queue, 50).await;
        for _ in 0..100 {
            // What is left in the queue may all be settled by now.
            if seen.len() == MESSAGES as usize {
                break;
            }
            let delivery = next(&mut deliveries).await;
            seen.insert(number(&delivery));
            delivery.ack();
        }
    }
    let mut deliveries = bench.consume(&queue, 50).await;
    while seen.len() < MESSAGES as usize {
        let delivery = next(&mut deliveries).await;
        seen.insert(number(&delivery));
        delivery.ack();
    }
    assert_each_once(seen.into_iter().collect(), 0..MESSAGES);
}

async fn consumers_open_and_close_at_once(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let open_and_close = async |number: u32| {
        let deliveries = bench.consume(&queue, 3).await;
        if number.is_multiple_of(2) {
            deliveries.cancel();
            rest(deliveries).await;
        }
    };
    join_all((0..10).map(open_and_close)).await;
    let mut deliveries = bench.consume(&queue, 10).await;
    bench.publish_numbers(&topic, 0..50).await;
    let mut seen = HashSet::new();
    while seen.len() < 50 {
        let delivery = next(&mut deliveries).await;
        seen.insert(number(&delivery));
        delivery.ack();
    }
}

async fn a_cancelled_consumer_gets_no_more(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut deliveries = bench.consume(&queue, 2).await;
    bench.publish_numbers(&topic, 0..5).await;
    let held = next(&mut deliveries).await;
    deliveries.cancel();
    // What was sent before still comes, and is settled as ever.
    let mut last = rest(deliveries).await;
    assert!(last.len() <= 1, "{last:?}");
    held.ack();
    let settled: Vec<u32> = std::iter::once(0).chain(last.iter().map(number)).collect();
    last.drain(..).for_each(agentbus::broker::Delivery::ack);

    let mut again = bench.consume(&queue, 10).await;
    let remaining: Vec<u32> = (0..5).filter(|number| !settled.contains(number)).collect();
    assert_eq!(ack_next(&mut again, remaining.len()).await, remaining);
    silent(&mut again).await;
}

async fn a_dropped_consumer_gives_back_what_it_did_not_take(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut first = bench.consume(&queue, 10).await;
    bench.publish_numbers(&topic, 0..10).await;
    let held = next(&mut first).await;
    drop(first);
    bench.ready(&queue, 9).await;
    if !bench.backend.counts_cancelled_consumers() {
        bench.counts(&queue, |stats| stats.consumers == 0).await;
    }
    held.ack();
    bench.counts(&queue, |stats| stats.consumers == 0).await;
    let mut second = bench.consume(&queue, 10).await;
    let mut rest = ack_next(&mut second, 9).await;
    if !bench.backend.keeps_places() {
        rest.sort_unstable();
    }
    assert_eq!(rest, (1..10).collect::<Vec<_>>());
    silent(&mut second).await;
}

async fn a_new_consumer_works_after_the_last_was_cancelled(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    for round in 0..5 {
        let mut deliveries = bench.consume(&queue, 20).await;
        bench.publish_numbers(&topic, round * 20..(round + 1) * 20).await;
        let expected = (round * 20..(round + 1) * 20).collect::<Vec<_>>();
        assert_eq!(ack_next(&mut deliveries, 20).await, expected);
        deliveries.cancel();
        assert!(rest(deliveries).await.is_empty());
    }
}

async fn a_dropped_wait_takes_no_delivery_with_it(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    for number in 0..50 {
        let waiting = deliveries.next();
        let mut publishing = std::pin::pin!(bench.publish(&topic, numbered(number)));
        tokio::select! {
            biased;
            () = &mut publishing => {}
            // May be first; what it took is then released, and comes again.
            taken = waiting => {
                drop(taken);
                publishing.await;
            }
        }
    }
    let mut seen = HashSet::new();
    while seen.len() < 50 {
        let delivery = next(&mut deliveries).await;
        seen.insert(number(&delivery));
        delivery.ack();
    }
}

async fn none_is_lost_when_everything_happens_at_once(bench: &Bench) {
    const EACH: u32 = 500;
    let topic = bench.name("t");
    // A full queue is part of it where publishers wait for room.
    let room = if bench.waits_for_room() { 200 } else { 1_000_000 };
    let queue = bench.bounded("q", room, &[&topic]).await;
    let publishers = (0..4).map(|publisher| async move {
        let topic = bench.name("t");
        bench.publish_numbers(&topic, publisher * EACH..(publisher + 1) * EACH).await;
    });
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (broker, queue, arrived) = (bench.broker.clone(), queue.clone(), arrived.clone());
        consumers.spawn(async move {
            loop {
                let mut deliveries = consume(&*broker, &queue, fastrand::u16(1..20)).await;
                while let Some(delivery) = deliveries.next().await {
                    match fastrand::u32(..100) {
                        0 => break,
                        1 => deliveries.cancel(),
                        2..10 => delivery.release(),
                        10..15 => drop(delivery),
                        15..20 => {
                            tokio::task::yield_now().await;
                            delivery.release();
                        }
                        _ => {
                            let number = number(&delivery);
                            delivery.ack();
                            let _ = arrived.send(number);
                        }
                    }
                }
            }
        });
    }
    let collecting = async {
        let mut seen = HashSet::new();
        while seen.len() < 4 * EACH as usize {
            seen.extend(within("all messages", arrivals.recv()).await);
        }
    };
    tokio::join!(join_all(publishers), collecting);
    consumers.shutdown().await;
    bench.counts(&queue, |stats| stats.ready == 0 && stats.consumers == 0).await;
}

cases! {
    none_is_lost_when_everything_happens_at_once,
    one_consumer_sees_the_order_of_one_publisher,
    a_backlog_is_delivered_in_order,
    competing_consumers_share_the_work,
    idle_consumers_are_served_in_turn,
    every_replica_gets_its_copy,
    every_group_gets_all_and_shares_it,
    prefetch_is_respected_exactly,
    the_next_waits_for_the_ack,
    one_slow_delivery_stalls_nobody,
    none_is_lost_while_consumers_come_and_go,
    consumers_open_and_close_at_once,
    a_cancelled_consumer_gets_no_more,
    a_dropped_consumer_gives_back_what_it_did_not_take,
    a_new_consumer_works_after_the_last_was_cancelled,
    a_dropped_wait_takes_no_delivery_with_it,
}
