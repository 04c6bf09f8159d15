//! Priorities: the order of a queue that sorts by them, strictly or by lanes.

use std::time::Duration;

use agentbus::{
    Envelope, Name,
    broker::{Deliveries, Destination, QueueError, TopologyError},
    message::{Failure, FailureKind, Priorities, Priority, Timestamp},
};

use crate::bench::{
    Bench, ack_next, assert_each_once, consume, due_in, error, next, number, numbered, within,
};

const BOTH: [Priorities; 2] = [Priorities::Strict, Priorities::Lanes];

async fn strict_order_goes_by_priority_then_by_age(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.ordered("q", Priorities::Strict, &[&topic]).await;
    let levels = [Some(1), Some(4), Some(10), None, Some(5), Some(9), Some(10), Some(6), Some(2)];
    for (number, level) in (0..).zip(levels) {
        bench.publish(&topic, at(level, number)).await;
    }
    bench.ready(&queue, 9).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    assert_eq!(ack_next(&mut deliveries, 9).await, [2, 6, 5, 7, 3, 4, 1, 8, 0]);
}

async fn what_is_urgent_overtakes_what_waits(bench: &Bench) {
    for (name, order) in [("strict", Priorities::Strict), ("lanes", Priorities::Lanes)] {
        let topic = bench.name(name);
        let queue = bench.ordered(name, order, &[&topic]).await;
        for number in 0..200 {
            bench.publish(&topic, at(Some(2), number)).await;
        }
        let mut deliveries = bench.consume(&queue, 2).await;
        let held = [next(&mut deliveries).await, next(&mut deliveries).await];
        bench.publish(&topic, at(Some(10), 1000)).await;
        sent(bench, &queue, "urgent").await;
        for delivery in held {
            delivery.ack();
        }
        let rest = ack_next(&mut deliveries, 199).await;
        let overtakes = rest.iter().position(|number| *number == 1000).expect("it arrives");
        assert!(overtakes < 198, "the urgent one came last");
        assert_each_once(rest, (2..200).chain([1000]));
    }
}

async fn nothing_starves_in_lanes(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.ordered("q", Priorities::Lanes, &[&topic]).await;
    for number in 0..200 {
        bench.publish(&topic, at(Some(10), number)).await;
    }
    for (number, level) in [(1000, Some(1)), (1001, None), (1002, Some(7))] {
        bench.publish(&topic, at(level, number)).await;
    }
    bench.ready(&queue, 203).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    let held = next(&mut deliveries).await;
    for lane in ["low", "high"] {
        sent(bench, &queue, lane).await;
    }
    let mut order = vec![number(&held)];
    held.ack();
    order.extend(ack_next(&mut deliveries, 202).await);
    let last_urgent = order.iter().rposition(|number| *number < 200).expect("they arrive");
    for other in [1000, 1002] {
        let at = order.iter().position(|number| *number == other).expect("it arrives");
        assert!(at < last_urgent, "{other} came after all that was urgent");
    }
    let urgent: Vec<_> = order.iter().copied().filter(|number| *number < 200).collect();
    assert_eq!(urgent, (0..200).collect::<Vec<_>>(), "a lane keeps its order");
    assert_each_once(order, (0..200).chain(1000..1003));
}

async fn no_more_than_the_prefetch_is_handed_out_of_all_lanes(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.ordered("q", Priorities::Lanes, &[&topic]).await;
    for (number, level) in (0..40).zip([2, 5, 8, 10].into_iter().cycle()) {
        bench.publish(&topic, at(Some(level), number)).await;
    }
    let mut deliveries = bench.consume(&queue, 5).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(next(&mut deliveries).await);
    }
    crate::bench::silent(&mut deliveries).await;
    let mut seen = vec![number(&held[0])];
    held.swap_remove(0).ack();
    held.push(next(&mut deliveries).await);
    // What is released comes again, and nothing is lost when the consumer goes.
    drop((held, deliveries));
    let mut deliveries = bench.consume(&queue, 40).await;
    seen.extend(ack_next(&mut deliveries, 39).await);
    assert_each_once(seen, 0..40);
    bench.ready(&queue, 0).await;
}

