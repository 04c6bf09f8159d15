//! Many delayed messages, long delays, and delays one after the other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::{
    Name,
    broker::{Broker, Destination, MAX_DELAY, PublishError},
    message::Timestamp,
};
use futures::{StreamExt as _, stream};

use crate::bench::{
    Bench, ack_next, assert_each_once, due_in, error, next, number, numbered, silent, within,
};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// 2 000 messages that are due at any time within 10 s, to topics and queues alike.
async fn of_two_thousand_delayed_messages_none_is_lost_or_early(bench: &Bench) {
    const MESSAGES: u32 = 2000;
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut deliveries = bench.consume(&queue, 500).await;
    let broker: Arc<dyn Broker> = bench.broker.clone();
    let (to_topic, to_queue) = (topic.clone(), queue.clone());
    let publishing = tokio::spawn(async move {
        let publish = stream::iter(0..MESSAGES).for_each_concurrent(128, |number| {
            let (broker, topic, queue) = (&broker, &to_topic, &to_queue);
            async move {
                let delay = millis(fastrand::u64(1..=10_000));
                let to = match number % 2 {
                    0 => Destination::Topic(topic),
                    _ => Destination::Queue(queue),
                };
                broker.publish(to, due_in(delay, number)).await.expect("it is held");
            }
        });
        publish.await;
    });
    let (mut numbers, mut late) = (Vec::new(), Vec::new());
    for _ in 0..MESSAGES {
        let delivery = next(&mut deliveries).await;
        let now = Timestamp::now().as_millis();
        let due_at = delivery.envelope().metadata.due_at.expect("it still says when it was due");
        let by = now.checked_sub(due_at.as_millis());
        late.push(by.unwrap_or_else(|| panic!("{} ms early", due_at.as_millis() - now)));
        numbers.push(number(&delivery));
        delivery.ack();
    }
    within("the end of publishing", publishing).await.expect("it does not panic");
    assert_each_once(numbers, 0..MESSAGES);
    silent(&mut deliveries).await;
    late.sort_unstable();
    let [p50, p99, max] =
        [late.len() / 2, late.len() * 99 / 100, late.len() - 1].map(|at| late[at]);
    let backend = bench.backend.name();
    println!(
        "{backend}: {MESSAGES} delayed messages came {p50} ms late (p50), {p99} (p99), {max} (max)"
    );
}

/// One and the same message, again and again as it was received, as retries do it.
///
/// A broker that saw its own marks on a message would drop it as a cycle, at the second hop.
async fn thrice_through_one_hop_and_thrice_through_two_nothing_is_lost(bench: &Bench) {
    let queue = bench.work("q", &[]).await;
    let to = Destination::Queue(&queue);
    let mut deliveries = bench.consume(&queue, 10).await;
    let mut first = numbered(1);
    first.metadata.headers.set("tenant", "acme").expect("a good header");
    first.metadata.attempt = Some(1);
    bench.broker.publish(to, first.clone()).await.expect("it is taken");
    let delays = [240, 240, 240, 740, 740, 740, 490, 1740].map(millis);
    for (delay, attempt) in delays.into_iter().zip(2..) {
        let delivery = next(&mut deliveries).await;
        let mut again = delivery.envelope().clone();
        again.metadata.due_at = Some(Timestamp::now().after(delay));
        again.metadata.attempt = Some(attempt);
        let started = Instant::now();
        bench.broker.publish(to, again).await.expect("it is held");
        delivery.ack();
        let delivery = next(&mut deliveries).await;
        let early = delay.saturating_sub(millis(1));
        assert!(started.elapsed() >= early, "early, after {:?}", started.elapsed());
        let metadata = &delivery.envelope().metadata;
        assert_eq!(metadata.attempt, Some(attempt));
        assert_eq!(metadata.headers, first.metadata.headers, "the broker's own are left out");
        assert_eq!(metadata.message_id, first.metadata.message_id);
        assert!(!delivery.is_redelivered());
        // The next attempt begins with what was received now.
        delivery.release();
    }
    assert_eq!(ack_next(&mut deliveries, 1).await, [1]);
    silent(&mut deliveries).await;
}

