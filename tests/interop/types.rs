//! What a message says about its body, or does not say.

use std::time::Duration;

use agentbus::message::FailureKind;
use futures::StreamExt as _;
use lapin::{
    BasicProperties,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::FieldTable,
};
use prost::Message as _;

use super::listener::Scene;
use crate::support::messages::Question;

#[tokio::test]
async fn a_message_without_any_property_is_what_its_topic_says() {
    let Some(mut scene) = Scene::start().await else { return };
    scene.publish_event(7, BasicProperties::default()).await;
    let heard = scene.heard().await;
    assert_eq!(heard.number, 7);
    let metadata = heard.metadata;
    assert!(metadata.message_type.is_none() && metadata.message_id.is_none());
    // Transient, as one without `delivery_mode` is.
    scene.publish_event(8, BasicProperties::default().with_delivery_mode(1)).await;
    assert_eq!(scene.heard().await.number, 8);
    scene.agents.stop().await;
}

#[tokio::test]
async fn the_type_may_be_there_and_must_be_right_then() {
    let Some(mut scene) = Scene::start().await else { return };
    let typed = |name: &str| BasicProperties::default().with_type(name.into());
    scene.publish_event(1, typed("test.v1.Event")).await;
    assert_eq!(scene.heard().await.number, 1);
    // It would decode.
    scene.publish_event(2, typed("test.v1.Question")).await;
    let (kind, letter) = scene.dead_letter().await;
    assert_eq!(kind, FailureKind::WrongType);
    assert_eq!(letter.metadata.message_type.as_deref(), Some("test.v1.Question"));
    scene.agents.stop().await;
}

#[tokio::test]
async fn content_types_of_protobuf_are_taken_and_no_others() {
    let Some(mut scene) = Scene::start().await else { return };
    let of = |content_type: &str| BasicProperties::default().with_content_type(content_type.into());
    for content_type in ["application/x-protobuf", "application/protobuf", ""] {
        scene.publish_event(3, of(content_type)).await;
        assert_eq!(scene.heard().await.number, 3, "{content_type}");
    }
    scene.publish_event(4, of("application/json")).await;
    assert_eq!(scene.dead_letter().await.0, FailureKind::ContentType);
    scene.agents.stop().await;
}

#[tokio::test]
async fn a_compressed_body_is_kept_with_the_reason_and_its_encoding() {
    let Some(mut scene) = Scene::start().await else { return };
    let gzip = || BasicProperties::default().with_content_encoding("gzip".into());
    scene.publish_event(5, gzip()).await;
    let (kind, letter) = scene.dead_letter().await;
    assert_eq!(kind, FailureKind::ContentType);
    assert_eq!(letter.metadata.content_encoding.as_deref(), Some("gzip"));
    let reason = letter.metadata.failure.unwrap().error;
    assert!(reason.contains("gzip") && reason.contains("as it is"), "{reason}");
    // Who takes the body undecoded decides for himself.
    scene.publish("raw.zipped", gzip(), &[0x1f, 0x8b]).await;
    assert_eq!(scene.heard().await.metadata.content_encoding.as_deref(), Some("gzip"));
    scene.agents.stop().await;
}

#[tokio::test]
async fn a_priority_beyond_ours_is_the_highest() {
    let Some(mut scene) = Scene::start().await else { return };
    for (sent, read) in [(255, 10), (0, 1), (4, 4)] {
        scene.publish_event(6, BasicProperties::default().with_priority(sent)).await;
        let priority = scene.heard().await.metadata.priority.unwrap();
        assert_eq!(priority.level(), read, "{sent}");
    }
    scene.agents.stop().await;
}

#[tokio::test]
async fn one_that_expires_in_the_queue_says_so_among_the_dead_letters() {
    let Some(scene) = Scene::start().await else { return };
    // Whoever consumes would be quicker; the queue outlives them.
    let Scene { agents, mut letters, foreign, bus, .. } = scene;
    agents.stop().await;
    let properties = BasicProperties::default().with_expiration("1".into());
    foreign.publish(&bus.config.exchange, "test.happened", properties, &[8, 9]).await;
    let letter = tokio::time::timeout(Duration::from_mins(1), letters.next()).await;
    let letter = letter.expect("within a minute").unwrap();
    let failure = letter.envelope().metadata.failure.clone().unwrap();
    assert_eq!(failure.kind, FailureKind::Expired);
    letter.ack();
}

#[tokio::test]
async fn a_requester_may_wait_at_a_queue_that_the_broker_has_named() {
    let Some(scene) = Scene::start().await else { return };
    let channel = &scene.foreign.channel;
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let inbox = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
    let inbox = inbox.name().clone();
    assert!(inbox.as_str().starts_with("amq.gen-"));
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumer = channel.basic_consume(inbox.clone(), "".into(), options, FieldTable::default());
    let mut replies = consumer.await.unwrap();
    let properties =
        BasicProperties::default().with_reply_to(inbox).with_correlation_id("mine".into());
    scene.publish("test.ask", properties, &Question::default().encode_to_vec()).await;
    let reply = tokio::time::timeout(Duration::from_mins(1), replies.next()).await;
    let reply = reply.expect("within a minute").unwrap().unwrap();
    let properties = reply.properties;
    assert_eq!(properties.correlation_id().as_ref().unwrap().as_str(), "mine");
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "test.v1.Answer");
    scene.agents.stop().await;
}