async fn a_retry_and_a_delayed_message_keep_their_priority(bench: &Bench) {
    for order in BOTH {
        let name = format!("{order:?}").to_lowercase();
        let topic = bench.name(&name);
        let queue = bench.ordered(&name, order, &[&topic]).await;
        let wait = Duration::from_millis(300);
        for number in 0..50 {
            bench.publish(&topic, at(None, number)).await;
        }
        for (number, to) in (50..).zip([Destination::Queue(&queue), Destination::Topic(&topic)]) {
            let mut delayed = due_in(wait, number);
            delayed.topic = Some(topic.clone());
            delayed.metadata.priority = Some(Priority::URGENT);
            bench.broker.publish(to, delayed).await.expect("it is held");
        }
        bench.ready(&queue, 52).await;
        let mut deliveries = bench.consume(&queue, 1).await;
        let mut seen = Vec::new();
        while seen.len() < 52 {
            let delivery = next(&mut deliveries).await;
            let metadata = &delivery.envelope().metadata;
            let expected = (number(&delivery) >= 50).then_some(Priority::URGENT);
            assert_eq!(metadata.priority, expected, "{order:?}");
            seen.push(number(&delivery));
            delivery.ack();
        }
        let last = seen[50..].iter().all(|number| *number >= 50);
        let sorts = order == Priorities::Lanes || bench.sorts_delayed_strictly();
        if sorts {
            assert!(!last, "{order:?}: they came behind what waited: {seen:?}");
        } else {
            assert!(last, "better than documented: {seen:?}");
        }
        assert_each_once(seen, 0..52);
    }
}

async fn what_is_addressed_to_the_queue_finds_its_lane(bench: &Bench) {
    let queue = bench.ordered("q", Priorities::Lanes, &[]).await;
    for number in 0..200 {
        let to = Destination::Queue(&queue);
        bench.broker.publish(to, at(Some(5), number)).await.expect("it is taken");
    }
    let urgent = at(Some(9), 1000);
    bench.broker.publish(Destination::Queue(&queue), urgent).await.expect("it is taken");
    bench.ready(&queue, 201).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    let held = next(&mut deliveries).await;
    sent(bench, &queue, "urgent").await;
    let mut order = vec![number(&held)];
    held.ack();
    order.extend(ack_next(&mut deliveries, 200).await);
    assert_ne!(order[200], 1000);
    assert_each_once(order, (0..200).chain([1000]));
}

async fn dead_letters_keep_their_priority(bench: &Bench) {
    for order in BOTH {
        let name = format!("{order:?}").to_lowercase();
        let queue = bench.ordered(&name, order, &[]).await;
        let mut dead = at(Some(8), 1);
        dead.metadata.failure = Some(Box::new(Failure {
            kind: FailureKind::Rejected,
            error: "no".into(),
            agent: queue.clone(),
            instance: None,
            topic: None,
            attempts: 1,
            at: Timestamp::now(),
        }));
        let letters = Name::from(format!("{queue}.dlq"));
        bench.broker.publish(Destination::Queue(&letters), dead).await.expect("it is kept");
        let mut deliveries = bench.consume(&letters, 1).await;
        let letter = next(&mut deliveries).await;
        assert_eq!(letter.envelope().metadata.priority, Some(Priority::HIGH));
        letter.ack();
    }
}

async fn the_fuse_of_a_lane_names_the_agent(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.ordered("q", Priorities::Lanes, &[&topic]).await;
    bench.publish(&topic, at(Some(9), 1)).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    for _ in 0..=100 {
        next(&mut deliveries).await.release();
    }
    let mut letters = bench.consume(&format!("{queue}.dlq"), 1).await;
    let letter = next(&mut letters).await;
    let metadata = &letter.envelope().metadata;
    let failure = metadata.failure.as_ref().expect("a reason");
    assert_eq!((&failure.kind, &failure.agent), (&FailureKind::CrashLoop, &queue));
    assert_eq!(metadata.priority, Priority::new(9).ok());
    letter.ack();
}