async fn a_delay_of_two_years_is_taken_and_a_longer_one_refused(bench: &Bench) {
    let queue = bench.work("q", &[]).await;
    let topic: Name = bench.name("t");
    bench.work("bound", &[&topic]).await;
    for to in [Destination::Topic(&topic), Destination::Queue(&queue)] {
        let longest = MAX_DELAY.saturating_sub(Duration::from_mins(5));
        for long in [Duration::from_hours(24 * 365 * 2), longest] {
            let held = bench.broker.publish(to, due_in(long, 1)).await;
            held.expect("it is held for two years");
        }
        for longer in [MAX_DELAY + Duration::from_mins(5), Duration::MAX] {
            let sent = due_in(longer, 7);
            match error(within("publish", bench.broker.publish(to, sent.clone())).await) {
                PublishError::Invalid { envelope, reason, .. } => {
                    assert_eq!(*envelope, sent, "it comes back as it was");
                    assert!(reason.contains("two years"), "{reason}");
                }
                other => panic!("expected `Invalid`, got {other:?}"),
            }
        }
    }
    bench.ready(&queue, 0).await;
}

/// An agent that listens to everything is not to be handed the retries of others.
async fn who_listens_to_everything_gets_no_retries_of_others(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut nosy = Vec::new();
    for (number, pattern) in ["#", "*.#", "q.#", "t.#", "#.q"].into_iter().enumerate() {
        let queue = bench.work(&format!("nosy.{number}"), &[pattern]).await;
        nosy.push(bench.consume(&queue, 10).await);
    }
    let to = Destination::Queue(&queue);
    bench.broker.publish(to, due_in(millis(240), 1)).await.expect("it is held");
    bench.broker.publish(to, due_in(millis(740), 2)).await.expect("it is held");
    bench.broker.publish(to, numbered(3)).await.expect("it is taken");
    let mut deliveries = bench.consume(&queue, 10).await;
    assert_each_once(ack_next(&mut deliveries, 3).await, 1..=3);
    for deliveries in &mut nosy {
        silent(deliveries).await;
    }
    // What is published to everybody they do get, late or not.
    bench.publish(&topic, due_in(millis(240), 4)).await;
    assert_eq!(ack_next(&mut nosy[0], 1).await, [4]);
    silent(&mut nosy[0]).await;
}

/// Each address is the end, or the beginning, of another; and one reads like the level's bits.
async fn an_address_that_is_a_part_of_another_gets_its_own_only(bench: &Bench) {
    let names = ["b", "a.b", "c.a.b", "a.b.c", "a", "q.a", "0.1.q.a"];
    let mut queues = Vec::new();
    for name in names {
        queues.push(bench.work(name, &[&bench.name(name)]).await);
    }
    for (number, queue) in (0..).zip(&queues) {
        let to = Destination::Queue(queue);
        bench.broker.publish(to, due_in(millis(490), number)).await.expect("it is held");
        let topic = bench.name(names[number as usize]);
        bench.publish(&topic, due_in(millis(740), 100 + number)).await;
    }
    for (number, queue) in (0..).zip(&queues) {
        let mut deliveries = bench.consume(queue, 10).await;
        assert_each_once(ack_next(&mut deliveries, 2).await, [number, 100 + number]);
        silent(&mut deliveries).await;
    }
}

cases! {
    of_two_thousand_delayed_messages_none_is_lost_or_early,
    thrice_through_one_hop_and_thrice_through_two_nothing_is_lost,
    a_delay_of_two_years_is_taken_and_a_longer_one_refused,
    who_listens_to_everything_gets_no_retries_of_others,
    an_address_that_is_a_part_of_another_gets_its_own_only,
}
