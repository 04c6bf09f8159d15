//! `agentbus dead-letters`.

use std::{collections::BTreeSet, time::Duration};

use agentbus::{
    Envelope,
    broker::{DeadLetterLimits, Destination, QueueRole, QueueSpec},
    client::DeadLetter,
    message::{Failure, FailureKind, Timestamp},
};

use crate::{
    program::{PROTO, Said, bare, on, run},
    queues::declared_by_another,
    support::{
        bus::Bus,
        eventually,
        messages::{Event, HAPPENED},
    },
};

/// Declares what an agent has, with that many dead letters.
async fn filled(bus: &Bus, count: u32) -> (String, String) {
    let (work, dead) = (bus.queue("data"), bus.queue("data.dlq"));
    let broker = bus.broker();
    let role = QueueRole::DeadLetters(DeadLetterLimits::default());
    broker.declare(&QueueSpec::new(dead.clone(), role)).await.unwrap();
    let role = QueueRole::Work { dead_letters: dead.as_str().into(), max_length: 1000 };
    declared_by_another(bus, &QueueSpec::new(work.clone(), role)).await;
    for number in 0..count {
        broker.publish(Destination::Queue(&dead), letter(number)).await.unwrap();
    }
    (work, dead)
}

fn letter(number: u32) -> Envelope {
    let mut envelope = Envelope::encode(&Event { number });
    envelope.topic = Some(HAPPENED.name().clone());
    envelope.metadata.message_id = Some(format!("event-{number}").into());
    let kind = if number == 1 { FailureKind::Timeout } else { FailureKind::Rejected };
    envelope.metadata.failure = Some(Box::new(Failure {
        kind,
        error: "for a\ntest".into(),
        agent: "data".into(),
        instance: None,
        topic: None,
        attempts: 4,
        at: Timestamp::now(),
    }));
    envelope
}

async fn said(bus: &Bus, arguments: &[&str]) -> Said {
    run(on(&bus.config, &[&["dead-letters"], arguments].concat())).await
}

/// Waits until a queue holds so many messages.
async fn holds(bus: &Bus, queue: &str, count: u64) {
    eventually(&format!("{count} in `{queue}`"), async || {
        (bus.broker().stats(queue).await.ok()?.ready == count).then_some(())
    })
    .await;
}

/// Takes everything out of a queue, and returns the ids and how many there were.
async fn drained(bus: &Bus, queue: &str) -> (BTreeSet<String>, u64) {
    let ready = bus.broker().stats(queue).await.unwrap().ready;
    let mut deliveries = bus.broker().consume(queue, 100).await.unwrap();
    let mut ids = BTreeSet::new();
    for _ in 0..ready {
        let delivery = deliveries.next().await.unwrap();
        ids.insert(delivery.envelope().metadata.message_id.as_ref().unwrap().to_string());
        delivery.ack();
    }
    (ids, ready)
}

#[tokio::test]
async fn letters_are_listed_shown_and_exported_and_stay() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let (_, dead) = filled(&bus, 3).await;
    let list = said(&bus, &["list", "data"]).await.with_code(0);
    let lines: Vec<_> = list.out.lines().collect();
    assert!(lines[0].starts_with("FAILED") && lines.len() == 4, "{}", list.out);
    assert!(lines[2].contains("event-1") && lines[2].contains("timeout"), "{}", list.out);
    let json =
        said(&bus, &["list", "data", "--json", "--kind", "rejected", "--proto", PROTO]).await;
    let rows = json.with_code(0).json();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1]["body"]["number"], 2);
    assert_eq!(rows[1]["failure"]["kind"], "rejected");
    let queue = said(&bus, &["list", "--queue", &dead, "--json"]).await.with_code(0);
    assert_eq!(queue.json().len(), 3);
    assert_eq!(queue.json()[1]["bodyHex"], "0801", "without a contract");

    let one = said(&bus, &["show", "data", "--id", "event-2", "--proto", PROTO]).await.with_code(0);
    assert!(
        one.out.contains("failure: rejected") && one.out.contains("\"number\": 2"),
        "{}",
        one.out
    );
    let none = said(&bus, &["show", "data", "--id", "other"]).await.with_code(1);
    assert!(none.err.contains("`other`"), "{}", none.err);

    let export = said(&bus, &["export", "data", "--proto", PROTO]).await.with_code(0);
    for (number, line) in (0..).zip(export.out.lines()) {
        let read = DeadLetter::from_json(line).unwrap().into_envelope();
        assert_eq!(read.decode::<Event>().unwrap().number, number);
        assert_eq!(read.metadata.failure.unwrap().error.as_str(), "for a\ntest");
    }
    assert_eq!(export.json()[2]["body"]["number"], 2);
    holds(&bus, &dead, 3).await;
}