async fn another_order_is_a_mismatch(bench: &Bench) {
    bench.work("q", &[]).await;
    let other = bench.connect().await;
    let spec = bench.spec("q", bench.work_role("q", 1_000_000), &[]).priorities(Priorities::Strict);
    let refused = error(within("declare", other.declare(&spec)).await);
    assert!(matches!(refused, TopologyError::Mismatch { .. }), "{refused:?}");
}

async fn lanes_are_counted_purged_and_deleted_as_one(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.ordered("q", Priorities::Lanes, &[&topic]).await;
    for (number, level) in (0..).zip([1, 5, 7, 9]) {
        bench.publish(&topic, at(Some(level), number)).await;
    }
    bench.ready(&queue, 4).await;
    assert_eq!(bench.broker.purge(&queue).await.expect("it is purged"), 4);
    let deliveries: Deliveries = bench.consume(&queue, 2).await;
    bench.counts(&queue, |stats| stats.consumers == 1).await;
    bench.broker.delete(&queue).await.expect("it is deleted");
    assert!(crate::bench::rest(deliveries).await.is_empty());
    assert!(matches!(error(bench.broker.stats(&queue).await), QueueError::NotFound { .. }));
    // It can be made anew without lanes, and what is urgent finds it.
    let queue = bench.work("q", &[&topic]).await;
    bench.publish(&topic, at(Some(9), 1)).await;
    bench.ready(&queue, 1).await;
}

async fn replicas_of_a_queue_with_lanes_share_it(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.ordered("q", Priorities::Lanes, &[&topic]).await;
    let other = bench.connect().await;
    let role = bench.work_role("q", 1_000_000);
    let spec = bench.spec("q", role, &[&topic]).priorities(Priorities::Lanes);
    within("declare", other.declare(&spec)).await.expect("it is declared");
    let mut one = bench.consume(&queue, 3).await;
    let mut two = consume(&*other, &queue, 3).await;
    for (number, level) in (0..100).zip([1, 5, 7, 9].into_iter().cycle()) {
        bench.publish(&topic, at(Some(level), number)).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 100 {
        let delivery = tokio::select! {
            delivery = next(&mut one) => delivery,
            delivery = next(&mut two) => delivery,
        };
        seen.push(number(&delivery));
        delivery.ack();
    }
    assert_each_once(seen, 0..100);
}

/// Waits until a lane that is a queue of its own has sent what it has to the consumer, so that the
/// consumer can choose it.
async fn sent(bench: &Bench, queue: &Name, lane: &str) {
    let lane = format!("{queue}.{lane}");
    match bench.broker.stats(&lane).await {
        Ok(_) => bench.ready(&lane, 0).await,
        Err(QueueError::NotFound { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Makes a message with a number as its body and a priority.
fn at(level: Option<u8>, number: u32) -> Envelope {
    let mut envelope = numbered(number);
    let level = level.map(|level| Priority::new(level).expect("1 to 10"));
    envelope.metadata.priority = level;
    envelope
}

cases! {
    strict_order_goes_by_priority_then_by_age,
    what_is_urgent_overtakes_what_waits,
    nothing_starves_in_lanes,
    no_more_than_the_prefetch_is_handed_out_of_all_lanes,
    a_retry_and_a_delayed_message_keep_their_priority,
    what_is_addressed_to_the_queue_finds_its_lane,
    dead_letters_keep_their_priority,
    the_fuse_of_a_lane_names_the_agent,
    another_order_is_a_mismatch,
    lanes_are_counted_purged_and_deleted_as_one,
    replicas_of_a_queue_with_lanes_share_it,
}
