//! Metadata in the body, and times in other units.

use agentbus::{
    Pattern, Topic,
    broker::{QueueRole, QueueSpec},
    message::Timestamp,
};
use lapin::BasicProperties;
use prost::Message as _;

use super::listener::Scene;
use crate::support::messages::Letter;

const AT: u64 = 1_795_266_000_000;

#[tokio::test]
async fn what_only_the_body_says_counts() {
    let Some(mut scene) = Scene::start().await else { return };
    let body = letter().encode_to_vec();
    scene.publish("test.written", BasicProperties::default(), &body).await;
    let metadata = scene.heard().await.metadata;
    assert_eq!(metadata.message_id, Some("from the body".into()));
    assert_eq!(metadata.correlation_id, Some("pairs".into()));
    assert_eq!(metadata.sender.as_deref(), Some("old agent"));
    assert_eq!(metadata.reply_to.as_deref(), Some("old.replies"));
    assert_eq!(metadata.timestamp, Some(Timestamp::from_millis(AT)));

    let properties = BasicProperties::default()
        .with_message_id("a property".into())
        .with_app_id("new agent".into())
        .with_timestamp(AT / 1000 + 1);
    scene.publish("test.written", properties, &body).await;
    let metadata = scene.heard().await.metadata;
    assert_eq!(metadata.message_id, Some("a property".into()));
    assert_eq!(metadata.sender.as_deref(), Some("new agent"));
    assert_eq!(metadata.timestamp, Some(Timestamp::from_millis(AT + 1000)));
    assert_eq!(metadata.correlation_id, Some("pairs".into()), "properties leave it out");
    scene.agents.stop().await;
}

#[tokio::test]
async fn what_we_send_has_both() {
    let Some(scene) = Scene::start().await else { return };
    let name = scene.bus.queue("old");
    let topic: Topic<Letter> = Topic::<Letter>::new("test.old").with_metadata_field(1);
    let role = QueueRole::Private { max_length: 10, expires: std::time::Duration::from_mins(5) };
    let spec = QueueSpec::new(name.clone(), role).bind(Pattern::from(&topic));
    scene.bus.broker().declare(&spec).await.unwrap();
    let sent = Letter { metadata: None, text: "new".to_owned() };
    let client = scene.bus.client().named("new agent");
    let id = client.publish(topic, &sent).await.unwrap();
    let delivery = scene.bus.broker().consume(&name, 1).await.unwrap().next().await.unwrap();
    let envelope = delivery.envelope().clone();
    delivery.ack();
    let read = Letter::decode(envelope.payload).unwrap();
    let embedded = read.metadata.unwrap();
    assert_eq!(embedded.message_id, id.to_string());
    assert_eq!(envelope.metadata.message_id, Some(id));
    assert_eq!(embedded.sender_agent, "new agent");
    let seconds = envelope.metadata.timestamp.unwrap().as_millis() / 1000;
    assert_eq!(embedded.timestamp.cast_unsigned() / 1000, seconds, "milliseconds in the body");
    scene.agents.stop().await;
}

#[tokio::test]
async fn a_timestamp_in_milliseconds_is_not_taken_for_seconds() {
    let Some(mut scene) = Scene::start().await else { return };
    for timestamp in [AT / 1000, AT] {
        scene.publish_event(1, BasicProperties::default().with_timestamp(timestamp)).await;
        let read = scene.heard().await.metadata.timestamp;
        assert_eq!(read, Some(Timestamp::from_millis(AT)), "{timestamp}");
    }
    scene.agents.stop().await;
}

fn letter() -> Letter {
    Letter {
        metadata: Some(agentbus::proto::v1::Metadata {
            message_id: "from the body".to_owned(),
            correlation_id: "pairs".to_owned(),
            timestamp: AT.cast_signed(),
            sender_agent: "old agent".to_owned(),
            reply_to: "old.replies".to_owned(),
        }),
        text: "dear all".to_owned(),
    }
}