#[tokio::test]
async fn a_replay_is_planned_done_and_edited() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let (work, dead) = filled(&bus, 4).await;
    let all = said(&bus, &["replay", "data"]).await.with_code(2);
    assert!(all.err.contains("--all"), "{}", all.err);
    let dry = said(&bus, &["replay", "data", "--all", "--dry-run"]).await.with_code(0);
    assert!(dry.out.contains("event-3") && dry.out.contains("would replay 4"), "{}", dry.out);
    holds(&bus, &work, 0).await;

    let file = std::env::temp_dir().join(format!("agentbus-letter-{}.json", std::process::id()));
    std::fs::write(&file, r#"{"number": 77}"#).unwrap();
    let path = file.to_str().unwrap();
    let edit = ["replay", "data", "--id", "event-1", "--payload", path];
    let edited = said(&bus, &[&edit[..], &["--proto", PROTO, "--json"]].concat()).await;
    std::fs::write(&file, r#"{"nmber": 77}"#).unwrap();
    let wrong =
        said(&bus, &["replay", "data", "--id", "event-0", "--payload", path, "--proto", PROTO])
            .await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(edited.with_code(0).json()[0]["outcome"], "sent");
    assert!(wrong.with_code(2).err.contains("nmber"));
    let mut deliveries = bus.broker().consume(&work, 1).await.unwrap();
    let copy = deliveries.next().await.unwrap();
    assert_eq!(copy.envelope().decode::<Event>().unwrap().number, 77);
    copy.ack();
    drop(deliveries);

    let rest = said(&bus, &["replay", "data", "--all", "--rate", "50"]).await.with_code(0);
    assert!(rest.out.contains("replayed 3"), "{}", rest.out);
    holds(&bus, &dead, 0).await;
    let expected = ["event-0", "event-2", "event-3"].map(str::to_owned);
    holds(&bus, &work, 3).await;
    assert_eq!(drained(&bus, &work).await, (BTreeSet::from(expected), 3));
    let gone = said(&bus, &["replay", "nobody", "--all"]).await.with_code(1);
    assert!(gone.err.contains("nobody.dlq"), "{}", gone.err);
}

#[tokio::test]
async fn a_replay_that_is_killed_loses_nothing() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let (work, dead) = filled(&bus, 30).await;
    let slowly = ["dead-letters", "replay", "data", "--all", "--rate", "20"];
    let mut child = on(&bus.config, &slowly).spawn().unwrap();
    eventually("some replayed letters", async || {
        (bus.broker().stats(&work).await.unwrap().ready >= 5).then_some(())
    })
    .await;
    child.kill().await.unwrap();
    eventually("all letters", async || {
        let count = async |queue| bus.broker().stats(queue).await.unwrap().ready;
        (count(&work).await + count(&dead).await >= 30).then_some(())
    })
    .await;
    said(&bus, &["replay", "data", "--all"]).await.with_code(0);
    holds(&bus, &dead, 0).await;
    // There may be duplicates, of those whose removal was still on its way.
    let (ids, _) = drained(&bus, &work).await;
    assert_eq!(ids.len(), 30);
}

#[tokio::test]
async fn an_interrupted_replay_ends_after_the_letter_it_is_at() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let (work, dead) = filled(&bus, 30).await;
    let slowly = ["dead-letters", "replay", "data", "--all", "--rate", "20"];
    let child = on(&bus.config, &slowly).spawn().unwrap();
    eventually("some replayed letters", async || {
        (bus.broker().stats(&work).await.unwrap().ready >= 3).then_some(())
    })
    .await;
    let id = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    crate::program::ended(child).await.with_code(130);
    let sent = bus.broker().stats(&work).await.unwrap().ready;
    holds(&bus, &dead, 30 - sent).await;
}

#[tokio::test]
async fn a_purge_asks_and_takes_only_what_is_chosen() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let (_, dead) = filled(&bus, 3).await;
    let asked = said(&bus, &["purge", "data"]).await.with_code(2);
    assert!(asked.err.contains("--yes"), "{}", asked.err);
    let dry = said(&bus, &["purge", "data", "--kind", "timeout", "--dry-run"]).await.with_code(0);
    assert!(dry.out.contains("would remove 1"), "{}", dry.out);
    let some = said(&bus, &["purge", "data", "--kind", "timeout", "--yes", "--json"]).await;
    assert_eq!(some.with_code(0).json()[0]["removed"], 1);
    holds(&bus, &dead, 2).await;
    said(&bus, &["purge", "data", "--yes"]).await.with_code(0);
    holds(&bus, &dead, 0).await;
}

#[tokio::test]
async fn undeliverable_messages_are_replayed_to_the_queue_one_names() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let (work, _) = filled(&bus, 0).await;
    // Its queue goes before it is due.
    let lost = bus.queue("lost");
    let role = QueueRole::Private { max_length: 9, expires: Duration::from_mins(1) };
    bus.broker().declare(&QueueSpec::new(lost.clone(), role)).await.unwrap();
    let mut envelope = Envelope::encode(&Event { number: 5 });
    envelope.metadata.due_at = Some(Timestamp::now().after(Duration::from_secs(2)));
    bus.broker().publish(Destination::Queue(&lost), envelope).await.unwrap();
    bus.broker().delete(&lost).await.unwrap();
    let list = eventually("an undeliverable message", async || {
        let said = said(&bus, &["list", "--undeliverable", "--json"]).await.with_code(0);
        said.json().pop()
    })
    .await;
    assert_eq!(list["type"], "test.v1.Event");
    let nowhere = said(&bus, &["replay", "--undeliverable", "--all"]).await.with_code(1);
    assert!(nowhere.err.contains("which queue"), "{}", nowhere.err);
    said(&bus, &["replay", "--undeliverable", "--all", "--to", &work]).await.with_code(0);
    holds(&bus, &work, 1).await;
}

#[tokio::test]
async fn an_embedded_bus_has_nothing_to_see() {
    let said = run(bare(&["dead-letters", "list", "data"])).await.with_code(2);
    assert!(said.err.contains("embedded bus"), "{}", said.err);
}
