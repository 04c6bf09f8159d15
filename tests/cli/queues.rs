//! `agentbus queues`.

use agentbus::{
    broker::{DeadLetterLimits, Destination, QueueRole, QueueSpec},
    message::{Priorities, Priority},
};

use crate::{
    program::{PROTO, on, run},
    support::{bus::Bus, eventually, messages::Event},
};

/// Declares a queue with messages.
pub(crate) async fn filled(bus: &Bus, name: &str, count: u32) -> String {
    let queue = bus.queue(name);
    let role = QueueRole::DeadLetters(DeadLetterLimits::default());
    bus.broker().declare(&QueueSpec::new(queue.clone(), role)).await.unwrap();
    for number in 0..count {
        let envelope = agentbus::Envelope::encode(&number);
        bus.broker().publish(Destination::Queue(&queue), envelope).await.unwrap();
    }
    queue
}

#[tokio::test]
async fn what_queues_hold_is_listed() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let queue = filled(&bus, "data.dlq", 3).await;
    let said = run(on(&bus.config, &["queues", "list", &queue, "--json"])).await.with_code(0);
    let row = &said.json()[0];
    assert_eq!((&row["queue"], &row["ready"]), (&queue.as_str().into(), &3.into()));
    let said = run(on(&bus.config, &["queues", "list", "--agent", "data"])).await.with_code(1);
    let lines: Vec<_> = said.out.lines().collect();
    assert!(lines[0].starts_with("QUEUE") && lines[1].contains("does not exist"), "{}", said.out);
    assert!(lines[2].starts_with(&queue) && lines[2].contains('3'), "{}", said.out);
}

#[tokio::test]
async fn lanes_are_listed_with_their_agent_and_examined() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let queue = bus.queue("laned");
    let dead_letters = filled(&bus, "laned.dlq", 0).await;
    let lanes = ["urgent", "high", "low"].map(|lane| bus.queue(&format!("laned.{lane}")));
    let max_length = bus.config.max_queue_length;
    let role = QueueRole::Work { dead_letters: dead_letters.into(), max_length };
    let spec = QueueSpec::new(queue.clone(), role).priorities(Priorities::Lanes);
    bus.broker().declare(&spec).await.unwrap();
    let mut urgent = agentbus::Envelope::encode(&1_u32);
    urgent.metadata.priority = Some(Priority::URGENT);
    bus.broker().publish(Destination::Queue(&queue), urgent).await.unwrap();
    let list = ["queues", "list", "--agent", "laned", "--json"];
    let rows = run(on(&bus.config, &list)).await.with_code(0).json();
    let of = |queue: &str| rows.iter().find(|row| row["queue"] == queue);
    for (lane, ready) in lanes.iter().zip([1, 0, 0]) {
        assert_eq!(of(lane).expect("a row")["ready"], ready, "{lane}");
    }
    let doctor = ["doctor", "--agent", "laned", "--json", "--interval", "100ms"];
    let checks = run(on(&bus.config, &doctor)).await.with_code(0).json();
    let of = |check: String| checks.iter().find(|it| it["check"] == check).expect("a check");
    let consumers = of(format!("consumers of `{}`", lanes[0]));
    assert_eq!(consumers["status"], "warning", "{consumers}");
    assert_eq!(of(format!("arguments of `{queue}`"))["status"], "ok");
}

#[tokio::test]
async fn nothing_is_removed_without_a_yes() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let queue = filled(&bus, "data.dlq", 2).await;
    for command in ["purge", "delete"] {
        let said = run(on(&bus.config, &["queues", command, &queue])).await.with_code(2);
        assert!(said.err.contains("--yes") && said.err.contains("2 messages"), "{}", said.err);
    }
    assert_eq!(bus.broker().stats(&queue).await.unwrap().ready, 2);
    let said = run(on(&bus.config, &["queues", "purge", &queue, "--yes", "--json"])).await;
    assert_eq!(said.with_code(0).json()[0]["purged"], 2);
    assert_eq!(bus.broker().stats(&queue).await.unwrap().ready, 0);
    run(on(&bus.config, &["queues", "delete", &queue, "--yes"])).await.with_code(0);
    let said = run(on(&bus.config, &["queues", "delete", &queue, "--yes"])).await.with_code(1);
    assert!(said.err.contains("there is no queue"), "{}", said.err);
}

