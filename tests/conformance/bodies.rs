//! Bodies and headers: of every size, and of any content.

use agentbus::{
    broker::{Destination, PublishError},
    message::{HeaderValue, MAX_HEADER_BYTES, MAX_HEADERS},
};

use crate::bench::{Bench, body, error, next, within};

const MIB: usize = 1 << 20;

/// Makes bytes that no truncation, shift or repetition leaves equal.
fn bytes(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

async fn bodies_of_every_size_arrive_whole(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    // Around the bounds of AMQP's short strings, and of frames of 128 KiB with their 8 bytes.
    let frame = 131_072;
    for length in [
        0,
        1,
        255,
        256,
        65_535,
        65_536,
        frame - 9,
        frame - 8,
        frame - 7,
        frame,
        2 * (frame - 8),
        2 * (frame - 8) + 1,
        MIB,
        16 * MIB,
    ] {
        let sent = bytes(length);
        bench.publish(&topic, body(sent.clone())).await;
        let delivery = next(&mut deliveries).await;
        assert!(delivery.envelope().payload == sent, "a body of {length} bytes was changed");
        delivery.ack();
    }
}

async fn a_body_over_the_limit_is_not_sent(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let giant = body(vec![1; 16 * MIB + 1]);
    for to in [Destination::Topic(&topic), Destination::Reply(&queue)] {
        match error(within("publish", bench.broker.publish(to, giant.clone())).await) {
            PublishError::TooLarge { bytes, limit, envelope, .. } => {
                assert_eq!((bytes, limit), (16 * MIB + 1, 16 * MIB));
                assert!(envelope.payload == giant.payload);
            }
            other => panic!("publishing to {to} gave {other}"),
        }
    }
    bench.ready(&queue, 0).await;
}

/// A giant that a foreign program sent must fit into the dead letters.
async fn a_body_over_the_limit_goes_to_a_queue_by_name(bench: &Bench) {
    if !bench.can(bench.backend.takes_giants(), "takes no bodies over 16 MiB") {
        return;
    }
    let queue = bench.work("q", &[]).await;
    let giant = body(vec![1; 17 * MIB]);
    let to = Destination::Queue(&queue);
    within("publish", bench.broker.publish(to, giant.clone())).await.expect("it is taken");
    let mut deliveries = bench.consume(&queue, 1).await;
    let delivery = next(&mut deliveries).await;
    assert!(delivery.envelope().payload == giant.payload);
    delivery.ack();
}

async fn sixty_four_headers_arrive_as_they_were_set(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut sent = body("headers");
    let headers = &mut sent.metadata.headers;
    headers.set("größe", "ü\u{1f600}\u{202e}\0").unwrap();
    headers.set("empty", "").unwrap();
    headers.set("long", "v".repeat(MAX_HEADER_BYTES)).unwrap();
    headers.set("n".repeat(MAX_HEADER_BYTES), "name").unwrap();
    headers.set("least", HeaderValue::Int(i64::MIN)).unwrap();
    headers.set("most", HeaderValue::Int(i64::MAX)).unwrap();
    headers.set("number as text", "17").unwrap();
    for number in headers.len()..MAX_HEADERS {
        headers.set(format!("h{number}"), i64::try_from(number).unwrap()).unwrap();
    }
    bench.publish(&topic, sent.clone()).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    let delivery = next(&mut deliveries).await;
    let found = &delivery.envelope().metadata.headers;
    assert_eq!(found.len(), MAX_HEADERS);
    for (name, value) in sent.metadata.headers.iter() {
        assert_eq!(found.get(name), Some(value), "{name}");
    }
    delivery.ack();
}

async fn ids_and_types_of_peers_arrive_as_they_are(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let mut sent = body("ids");
    sent.metadata.message_id = Some("Größe 17/ü\u{1f600}".into());
    sent.metadata.correlation_id = Some("0198F2A0-0000-7000-8000-000000000000".into());
    sent.metadata.message_type = Some("no.such.Type".into());
    sent.metadata.content_type = Some("application/json".into());
    bench.publish(&topic, sent.clone()).await;
    let mut deliveries = bench.consume(&queue, 1).await;
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.envelope().metadata, sent.metadata);
    delivery.ack();
}

cases! {
    bodies_of_every_size_arrive_whole,
    a_body_over_the_limit_is_not_sent,
    a_body_over_the_limit_goes_to_a_queue_by_name,
    sixty_four_headers_arrive_as_they_were_set,
    ids_and_types_of_peers_arrive_as_they_are,
}
