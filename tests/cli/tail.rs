//! `agentbus tail`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use agentbus::{PublishError, Topic, message::Headers};
use futures::{StreamExt as _, stream};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{
    program::{PROTO, ended, interrupt, on, run, start},
    support::{
        bus::Bus,
        eventually,
        messages::{Event, HAPPENED, Question},
    },
};

#[tokio::test]
async fn a_copy_is_shown_and_nobody_goes_without() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let client = bus.client();
    let mut events = client.subscribe(HAPPENED).await.unwrap();
    let arguments = ["tail", "test.*", "--proto", PROTO, "--json", "--limit", "2"];
    let (child, _err) = start(on(&bus.config, &arguments), "watching `test.*`").await;
    for number in [1, 2] {
        client.publish(HAPPENED, &Event { number }).await.unwrap();
    }
    let said = ended(child).await.with_code(0);
    let shown = said.json();
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[0]["topic"], "test.happened");
    assert_eq!(shown[0]["type"], "test.v1.Event");
    assert_eq!(shown[1]["body"], serde_json::json!({ "number": 2 }));
    for number in [1, 2] {
        assert_eq!(events.next().await.unwrap().ack().number, number);
    }
    client.close().await;
}

#[tokio::test]
async fn publishers_are_told_the_truth_again_once_it_has_ended() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let client = bus.client();
    let arguments = ["tail", "#", "--proto", PROTO, "--headers"];
    let (mut child, mut err) = start(on(&bus.config, &arguments), "Unroutable").await;
    let out = BufReader::new(child.stdout.take().unwrap());
    // Nobody else listens.
    client.publish(HAPPENED, &Event { number: 5 }).await.unwrap();
    let mut lines = out.lines();
    let mut shown = Vec::new();
    while !shown.iter().any(|line: &String| line.contains("\"number\": 5")) {
        shown.push(lines.next_line().await.unwrap().unwrap());
    }
    assert!(shown[0].contains("test.happened  test.v1.Event"), "{shown:?}");
    assert!(shown.iter().any(|line| line.contains("message id")), "{shown:?}");
    interrupt(&child).await;
    // Read to the end, so that it is seen where it does not end.
    while err.next_line().await.unwrap().is_some() {}
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    let error = client.publish(HAPPENED, &Event { number: 6 }).await.unwrap_err();
    assert!(matches!(error, PublishError::Unroutable { .. }), "{error:?}");
    client.close().await;
}

#[tokio::test]
async fn one_that_does_not_keep_up_drops_and_counts_and_holds_up_nobody() {
    const COUNT: u32 = 3000;
    let Some(bus) = Bus::rabbitmq().await else { return };
    let client = bus.client();
    let arguments = ["tail", "test.#", "--proto", PROTO, "--json", "--buffer", "10"];
    let (mut child, mut err) = start(on(&bus.config, &arguments), "watching").await;
    // While nobody reads, the program stands still in the middle of a line.
    let text = "x".repeat(1000);
    let questions = (0..COUNT).map(|number| Question { text: text.clone(), number });
    let topic: Topic<Question> = Topic::new("test.ask");
    let published = client.publish_many(topic, stream::iter(questions));
    let refused = published.filter(|result| std::future::ready(result.is_err())).count().await;
    assert_eq!(refused, 0);
    let shown = Arc::new(AtomicU64::new(0));
    let counted = shown.clone();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = tokio::spawn(async move {
        while lines.next_line().await.unwrap().is_some() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let dropped = Arc::new(AtomicU64::new(0));
    let counted = dropped.clone();
    let noter = tokio::spawn(async move {
        let mut last = String::new();
        while let Some(line) = err.next_line().await.unwrap() {
            if let Some(rest) = line.strip_prefix("agentbus: dropped ") {
                let more = rest.split(' ').next().unwrap().parse().unwrap();
                counted.fetch_add(more, Ordering::Relaxed);
            }
            last = line;
        }
        last
    });
    eventually("every message to be shown or counted", async || {
        let both = shown.load(Ordering::Relaxed) + dropped.load(Ordering::Relaxed);
        (both == u64::from(COUNT)).then_some(())
    })
    .await;
    interrupt(&child).await;
    let last = noter.await.unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    reader.await.unwrap();
    let (shown, dropped) = (shown.load(Ordering::Relaxed), dropped.load(Ordering::Relaxed));
    assert!(dropped > 0 && shown > 0, "{shown}, {dropped}");
    let summary = format!("agentbus: showed {shown} messages, dropped at least {dropped}");
    assert_eq!(last, summary);
    client.close().await;
}

#[tokio::test]
async fn what_is_not_decoded_is_shown_in_hex() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let client = bus.client();
    let (child, _err) = start(on(&bus.config, &["tail", "#", "--limit", "1"]), "watching").await;
    let mut envelope = agentbus::Envelope::encode(&Event { number: 5 });
    envelope.topic = Some("test.other".into());
    let mut headers = Headers::default();
    headers.set("colour", "\u{1b}[31m").unwrap();
    envelope.metadata.headers = headers;
    client.publish_envelope(envelope).await.unwrap();
    let said = ended(child).await.with_code(0);
    assert!(said.out.contains("2 bytes: 0805") && said.out.contains("--proto"), "{}", said.out);
    client.close().await;
}

#[tokio::test]
async fn a_pattern_that_is_none_ends_with_2() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let said = run(on(&bus.config, &["tail", "a..b"])).await.with_code(2);
    assert!(said.err.contains("`a..b` cannot be a pattern"), "{}", said.err);
}

#[tokio::test]
async fn a_reader_that_has_enough_ends_it_quietly() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let client = bus.client();
    let arguments = ["tail", "#", "--proto", PROTO];
    let (mut child, mut err) = start(on(&bus.config, &arguments), "watching").await;
    drop(child.stdout.take());
    client.publish(HAPPENED, &Event { number: 1 }).await.unwrap();
    assert_eq!(err.next_line().await.unwrap(), None);
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    client.close().await;
}
