//! CloudEvents in binary mode: read in any case, sent when asked to.

use std::time::Duration;

use agentbus::{
    Client, Config, Pattern,
    broker::{QueueRole, QueueSpec, connect},
    message::{FailureKind, Timestamp},
};
use futures::StreamExt as _;
use lapin::{
    options::BasicConsumeOptions,
    types::{AMQPValue, FieldTable},
};

use super::listener::{Scene, text, with_headers};
use crate::support::messages::{Event, HAPPENED};

#[tokio::test]
async fn headers_under_each_prefix_are_understood() {
    let Some(mut scene) = Scene::start().await else { return };
    for prefix in ["ce-", "cloudEvents:", "cloudEvents_"] {
        let named = [
            ("specversion", "1.0"),
            ("id", "event 17"),
            ("type", "test.v1.Event"),
            ("source", "/shop"),
            ("time", "2026-11-21T13:00:00.5Z"),
            ("correlationid", "order 17"),
            ("causationid", "click 4"),
        ]
        .map(|(name, value)| (format!("{prefix}{name}"), value));
        let headers = named.iter().map(|(name, value)| (name.as_str(), text(value)));
        scene.publish_event(1, with_headers(headers)).await;
        let metadata = scene.heard().await.metadata;
        assert_eq!(metadata.message_id, Some("event 17".into()), "{prefix}");
        assert_eq!(metadata.message_type.as_deref(), Some("test.v1.Event"));
        assert_eq!(metadata.sender.as_deref(), Some("/shop"));
        assert_eq!(metadata.timestamp, Some(Timestamp::from_millis(1_795_266_000_500)));
        assert_eq!(metadata.conversation_id, Some("order 17".into()));
        assert_eq!(metadata.causation_id, Some("click 4".into()));
    }
    let other = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-type", "com.example.shipped")];
    scene.publish_event(2, with_headers(other.map(|(name, value)| (name, text(value))))).await;
    assert_eq!(scene.dead_letter().await.0, FailureKind::WrongType, "a type is never guessed");
    scene.agents.stop().await;
}

#[tokio::test]
async fn they_are_sent_when_switched_on() {
    let Some(mut scene) = Scene::start().await else { return };
    let mut config = scene.bus.config.clone();
    assert!(!config.cloud_events, "off by default");
    config.cloud_events = true;
    let broker = connect(&config).await.unwrap();
    let client = Client::with_config(broker, config).named("shop");

    let copy = scene.bus.queue("copy");
    let role = QueueRole::Private { max_length: 10, expires: Duration::from_mins(5) };
    let spec = QueueSpec::new(copy.clone(), role).bind(Pattern::from(&HAPPENED));
    scene.bus.broker().declare(&spec).await.unwrap();
    let id = client.publish(HAPPENED, &Event { number: 3 }).await.unwrap().to_string();

    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumer = scene.foreign.channel.basic_consume(
        copy.as_str().into(),
        "".into(),
        options,
        FieldTable::default(),
    );
    let seen = consumer.await.unwrap().next().await.unwrap().unwrap();
    let headers = seen.properties.headers().clone().unwrap();
    let header = |name: &str| match headers.inner().get(name) {
        Some(AMQPValue::LongString(value)) => value.to_string(),
        other => panic!("`{name}` is {other:?}"),
    };
    assert_eq!(header("ce-specversion"), "1.0");
    assert_eq!(header("ce-id"), id);
    assert_eq!(header("ce-type"), "test.v1.Event");
    assert_eq!(header("ce-source"), "/agents/shop");
    assert_eq!(header("ce-dataschema"), "type.googleapis.com/test.v1.Event");
    assert!(Timestamp::from_rfc3339(&header("ce-time")).is_some());
    assert_eq!(header("ce-correlationid"), header("agentbus-conversation-id"));
    assert_eq!(seen.data, [8, 3], "the body stays as it is");

    // And the agent, which knows nothing of that, is none the worse for it.
    let heard = scene.heard().await;
    assert_eq!((heard.number, heard.metadata.sender.as_deref()), (3, Some("shop")));
    client.close().await;
    scene.agents.stop().await;
}

#[test]
fn the_switch_is_a_setting() {
    let config = Config::from_vars([("AGENTBUS_CLOUD_EVENTS", "true")]).unwrap();
    assert!(config.cloud_events);
}