#[tokio::test]
async fn who_deletes_the_dead_letters_of_a_running_agent_is_warned() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let queue = worked(&bus, "data", 0).await;
    let dead_letters = format!("{queue}.dlq");
    let consumer = bus.broker().consume(&queue, 1).await.unwrap();
    let said = run(on(&bus.config, &["queues", "delete", &dead_letters])).await.with_code(2);
    assert!(said.err.contains(&format!("dead letters of `{queue}`")), "{}", said.err);
    let said = run(on(&bus.config, &["queues", "delete", &queue])).await.with_code(2);
    assert!(!said.err.contains("dead letters"), "{}", said.err);
    drop(consumer);
    eventually("nobody consumes", async || {
        (bus.broker().stats(&queue).await.unwrap().consumers == 0).then_some(())
    })
    .await;
    let said = run(on(&bus.config, &["queues", "delete", &dead_letters, "--yes"])).await;
    assert!(!said.with_code(0).err.contains("dead letters"));
}

/// Waits until the broker counts what was given back to a queue.
async fn ready(bus: &Bus, queue: &str, count: u64) {
    eventually("the count of the queue", async || {
        (bus.broker().stats(queue).await.unwrap().ready == count).then_some(())
    })
    .await;
}

/// Declares a queue on a connection that is gone then: who keeps one looks through what is
/// undeliverable, and a test that counts it must not meet that.
pub(crate) async fn declared_by_another(bus: &Bus, queue: &QueueSpec) {
    let another = agentbus::broker::connect(&bus.config).await.unwrap();
    another.declare(queue).await.unwrap();
    another.close().await;
}

/// Declares a work queue with its dead letters, and puts events into it.
pub(crate) async fn worked(bus: &Bus, name: &str, count: u32) -> String {
    let (queue, dead_letters) = (bus.queue(name), filled(bus, &format!("{name}.dlq"), 0).await);
    let role = QueueRole::Work { dead_letters: dead_letters.into(), max_length: 1000 };
    let spec = QueueSpec::new(queue.clone(), role);
    declared_by_another(bus, &spec).await;
    for number in 0..count {
        let mut envelope = agentbus::Envelope::encode(&Event { number });
        envelope.topic = Some("test.happened".into());
        bus.broker().publish(Destination::Queue(&queue), envelope).await.unwrap();
    }
    queue
}

#[tokio::test]
async fn looking_into_a_queue_takes_nothing_out() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let queue = worked(&bus, "data", 5).await;
    let arguments = ["queues", "peek", &queue, "--proto", PROTO, "--json", "--limit", "3"];
    for _ in 0..2 {
        let said = run(on(&bus.config, &arguments)).await.with_code(0);
        let numbers: Vec<_> = said.json().iter().map(|it| it["body"]["number"].clone()).collect();
        assert_eq!(numbers, [serde_json::Value::Null, 1.into(), 2.into()], "{said:?}");
        ready(&bus, &queue, 5).await;
    }
    let mut deliveries = bus.broker().consume(&queue, 10).await.unwrap();
    for number in 0..5 {
        let delivery = deliveries.next().await.unwrap();
        assert_eq!(delivery.envelope().decode::<Event>().unwrap().number, number);
        assert_eq!(delivery.returns(), Some(if number < 3 { 2 } else { 0 }));
        delivery.ack();
    }
    deliveries.cancel();
    while deliveries.next().await.is_some() {}
    ready(&bus, &queue, 0).await;
    let said = run(on(&bus.config, &["queues", "peek", &queue])).await.with_code(0);
    assert_eq!(said.out, "");
}

#[tokio::test]
async fn a_message_that_was_looked_at_too_often_is_left_alone() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let queue = worked(&bus, "data", 2).await;
    let mut deliveries = bus.broker().consume(&queue, 1).await.unwrap();
    for _ in 0..80 {
        deliveries.next().await.unwrap().release();
    }
    deliveries.cancel();
    while deliveries.next().await.is_some() {}
    ready(&bus, &queue, 2).await;
    let said = run(on(&bus.config, &["queues", "peek", &queue, "--json"])).await.with_code(1);
    assert_eq!(said.json().len(), 1, "{said:?}");
    assert!(said.err.contains("looked at no more"), "{}", said.err);
    ready(&bus, &queue, 2).await;
    assert_eq!(bus.broker().stats(&format!("{queue}.dlq")).await.unwrap().ready, 0);
}
