//! `agentbus publish`.

use agentbus::{Client, Envelope, Subscription, message::Priority};

use crate::{
    program::{PROTO, bare, on, run, run_with},
    support::{bus::Bus, messages::HAPPENED, rabbitmq},
};

#[tokio::test]
async fn json_arrives_as_the_message_that_the_route_takes() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let client = bus.client();
    let mut events = client.subscribe(HAPPENED).await.unwrap();
    let arguments = ["publish", "test.happened", "--proto", PROTO, "--data", r#"{"number": 7}"#];
    let more = ["-H", "tenant=acme", "--priority", "8", "--message-id", "mine", "--expires", "1h"];
    let more = [&more[..], &["--attempts", "2"]].concat();
    let said = run(on(&bus.config, &[&arguments[..], &more[..]].concat())).await.with_code(0);
    assert_eq!(said.out, "mine\n");
    let received = events.next().await.unwrap();
    assert_eq!(received.message().number, 7);
    let metadata = &received.envelope().metadata;
    assert_eq!(metadata.message_type.as_deref(), Some("test.v1.Event"));
    assert_eq!(metadata.headers.text("tenant"), Some("acme"));
    assert_eq!(metadata.priority, Some(Priority::HIGH));
    assert_eq!(metadata.max_attempts, Some(2));
    assert!(metadata.expires_at.is_some_and(|at| !at.has_passed()));
    assert!(metadata.timestamp.is_some() && metadata.sender.is_some());
    received.ack();
    client.close().await;
}

#[tokio::test]
async fn nobody_listening_ends_with_3() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let arguments = ["publish", "test.happened", "--proto", PROTO];
    let said = run_with(on(&bus.config, &arguments), "{}").await.with_code(3);
    assert!(said.err.contains("nobody listens to topic `test.happened`"), "{}", said.err);
}

#[tokio::test]
async fn lines_are_sent_in_order_up_to_the_one_that_is_wrong() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let client = bus.client();
    let mut events = client.subscribe(HAPPENED).await.unwrap();
    let arguments = ["publish", "test.happened", "--proto", PROTO, "--lines"];
    let lines: Vec<_> = (0..500).map(|number| format!("{{\"number\": {number}}}")).collect();
    let said = run_with(on(&bus.config, &arguments), &lines.join("\n")).await.with_code(0);
    assert_eq!(said.out, "published 500\n");
    for number in 0..500 {
        let received = events.next().await.unwrap();
        assert_eq!(received.ack().number, number);
    }
    let json = [&arguments[..], &["--json"]].concat();
    let lines = "{\"number\": 1}\n\n{\"number\": \"x\"}\n{\"number\": 2}\n";
    let said = run_with(on(&bus.config, &json), lines).await.with_code(2);
    assert!(said.err.contains("line 3") && said.err.contains("at `number`"), "{}", said.err);
    assert_eq!(said.json()[0]["line"], 1);
    assert_eq!(events.next().await.unwrap().ack().number, 1);
    client.close().await;
}

#[tokio::test]
async fn a_raw_body_needs_no_contract() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let client: Client = bus.client();
    let everything = Subscription::<Envelope>::pattern("test.#").unwrap();
    let mut envelopes = client.subscribe(everything).await.unwrap();
    let arguments = ["publish", "test.raw", "--raw", "--type", "a.B", "--data", "xyz"];
    run(on(&bus.config, &arguments)).await.with_code(0);
    let received = envelopes.next().await.unwrap().ack();
    assert_eq!(received.payload, "xyz");
    assert_eq!(received.metadata.message_type.as_deref(), Some("a.B"));
    client.close().await;
}

#[tokio::test]
async fn what_is_due_later_is_not_there_before() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let client = bus.client();
    let mut events = client.subscribe(HAPPENED).await.unwrap();
    let arguments = ["publish", "test.happened", "--proto", PROTO, "--data", "{}"];
    run(on(&bus.config, &[&arguments[..], &["--after", "1s"]].concat())).await.with_code(0);
    let received = events.next().await.unwrap();
    let due = received.envelope().metadata.due_at.expect("it was delayed");
    assert!(due.has_passed());
    received.ack();
    client.close().await;
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let Some(config) = rabbitmq::config() else { return };
    let address = rabbitmq::address(&config);
    let (_, place) = address.split_once('@').unwrap();
    let bus = format!("amqp://nobody:SECRET@{place}");
    let said = run(bare(&["queues", "list", "q", "--bus", &bus])).await.with_code(1);
    assert!(said.err.contains("user `nobody`"), "{}", said.err);
    assert!(!said.err.contains("SECRET"), "{}", said.err);
}
