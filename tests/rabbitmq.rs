//! What is RabbitMQ's own: errors of connecting and declaring, confirmations under pipelining,
//! acks, foreign and forged messages, delays, and coming back.

mod vhost;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use agentbus::{
    Envelope, Id, Name, Pattern,
    broker::{
        Broker, DeadLetterLimits, Destination, Health, PublishError, QueueError, QueueRole,
        QueueSpec, Stage, TopologyError,
        rabbitmq::{ConnectError, Declare, Host, RabbitMq, RabbitOptions},
    },
    message::{FailureKind, Priorities, Priority, Timestamp},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{StreamExt, stream};
use lapin::{
    BasicProperties, Channel,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldArray, FieldTable, ShortString},
};
use tokio::time::timeout;
use vhost::{Vhost, skip};

const LIMIT: Duration = Duration::from_secs(30);

fn work(name: &str, max_length: u64) -> QueueSpec {
    QueueSpec::new(name, QueueRole::Work { dead_letters: format!("{name}.dlq").into(), max_length })
}

fn private(name: &str) -> QueueSpec {
    let expires = Duration::from_mins(1);
    QueueSpec::new(name, QueueRole::Private { max_length: 1_000_000, expires })
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn envelope(payload: impl Into<Vec<u8>>) -> Envelope {
    let mut envelope = Envelope { payload: payload.into().into(), ..Envelope::default() };
    envelope.metadata.message_id = Some(Id::new());
    envelope
}

async fn within<T>(answer: impl Future<Output = T>) -> T {
    timeout(LIMIT, answer).await.expect("no answer")
}

async fn foreign_publish(channel: &Channel, queue: &str, properties: BasicProperties, body: &[u8]) {
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("".into(), queue.into(), options, body, properties)
        .await
        .unwrap()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_an_error_at_once() {
    let options = RabbitOptions {
        // Nobody listens on port 1.
        hosts: vec![
            Host { name: "127.0.0.1".into(), port: 1 },
            Host { name: "localhost".into(), port: 1 },
        ],
        password: "secret".into(),
        ..RabbitOptions::default()
    };
    let error = within(RabbitMq::connect(options)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(text.contains("127.0.0.1:1, localhost:1"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_mute_broker_is_given_up() {
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = mute.local_addr().unwrap().port();
    let options = RabbitOptions {
        hosts: vec![Host { name: "127.0.0.1".into(), port }],
        connect_timeout: Duration::from_millis(300),
        ..RabbitOptions::default()
    };
    let error = within(RabbitMq::connect(options)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn wrong_credentials_are_named_without_the_password() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let options = RabbitOptions { password: "secret".into(), ..vhost.options.clone() };
    let error = within(RabbitMq::connect(options)).await.unwrap_err();
    let ConnectError::Credentials { user, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*user, vhost.options.user);
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[tokio::test]
async fn a_missing_virtual_host_is_named() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let options = RabbitOptions { vhost: "agentbus-nowhere".into(), ..vhost.options.clone() };
    let error = within(RabbitMq::connect(options)).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::NoVhost { vhost, .. } if vhost == "agentbus-nowhere"),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_next_host_is_tried() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let mut options = vhost.options.clone();
    options.hosts.insert(0, Host { name: "127.0.0.1".into(), port: 1 });
    let bus = RabbitMq::connect(options).await.unwrap();
    assert_eq!(bus.health().borrow().stage, Stage::Consuming);
    assert_eq!(bus.pool().open(), 2);
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_an_error_that_names_both_values() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = vhost.connect().await;
    let name = vhost.name("mismatch");
    bus.declare(&work(&name, 1000)).await.unwrap();
    bus.declare(&work(&name, 1000)).await.unwrap();
    let error = bus.declare(&work(&name, 7)).await.unwrap_err();
    let TopologyError::Mismatch { argument, ours, theirs, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((&**argument, &**ours, &**theirs), ("x-max-length", "`7`", "`1000`"));
    // Nobody else on the connection suffers.
    bus.stats(&name).await.unwrap();
    let error = bus.declare(&private(&name)).await.unwrap_err();
    assert!(matches!(error, TopologyError::Mismatch { .. }), "{error:?}");
}

#[tokio::test]
async fn passive_declaration_creates_nothing_but_bindings() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let options = RabbitOptions { declare: Declare::Passive, ..vhost.options.clone() };
    let nowhere =
        RabbitOptions { exchange: vhost.name("no.such.exchange").into(), ..options.clone() };
    let error = RabbitMq::connect(nowhere).await.unwrap_err();
    assert!(matches!(error, ConnectError::Exchange { .. }), "{error:?}");

    let active = vhost.connect().await;
    let passive = RabbitMq::connect(options).await.unwrap();
    let name = vhost.name("passive");
    let topic: Name = vhost.name("passive.topic").into();
    // Its arguments do not matter.
    let spec = work(&name, 3).bind(pattern(&topic));
    let error = passive.declare(&spec).await.unwrap_err();
    assert!(matches!(&error, TopologyError::Missing { name: n } if **n == *name), "{error:?}");
    active.declare(&private(&name)).await.unwrap();
    passive.declare(&spec).await.unwrap();
    passive.publish(Destination::Topic(&topic), envelope("x")).await.unwrap();
    assert_eq!(passive.stats(&name).await.unwrap().ready, 1);
}

#[tokio::test]
async fn a_queue_that_does_not_exist_is_not_found() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = vhost.connect().await;
    for name in [vhost.name("nowhere"), "x".repeat(300), String::new()] {
        assert!(matches!(bus.stats(&name).await, Err(QueueError::NotFound { .. })), "{name}");
        assert!(matches!(bus.consume(&name, 1).await, Err(QueueError::NotFound { .. })));
        assert!(matches!(bus.purge(&name).await, Err(QueueError::NotFound { .. })));
        bus.delete(&name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_pipelining_every_publish_gets_its_own_outcome() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = Arc::new(vhost.connect().await);
    let name = vhost.name("pipelined");
    let bound: Name = vhost.name("pipelined.bound").into();
    let unbound: Name = vhost.name("pipelined.unbound").into();
    bus.declare(&work(&name, 1_000_000).bind(pattern(&bound))).await.unwrap();
    let outcomes = stream::iter(0..4000_u32)
        .map(|number| {
            let (bus, bound, unbound) = (bus.clone(), bound.clone(), unbound.clone());
            // Irregular, so that no pattern of the broker's can hide a mix-up.
            let routable = number.wrapping_mul(2_654_435_761) >> 30 != 0;
            async move {
                let topic = if routable { bound } else { unbound };
                let published = tokio::spawn(async move {
                    bus.publish(Destination::Topic(&topic), envelope(number.to_be_bytes())).await
                });
                (routable, published.await.unwrap())
            }
        })
        .buffer_unordered(512)
        .collect::<Vec<_>>();
    let mut taken = 0;
    for (routable, outcome) in within(outcomes).await {
        match outcome {
            Ok(()) if routable => taken += 1,
            Err(PublishError::Unroutable { .. }) if !routable => {}
            other => panic!("routable: {routable}, but {other:?}"),
        }
    }
    assert_eq!(bus.stats(&name).await.unwrap().ready, taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_says_so() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = vhost.connect().await;
    let name = vhost.name("full");
    let role = QueueRole::Private { max_length: 3, expires: Duration::from_mins(1) };
    bus.declare(&QueueSpec::new(&*name, role)).await.unwrap();
    let mut refused = 0;
    for _ in 0..10 {
        match bus.publish(Destination::Queue(&name), envelope("x")).await {
            Ok(()) => {}
            Err(PublishError::Refused { .. }) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(refused, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_order_of_settling_nothing_is_lost_or_settled_twice() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = Arc::new(vhost.connect().await);
    let name = vhost.name("settled");
    bus.declare(&work(&name, 1_000_000)).await.unwrap();
    for number in 0..2000_u32 {
        bus.publish(Destination::Queue(&name), envelope(number.to_be_bytes())).await.unwrap();
        if number == 200 {
            break;
        }
    }
    let publish = stream::iter(201..2000_u32).for_each_concurrent(256, |number| {
        let (bus, name) = (bus.clone(), name.clone());
        async move {
            bus.publish(Destination::Queue(&name), envelope(number.to_be_bytes())).await.unwrap();
        }
    });
    within(publish).await;
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let released = Arc::new(Mutex::new(HashSet::new()));
    let mut consumers = Vec::new();
    for prefetch in [1, 7, 64] {
        let mut deliveries = bus.consume(&name, prefetch).await.unwrap();
        let (seen, released) = (seen.clone(), released.clone());
        consumers.push(tokio::spawn(async move {
            while seen.lock().unwrap().len() < 2000 {
                let next = timeout(Duration::from_millis(500), deliveries.next());
                let Ok(Some(delivery)) = next.await else { continue };
                let (seen, released) = (seen.clone(), released.clone());
                let payload = delivery.envelope().payload.clone();
                if delivery.is_redelivered() {
                    let known = released.lock().unwrap().contains(&payload);
                    assert!(known, "nobody gave it back: a wrong tag closed the channel");
                }
                // Some are slow, some are given back once.
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..12))).await;
                    if !delivery.is_redelivered() && fastrand::u8(0..5) == 0 {
                        released.lock().unwrap().insert(payload);
                        return delivery.release();
                    }
                    seen.lock().unwrap().insert(payload);
                    delivery.ack();
                });
            }
        }));
    }
    for consumer in consumers {
        within(consumer).await.unwrap();
    }
    bus.close().await;
    let bus = vhost.connect().await;
    let stats = bus.stats(&name).await.unwrap();
    assert_eq!(stats.ready, 0, "all were acked, or the channel was closed over a wrong tag");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_cut_everything_comes_back_and_nothing_confirmed_is_lost() {
    let Some(vhost) = skip(Vhost::alone().await) else { return };
    let bus = Arc::new(vhost.connect().await);
    bus.declare(&work("cut", 1_000_000).bind(pattern("cut.*"))).await.unwrap();
    let mut deliveries = bus.consume("cut", 100).await.unwrap();
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let collect = seen.clone();
    tokio::spawn(async move {
        while let Some(delivery) = deliveries.next().await {
            collect.lock().unwrap().insert(delivery.envelope().payload.clone());
            delivery.ack();
        }
    });
    let publisher = bus.clone();
    let publishing = tokio::spawn(async move {
        let topic = Name::from_static("cut.now");
        stream::iter(0..30_000_u32)
            .map(|number| {
                let (bus, topic) = (&publisher, &topic);
                async move {
                    let payload = number.to_be_bytes();
                    let sent = bus.publish(Destination::Topic(topic), envelope(payload)).await;
                    (payload, sent)
                }
            })
            .buffer_unordered(256)
            .collect::<Vec<_>>()
            .await
    });
    vhost.cut_connections().await;
    vhost.cut_connections().await;
    let outcomes = within(publishing).await.unwrap();
    let mut confirmed = HashSet::new();
    let mut unknown = 0;
    for (payload, outcome) in outcomes {
        match outcome {
            Ok(()) => drop(confirmed.insert(payload)),
            Err(PublishError::Unconfirmed { .. }) => unknown += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    println!("{} confirmed, {unknown} unknown", confirmed.len());
    let complete = async {
        while confirmed.iter().any(|payload| !seen.lock().unwrap().contains(&payload[..])) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(complete).await;
    let mut health = bus.health();
    within(health.wait_for(Health::is_healthy)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_after_a_cut_settles_nothing_of_the_new_channel() {
    let Some(vhost) = skip(Vhost::alone().await) else { return };
    let bus = vhost.connect().await;
    bus.declare(&work("cut", 1000)).await.unwrap();
    let mut attempted = envelope("x");
    attempted.metadata.attempt = Some(3);
    for _ in 0..20 {
        bus.publish(Destination::Queue("cut"), attempted.clone()).await.unwrap();
    }
    let mut deliveries = bus.consume("cut", 20).await.unwrap();
    let mut before = Vec::new();
    while before.len() < 20 {
        before.push(within(deliveries.next()).await.unwrap());
    }
    vhost.cut_connections().await;
    // All come again, under tags that those before have had.
    let mut after = Vec::new();
    while after.len() < 20 {
        let delivery = within(deliveries.next()).await.unwrap();
        assert!(delivery.is_redelivered());
        assert_eq!(delivery.envelope().metadata.attempt, Some(3), "a cut is no attempt");
        after.push(delivery);
    }
    for (number, delivery) in before.into_iter().enumerate() {
        if number % 2 == 0 { delivery.ack() } else { delivery.release() }
    }
    // Were the old ones taken for the new ones, half would come again now and half be gone.
    let other = vhost.connect().await;
    assert_eq!(other.stats("cut").await.unwrap().ready, 0);
    after.into_iter().for_each(agentbus::broker::Delivery::release);
    for _ in 0..20 {
        within(deliveries.next()).await.unwrap().ack();
    }
    bus.close().await;
    assert_eq!(other.stats("cut").await.unwrap().ready, 0, "each was settled once, and well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_declared_and_consumed_again() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = vhost.connect().await;
    let name = vhost.name("deleted");
    let topic: Name = vhost.name("deleted.topic").into();
    bus.declare(&work(&name, 1000).bind(pattern(&topic))).await.unwrap();
    let mut deliveries = bus.consume(&name, 10).await.unwrap();
    let mut health = bus.health();
    // Somebody else deletes it.
    let other = vhost.connect().await;
    other.delete(&name).await.unwrap();
    let arrived = async {
        while bus.publish(Destination::Topic(&topic), envelope("again")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        deliveries.next().await
    };
    assert_eq!(&within(arrived).await.unwrap().envelope().payload[..], b"again");
    within(health.wait_for(Health::is_healthy)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_reply_address_harms_nobody() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = Arc::new(vhost.connect().await);
    let name = vhost.name("forged");
    bus.declare(&work(&name, 100_000)).await.unwrap();
    // Others publish on the same channel all the while.
    let (busy, queue) = (bus.clone(), name.clone());
    let others = tokio::spawn(async move {
        for _ in 0..300 {
            busy.publish(Destination::Queue(&queue), envelope("x")).await.unwrap();
        }
    });
    for _ in 0..20 {
        for address in ["amq.rabbitmq.reply-to", "", "amq.rabbitmq.trace", "amq.gen"] {
            let sent = bus.publish(Destination::Reply(address), envelope("x")).await;
            assert!(matches!(sent, Err(PublishError::Invalid { .. })), "{address}: {sent:?}");
        }
        let literal = Destination::Queue("amq.rabbitmq.reply-to");
        let sent = bus.publish(literal, envelope("x")).await;
        assert!(matches!(sent, Err(PublishError::Invalid { .. })), "{sent:?}");
        let mut forged = envelope("x");
        forged.metadata.reply_to = Some("amq.rabbitmq.reply-to".into());
        let sent = bus.publish(Destination::Queue(&name), forged).await;
        assert!(matches!(sent, Err(PublishError::Invalid { .. })), "{sent:?}");
        for garbage in ["amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.g1h2AA=.nobody"] {
            let sent = bus.publish(Destination::Reply(garbage), envelope("x")).await;
            assert!(matches!(sent, Err(PublishError::Invalid { .. })), "{garbage}: {sent:?}");
        }
        // Well made, of a node that is not there: the broker would close the connection over it.
        let forged = "amq.rabbitmq.reply-to.g1h3DnJlcGx5QDY4NzgxMzM0AABwSgAAAABpLx5C.BwcHBwcHBwcHBwcHBwcHBw==";
        let sent = bus.publish(Destination::Reply(forged), envelope("x")).await;
        assert!(matches!(sent, Err(PublishError::Unroutable { .. })), "{sent:?}");
        let sent = bus.publish(Destination::Reply("no.such.queue"), envelope("x")).await;
        assert!(matches!(sent, Err(PublishError::Unroutable { .. })), "{sent:?}");
        let sent = bus.publish(Destination::Reply(&"x".repeat(300)), envelope("x")).await;
        assert!(matches!(sent, Err(PublishError::Invalid { .. })), "{sent:?}");
    }
    within(others).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_to_another_process_of_the_broker_harms_nobody() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = vhost.connect().await;
    let name = vhost.name("inboxes");
    bus.declare(&private(&name)).await.unwrap();
    let mut requests = bus.consume(&name, 1).await.unwrap();
    let inbox = bus.inbox(Arc::new(|_| ())).await.unwrap();
    inbox.publish(Destination::Queue(&name), envelope("x")).await.unwrap();
    let request = within(requests.next()).await.unwrap();
    let address = request.envelope().metadata.reply_to.clone().unwrap();
    request.ack();
    bus.publish(Destination::Reply(&address), envelope("x")).await.unwrap();
    let parts: Vec<_> = address.rsplitn(3, '.').collect();
    let term = STANDARD.decode(parts[1]).unwrap();
    for id in 0..200_u32 {
        let mut other = term.clone();
        let at = other.len() - 12;
        other[at..at + 4].copy_from_slice(&id.to_be_bytes());
        let forged = format!("{}.{}.{}", parts[2], STANDARD.encode(other), parts[0]);
        bus.publish(Destination::Reply(&forged), envelope("x")).await.unwrap();
    }
    bus.stats(&name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_and_after_a_cut_the_next_one_too() {
    let Some(vhost) = skip(Vhost::alone().await) else { return };
    let bus = Arc::new(vhost.connect().await);
    bus.declare(&work("asked", 1000).bind(pattern("ask"))).await.unwrap();
    let mut requests = bus.consume("asked", 10).await.unwrap();
    let replier = bus.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let metadata = &request.envelope().metadata;
            let mut reply = envelope("pong");
            reply.metadata.correlation_id = metadata.correlation_id.clone();
            let address = metadata.reply_to.clone().unwrap();
            drop(replier.publish(Destination::Reply(&address), reply).await);
            request.ack();
        }
    });
    let (sender, mut replies) = tokio::sync::mpsc::unbounded_channel();
    let sink = Arc::new(move |reply: Envelope| drop(sender.send(reply)));
    let inbox = bus.inbox(sink).await.unwrap();
    let ask = Name::from_static("ask");
    for round in 0..3 {
        let answered = async {
            loop {
                let mut request = envelope("ping");
                request.metadata.correlation_id = Some(format!("{round}").as_str().into());
                // During the cut, requests may be lost; their deadline would tell.
                drop(inbox.publish(Destination::Topic(&ask), request).await);
                let reply = timeout(Duration::from_millis(500), replies.recv()).await;
                if let Ok(Some(reply)) = reply {
                    break reply;
                }
            }
        };
        let reply = within(answered).await;
        assert_eq!((&reply.payload[..], reply.topic), (&b"pong"[..], None));
        vhost.cut_connections().await;
        while replies.try_recv().is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_message_larger_than_ours_may_be_is_received() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = vhost.connect().await;
    let name = vhost.name("large");
    bus.declare(&work(&name, 10)).await.unwrap();
    let body = vec![7; 64 << 20];
    let (_connection, channel) = vhost.foreign().await;
    foreign_publish(&channel, &name, BasicProperties::default(), &body).await;
    let mut deliveries = bus.consume(&name, 10).await.unwrap();
    let delivery = within(deliveries.next()).await.unwrap();
    assert_eq!(delivery.envelope().payload.len(), body.len());
    // It may go on to another queue, as to the dead letters, but not be published anew.
    let large = delivery.envelope().clone();
    delivery.ack();
    let topic = Name::from_static("large.topic");
    let sent = bus.publish(Destination::Topic(&topic), large.clone()).await;
    assert!(matches!(sent, Err(PublishError::TooLarge { limit, .. }) if limit == 16 << 20));
    bus.publish(Destination::Queue(&name), large).await.unwrap();
    let delivery = within(deliveries.next()).await.unwrap();
    delivery.ack();
}

fn random_value(depth: u8) -> AMQPValue {
    let bytes = || (0..fastrand::usize(0..600)).map(|_| fastrand::u8(..)).collect::<Vec<_>>();
    match fastrand::u8(0..if depth > 3 { 10 } else { 13 }) {
        0 => AMQPValue::Boolean(fastrand::bool()),
        1 => AMQPValue::ShortShortInt(fastrand::i8(..)),
        2 => AMQPValue::LongUInt(fastrand::u32(..)),
        3 => AMQPValue::LongLongInt(fastrand::i64(..)),
        // RabbitMQ's channel crashes on what is no number.
        4 => AMQPValue::Double(
            Some(f64::from_bits(fastrand::u64(..))).filter(|d| d.is_finite()).unwrap_or(0.5),
        ),
        5 => AMQPValue::Timestamp(fastrand::u64(..)),
        6 => AMQPValue::Void,
        7 => AMQPValue::LongString(bytes().into()),
        8 => AMQPValue::ByteArray(bytes().into()),
        9 => AMQPValue::LongString(fastrand::u64(..).to_string().into()),
        10 => {
            let mut array = FieldArray::default();
            (0..fastrand::u8(0..4)).for_each(|_| array.push(random_value(depth + 1)));
            AMQPValue::FieldArray(array)
        }
        _ => AMQPValue::FieldTable(random_table(depth + 1)),
    }
}

fn random_table(depth: u8) -> FieldTable {
    const NAMES: [&str; 12] = [
        "agentbus-topic",
        "agentbus-deadline",
        "agentbus-attempt",
        "agentbus-due-at",
        "agentbus-priority",
        "agentbus-failure-kind",
        "agentbus-failure-at",
        "traceparent",
        "ce-specversion",
        "ce-id",
        "x-death",
        "",
    ];
    let mut table = FieldTable::default();
    for _ in 0..fastrand::u8(0..8) {
        let name = match fastrand::u8(0..3) {
            0 => NAMES[fastrand::usize(0..NAMES.len())].to_owned(),
            1 => format!("h{}", fastrand::u8(..)),
            _ => "n".repeat(fastrand::usize(0..120)),
        };
        table.insert(ShortString::try_new(name).unwrap(), random_value(depth));
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_headers_and_properties_are_received_and_can_be_sent_on() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    // Of this thread, which polls the test from its beginning to its end.
    fastrand::seed(seed);
    let bus = vhost.connect().await;
    let (from, to) = (vhost.name("nonsense"), vhost.name("nonsense.kept"));
    bus.declare(&work(&from, 100_000)).await.unwrap();
    bus.declare(&work(&to, 100_000)).await.unwrap();
    let (_connection, channel) = vhost.foreign().await;
    let count = 500;
    for _ in 0..count {
        let word = || ShortString::try_new("ä".repeat(fastrand::usize(0..127))).unwrap();
        let properties = BasicProperties::default()
            .with_headers(random_table(0))
            .with_content_type(word())
            .with_type(word())
            .with_message_id(word())
            .with_correlation_id(word())
            .with_app_id(word())
            .with_reply_to(word())
            .with_timestamp(fastrand::u64(..))
            .with_priority(fastrand::u8(..));
        let body: Vec<u8> = (0..fastrand::usize(0..300)).map(|_| fastrand::u8(..)).collect();
        foreign_publish(&channel, &from, properties, &body).await;
    }
    let mut deliveries = bus.consume(&from, 50).await.unwrap();
    for _ in 0..count {
        let delivery = within(deliveries.next()).await.unwrap();
        let mut kept = delivery.envelope().clone();
        // A foreign due time is nonsense here; it would only delay the test.
        kept.metadata.due_at = None;
        bus.publish(Destination::Queue(&to), kept).await.unwrap();
        delivery.ack();
    }
    assert_eq!(bus.stats(&to).await.unwrap().ready, count);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_gives_up_on_goes_to_the_dead_letters() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = vhost.connect().await;
    let name = vhost.name("fuse");
    let dead = format!("{name}.dlq");
    let role = QueueRole::DeadLetters(DeadLetterLimits::default());
    bus.declare(&QueueSpec::new(&*dead, role)).await.unwrap();
    bus.declare(&work(&name, 1000)).await.unwrap();
    bus.publish(Destination::Queue(&name), envelope("bad")).await.unwrap();
    let mut deliveries = bus.consume(&name, 10).await.unwrap();
    let given_up = async {
        loop {
            tokio::select! {
                Some(delivery) = deliveries.next() => delivery.release(),
                () = tokio::time::sleep(Duration::from_millis(200)) => {
                    if bus.stats(&dead).await.unwrap().ready == 1 {
                        break;
                    }
                }
            }
        }
    };
    within(given_up).await;
    let mut letters = bus.consume(&dead, 1).await.unwrap();
    let letter = within(letters.next()).await.unwrap();
    let failure = letter.envelope().metadata.failure.clone().unwrap();
    assert_eq!((failure.kind, &*failure.agent), (FailureKind::CrashLoop, &*name));
    letter.ack();
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_bus_that_is_closed_at_once_has_nothing_to_warn_of() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN);
    let subscriber = subscriber.with_writer(move || writer.clone()).finish();
    // All tasks of the bus run on this thread.
    let _logged = tracing::subscriber::set_default(subscriber);
    for _ in 0..20 {
        let bus = vhost.connect().await;
        let inbox = bus.inbox(Arc::new(|_| {})).await.unwrap();
        within(bus.close()).await;
        drop(inbox);
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!log.contains("cannot open a channel"), "{log}");
}

#[tokio::test]
async fn questions_share_a_channel_that_is_opened_again_when_one_fails() {
    let Some(vhost) = skip(Vhost::alone().await) else { return };
    let bus = vhost.connect().await;
    let name = vhost.name("asked");
    bus.declare(&private(&name)).await.unwrap();
    for round in 0..50 {
        bus.stats(&name).await.unwrap();
        bus.purge(&name).await.unwrap();
        if round % 25 == 0 {
            let missing = bus.stats("nowhere").await.unwrap_err();
            assert!(matches!(missing, QueueError::NotFound { .. }), "{missing}");
        }
    }
    // lapin counts channels up, and remembers each; the consumer has the latest.
    let consumer = bus.consume(&name, 1).await.unwrap();
    assert!(vhost.highest_channel().await <= 8);
    drop(consumer);
    let many = stream::iter(0..100).map(|_| bus.stats(&name)).buffer_unordered(10);
    assert_eq!(many.filter(|stats| std::future::ready(stats.is_ok())).count().await, 100);
    // One to publish on, the consumer's, and the one that is kept.
    within(async {
        while vhost.channels().await > 3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    vhost.cut_connections().await;
    within(async {
        while bus.stats(&name).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    within(bus.close()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_dropped_take_no_connection_along() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let (bus, other) = (vhost.connect().await, vhost.connect().await);
    let (busy, brief) = (private(&vhost.name("busy")), private(&vhost.name("brief")));
    bus.declare(&busy).await.unwrap();
    let mut consumer = bus.consume(&busy.name, 1).await.unwrap();
    bus.publish(Destination::Queue(&busy.name), envelope("x")).await.unwrap();
    let in_work = within(consumer.next()).await.unwrap();
    // Bindings to a queue that is deleted meanwhile: the broker closes the channel over them.
    let brief = (0..20).fold(brief, |spec, number| spec.bind(pattern(&format!("brief.{number}"))));
    for round in 0..150 {
        let limit = Duration::from_micros(500 + 100 * (round % 50));
        let declared = timeout(limit, bus.declare(&brief));
        let (_, deleted) = tokio::join!(declared, async {
            tokio::time::sleep(limit.mul_f64(0.9)).await;
            other.delete(&brief.name).await
        });
        deleted.unwrap();
    }
    in_work.ack();
    within(bus.close()).await;
    assert_eq!(other.stats(&busy.name).await.unwrap().ready, 0, "it was taken back by the broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_vanishes_is_kept_up_for_as_long_as_it_is_consumed_from() {
    let Some(vhost) = skip(Vhost::alone().await) else { return };
    let (bus, other) = (vhost.connect().await, vhost.connect().await);
    let names = [vhost.name("left"), vhost.name("kept")];
    let mut consumers = Vec::new();
    for name in &names {
        bus.declare(&private(name)).await.unwrap();
        consumers.push(bus.consume(name, 1).await.unwrap());
    }
    let kept = consumers.pop();
    drop(consumers);
    within(async {
        while other.stats(&names[0]).await.unwrap().consumers > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for name in &names {
        other.delete(name).await.unwrap();
    }
    vhost.cut_connections().await;
    // Declared again in this order: what comes first would be there by now.
    within(async {
        while !other.stats(&names[1]).await.is_ok_and(|stats| stats.consumers == 1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let left = other.stats(&names[0]).await.unwrap_err();
    assert!(matches!(left, QueueError::NotFound { .. }), "{left}");
    drop(kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_consumers_share_few_channels() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = vhost.connect().await;
    let mut consumers = Vec::new();
    for number in 0..100 {
        let name = vhost.name(&format!("many.{number}"));
        bus.declare(&private(&name)).await.unwrap();
        consumers.push((bus.consume(&name, 5).await.unwrap(), name));
    }
    for (_, name) in &consumers {
        bus.publish(Destination::Queue(name), envelope("x")).await.unwrap();
    }
    for (deliveries, _) in &mut consumers {
        within(deliveries.next()).await.unwrap().ack();
    }
    let (mut some, name) = consumers.swap_remove(40);
    bus.publish(Destination::Queue(&name), envelope("y")).await.unwrap();
    some.cancel();
    while let Some(delivery) = within(some.next()).await {
        delivery.ack();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_publish_leaves_nothing_and_closing_flushes() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = Arc::new(vhost.connect().await);
    let name = vhost.name("closing");
    bus.declare(&work(&name, 1_000_000)).await.unwrap();
    for _ in 0..2000 {
        let publish = bus.publish(Destination::Queue(&name), envelope("dropped"));
        drop(timeout(Duration::ZERO, publish).await);
    }
    let (started, mut published) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..500 {
        let (bus, name, started) = (bus.clone(), name.clone(), started.clone());
        tokio::spawn(async move {
            let sent = bus.publish(Destination::Queue(&name), envelope("sent")).await;
            drop(started.send(sent));
        });
    }
    drop(started);
    within(published.recv()).await.unwrap().unwrap();
    within(bus.close()).await;
    within(bus.close()).await;
    while let Some(sent) = within(published.recv()).await {
        assert!(matches!(sent, Ok(()) | Err(PublishError::Closed { .. })), "{sent:?}");
    }
    let after = bus.publish(Destination::Queue(&name), envelope("late")).await;
    assert!(matches!(after, Err(PublishError::Closed { .. })), "{after:?}");
    assert_eq!(bus.health().borrow().stage, Stage::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_somebody_else_closes_is_opened_again() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = vhost.connect().await;
    let name = vhost.name("exchange.gone");
    let Some(second) = skip(Vhost::shared().await) else { return };
    let options = &second.options;
    let other = second.connect().await;
    bus.declare(&work(&name, 1000)).await.unwrap();
    let (_connection, channel) = vhost.foreign().await;
    channel
        .exchange_delete(
            options.exchange.as_str().into(),
            lapin::options::ExchangeDeleteOptions::default(),
        )
        .await
        .unwrap();
    let topic = Name::from_static("t");
    let sent = other.publish(Destination::Topic(&topic), envelope("x")).await;
    assert!(matches!(sent, Err(PublishError::Unconfirmed { .. })), "{sent:?}");
    other.publish(Destination::Queue(&name), envelope("x")).await.unwrap();
}

fn at(level: u8, text: &str) -> Envelope {
    let mut envelope = envelope(text);
    envelope.metadata.priority = Priority::new(level).ok();
    envelope
}

#[tokio::test]
async fn a_queue_that_gets_lanes_has_one_copy_of_each_message() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = RabbitMq::connect(vhost.options.clone()).await.unwrap();
    let (queue, topic) = (vhost.name("grows"), vhost.name("topic"));
    let plain = work(&queue, 100).bind(pattern(&topic));
    within(bus.declare(&plain)).await.unwrap();
    let name = Name::from(&*topic);
    within(bus.publish(Destination::Topic(&name), at(9, "before"))).await.unwrap();
    let laned = plain.clone().priorities(Priorities::Lanes);
    within(bus.declare(&laned)).await.unwrap();
    let urgent = vhost.name("grows.urgent");
    for lane in ["low", "high"] {
        vhost.name(&format!("grows.{lane}"));
    }
    let later = |text| {
        let mut delayed = at(9, text);
        delayed.metadata.due_at = Some(Timestamp::now().after(Duration::from_millis(250)));
        delayed
    };
    within(bus.publish(Destination::Topic(&name), at(9, "direct"))).await.unwrap();
    within(bus.publish(Destination::Topic(&name), later("delayed"))).await.unwrap();
    within(bus.publish(Destination::Queue(&queue), later("retry"))).await.unwrap();
    let mut deliveries = within(bus.consume(&queue, 10)).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let delivery = within(deliveries.next()).await.unwrap();
        seen.push(delivery.envelope().payload.clone());
        delivery.ack();
    }
    seen.sort();
    assert_eq!(seen, ["before", "delayed", "direct", "retry"]);
    for queue in [&queue, &urgent] {
        assert_eq!(within(bus.stats(queue)).await.unwrap().ready, 0, "{queue}");
    }
    let more = tokio::time::timeout(Duration::from_millis(300), deliveries.next());
    assert!(more.await.is_err(), "a second copy");
}

#[tokio::test]
async fn foreign_publishers_reach_a_lane_by_the_header() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = RabbitMq::connect(vhost.options.clone()).await.unwrap();
    let (queue, topic) = (vhost.name("served"), vhost.name("topic"));
    let spec = work(&queue, 100).bind(pattern(&topic)).priorities(Priorities::Lanes);
    within(bus.declare(&spec)).await.unwrap();
    let lanes = ["low", "high", "urgent"].map(|lane| vhost.name(&format!("served.{lane}")));
    let (_connection, channel) = vhost.foreign().await;
    let with = |level: Option<AMQPValue>| {
        let properties = BasicProperties::default().with_priority(10);
        let Some(level) = level else { return properties };
        let mut headers = FieldTable::default();
        headers.insert("agentbus-priority".into(), level);
        properties.with_headers(headers)
    };
    let published = [
        None,
        Some(AMQPValue::LongLongInt(1)),
        Some(AMQPValue::LongInt(7)),
        Some(AMQPValue::ShortInt(8)),
        Some(AMQPValue::ShortShortInt(9)),
        Some(AMQPValue::LongLongInt(10)),
        Some(AMQPValue::LongLongInt(99)),
        Some(AMQPValue::LongString("urgent".into())),
    ];
    for level in published {
        let exchange = ShortString::from(&*vhost.options.exchange);
        let options = BasicPublishOptions::default();
        let key = ShortString::from(&*topic);
        let sent = channel.basic_publish(exchange, key, options, b"", with(level));
        within(sent.await.unwrap()).await.unwrap();
    }
    // What is no priority is normal.
    for (queue, expected) in lanes.iter().zip([1, 2, 2]) {
        assert_eq!(count(&bus, queue, expected).await, expected, "{queue}");
    }
    let mut all = within(bus.consume(&queue, 20)).await.unwrap();
    for _ in 0..8 {
        within(all.next()).await.unwrap().ack();
    }
}

/// Waits until a queue has this many messages, and returns how many it has after a while.
async fn count(bus: &RabbitMq, queue: &str, expected: u64) -> u64 {
    let mut ready = 0;
    for _ in 0..3000 {
        ready = within(bus.stats(queue)).await.unwrap().ready;
        if ready >= expected {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ready
}

#[tokio::test]
async fn a_lane_that_is_deleted_comes_back() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = RabbitMq::connect(vhost.options.clone()).await.unwrap();
    let other = RabbitMq::connect(vhost.options.clone()).await.unwrap();
    let (queue, topic) = (vhost.name("heals"), vhost.name("topic"));
    let spec = work(&queue, 100).bind(pattern(&topic)).priorities(Priorities::Lanes);
    within(bus.declare(&spec)).await.unwrap();
    let [low, high] = ["low", "high"].map(|lane| vhost.name(&format!("heals.{lane}")));
    vhost.name("heals.urgent");
    let mut deliveries = within(bus.consume(&queue, 10)).await.unwrap();
    for (lane, level) in [(&low, 1), (&high, 7)] {
        within(other.delete(lane)).await.unwrap();
        within(async {
            while other.stats(lane).await.map_or(0, |stats| stats.consumers) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let name = Name::from(&*topic);
        within(other.publish(Destination::Topic(&name), at(level, "again"))).await.unwrap();
        let delivery = within(deliveries.next()).await.unwrap();
        assert_eq!(delivery.envelope().metadata.priority.map(Priority::level), Some(level));
        delivery.ack();
    }
}

#[tokio::test]
async fn lanes_of_an_operator_are_used_and_missing_ones_are_named() {
    let Some(vhost) = skip(Vhost::shared().await) else { return };
    let bus = RabbitMq::connect(vhost.options.clone()).await.unwrap();
    let (queue, topic) = (vhost.name("given"), vhost.name("topic"));
    let plain = work(&queue, 100).bind(pattern(&topic));
    within(bus.declare(&plain)).await.unwrap();
    let options = RabbitOptions { declare: Declare::Passive, ..vhost.options.clone() };
    let passive = RabbitMq::connect(options).await.unwrap();
    let laned = plain.priorities(Priorities::Lanes);
    let error = within(passive.declare(&laned)).await.unwrap_err();
    let TopologyError::Missing { name } = &error else { panic!("{error:?}") };
    assert_eq!(**name, *vhost.name("given.urgent"));
    within(bus.declare(&laned)).await.unwrap();
    for lane in ["low", "high"] {
        vhost.name(&format!("given.{lane}"));
    }
    within(passive.declare(&laned)).await.unwrap();
    let mut deliveries = within(passive.consume(&queue, 2)).await.unwrap();
    let name = Name::from(&*topic);
    within(bus.publish(Destination::Topic(&name), at(10, "urgent"))).await.unwrap();
    within(deliveries.next()).await.unwrap().ack();
}
