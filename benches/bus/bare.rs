//! The limit on RabbitMQ: lapin alone, sending the same bytes to the same kind of queue.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use agentbus::Client;
use futures::{StreamExt as _, stream};
use lapin::{
    BasicProperties, Channel, Confirmation, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions,
        BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use prost::Message as _;
use tokio::sync::{Mutex, oneshot};

use super::{
    bed::Bed,
    measure::{Figures, Meter},
    message::{ECHO, Sample, TOPIC, samples, topic_of},
    plan::{Kind, QueueKind, Run, System},
};

/// Messages without a confirm, and deliveries without an ack; as many as ours has.
const WINDOW: usize = 256;

/// With `multiple`, an ack is sent after so many deliveries.
const ACK_EVERY: usize = 64;

pub async fn measure(run: &Run, bed: &Bed) -> Figures {
    match run.workload.kind {
        Kind::Publish => publish(run, bed).await,
        Kind::Handle => handle(run, bed).await,
        Kind::Pipe => spread(run, bed, 1, false).await,
        Kind::Request { in_flight } => requests(run, bed, in_flight).await,
        Kind::Fanout { agents } => spread(run, bed, agents, true).await,
        Kind::Agents { agents } => spread(run, bed, agents, false).await,
    }
}

/// Puts all messages of a run into its queue, which is there.
pub async fn fill(run: &Run, bed: &Bed) {
    let publisher = Publisher::open(run, bed).await;
    publisher.publish_all(run, &[TOPIC.name().to_string()]).await;
}

async fn publish(run: &Run, bed: &Bed) -> Figures {
    let publisher = Publisher::open(run, bed).await;
    queue(run, bed, "bench", &[TOPIC.name()]).await;
    let meter = Meter::start();
    publisher.publish_all(run, &[TOPIC.name().to_string()]).await;
    meter.stop(run.count)
}

async fn handle(run: &Run, bed: &Bed) -> Figures {
    let publisher = Publisher::open(run, bed).await;
    queue(run, bed, "bench", &[TOPIC.name()]).await;
    publisher.publish_all(run, &[TOPIC.name().to_string()]).await;
    drop(publisher);
    let connection = bed.connection().await;
    let channel = connection.create_channel().await.expect("a channel");
    let meter = Meter::start();
    take(run, consume(&channel, &bed.queue("bench")).await, run.count).await;
    meter.stop(run.count)
}

/// To many queues: to each a copy, or to each in turn.
async fn spread(run: &Run, bed: &Bed, queues: usize, copies: bool) -> Figures {
    let publisher = Publisher::open(run, bed).await;
    let connection = bed.connection().await;
    let each = if copies { run.count } else { run.count / queues };
    let mut consumers = Vec::new();
    let mut channel = connection.create_channel().await.expect("a channel");
    let mut topics = Vec::new();
    for number in 0..queues {
        // As many to a channel as ours has.
        if number % 16 == 15 {
            channel = connection.create_channel().await.expect("a channel");
        }
        let name = if queues == 1 { "bench".to_owned() } else { format!("agent-{number}") };
        let topic = if copies || queues == 1 { TOPIC } else { topic_of(number) };
        queue(run, bed, &name, &[topic.name()]).await;
        topics.push(topic.name().to_string());
        consumers.push(consume(&channel, &bed.queue(&name)).await);
    }
    topics.dedup();
    let meter = Meter::start();
    let taking: Vec<_> = consumers
        .into_iter()
        .map(|consumer| {
            let run = *run;
            tokio::spawn(async move { take(&run, consumer, each).await })
        })
        .collect();
    publisher.publish_all(run, &topics).await;
    for taken in taking {
        taken.await.expect("a consumer");
    }
    meter.stop(each * queues)
}

/// Makes a queue as ours is, with what it is bound to.
async fn queue(run: &Run, bed: &Bed, name: &str, topics: &[&str]) {
    let connection = bed.connection().await;
    let channel = connection.create_channel().await.expect("a channel");
    let exchange = ShortString::from(bed.exchange());
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let topic_exchange = lapin::ExchangeKind::Topic;
    channel
        .exchange_declare(exchange.clone(), topic_exchange, durable, FieldTable::default())
        .await
        .expect("an exchange");
    let queue = ShortString::from(bed.queue(name));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel
        .queue_declare(queue.clone(), durable, arguments(run, bed, name))
        .await
        .expect("a queue");
    for topic in topics {
        channel
            .queue_bind(
                queue.clone(),
                exchange.clone(),
                ShortString::from(*topic),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("a binding");
    }
    connection.close(200, "".into()).await.expect("an end");
}

fn arguments(run: &Run, bed: &Bed, name: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    let mut text = |name: &'static str, value: &str| {
        arguments.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
    };
    if run.queue() == QueueKind::Classic {
        text("x-queue-type", "classic");
        return arguments;
    }
    text("x-queue-type", "quorum");
    text("x-dead-letter-exchange", "");
    text("x-dead-letter-routing-key", &bed.queue(&format!("{name}.dlq")));
    text("x-dead-letter-strategy", "at-least-once");
    text("x-overflow", "reject-publish");
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1_000_000));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(100));
    arguments
}

async fn consume(channel: &Channel, queue: &str) -> Consumer {
    let window = u16::try_from(WINDOW).expect("a window");
    channel.basic_qos(window, BasicQosOptions::default()).await.expect("a prefetch");
    channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("a consumer")
}

/// Takes so many, each decoded, and acks them.
async fn take(run: &Run, mut consumer: Consumer, count: usize) {
    let multiple = run.system != System::LapinEachAck;
    for taken in 1..=count {
        let delivery = consumer.next().await.expect("a delivery").expect("a connection");
        let sample = Sample::decode(delivery.data.as_slice()).expect("a sample");
        std::hint::black_box(sample);
        if !multiple {
            ack(&delivery, false).await;
        } else if taken % ACK_EVERY == 0 || taken == count {
            ack(&delivery, true).await;
        }
    }
}

async fn ack(delivery: &Delivery, multiple: bool) {
    delivery.acker.ack(BasicAckOptions { multiple }).await.expect("an ack");
}

/// Publishes with confirms, a window of them at a time.
struct Publisher {
    channel: Channel,
    exchange: ShortString,
    properties: Option<BasicProperties>,
}

impl Publisher {
    async fn open(run: &Run, bed: &Bed) -> Self {
        let properties = match run.system {
            System::LapinMinimal => None,
            _ => Some(properties(bed).await),
        };
        let channel = bed.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { channel, exchange: bed.exchange().into(), properties }
    }

    /// Publishes to each of the topics in turn.
    async fn publish_all(&self, run: &Run, topics: &[String]) {
        let mut confirms = VecDeque::with_capacity(WINDOW);
        for (i, sample) in samples(run.workload.body, run.count).enumerate() {
            if confirms.len() == WINDOW {
                confirmed(confirms.pop_front()).await;
            }
            let confirm = self
                .channel
                .basic_publish(
                    self.exchange.clone(),
                    topics[i % topics.len()].as_str().into(),
                    BasicPublishOptions { mandatory: true, ..Default::default() },
                    &sample.encode_to_vec(),
                    self.properties(),
                )
                .await
                .expect("a connection");
            confirms.push_back(confirm);
        }
        while !confirms.is_empty() {
            confirmed(confirms.pop_front()).await;
        }
    }

    /// Each with an id and a time of its own.
    fn properties(&self) -> BasicProperties {
        fresh(self.properties.as_ref())
    }
}

fn fresh(like: Option<&BasicProperties>) -> BasicProperties {
    let Some(like) = like else { return BasicProperties::default().with_delivery_mode(2) };
    let id = uuid::Uuid::now_v7();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    like.clone()
        .with_message_id(id.hyphenated().encode_lower(&mut [0; 36])[..].into())
        .with_timestamp(now.as_secs())
}

async fn confirmed(confirm: Option<lapin::PublisherConfirm>) {
    let confirmation = confirm.expect("a confirm").await.expect("a connection");
    assert!(matches!(confirmation, Confirmation::Ack(None)), "{confirmation:?}");
}

/// What ours writes beside the body: one message is sent by it, and looked at.
async fn properties(bed: &Bed) -> BasicProperties {
    let client: Client = bed.client().await;
    let mut subscriber = client.subscribe(TOPIC).await.expect("a subscription");
    let sample = samples(16, 1).next().expect("a sample");
    // The subscriber's own queue is not known by name here, so one of the bare client's is bound.
    let channel = bed.channel().await;
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await;
    let queue = queue.expect("a queue").name().clone();
    let (exchange, topic) = (bed.exchange().into(), TOPIC.name().as_ref().into());
    let bound = channel.queue_bind(
        queue.clone(),
        exchange,
        topic,
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.expect("a binding");
    client.publish(TOPIC, &sample).await.expect("it is taken");
    subscriber.next().await.expect("a sample").ack();
    let got = channel.basic_get(queue, BasicGetOptions::default()).await.expect("an answer");
    let properties = got.expect("a message").delivery.properties;
    client.close().await;
    properties
}

/// Asks over direct reply-to, and answers in the same process.
async fn requests(run: &Run, bed: &Bed, in_flight: usize) -> Figures {
    let properties = properties(bed).await.with_reply_to("amq.rabbitmq.reply-to".into());
    queue(run, bed, "bench", &[ECHO.topic().name()]).await;
    tokio::spawn(answer(
        consume(&bed.channel().await, &bed.queue("bench")).await,
        bed.channel().await,
    ));

    let channel = bed.channel().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let replies = channel.basic_consume(
        "amq.rabbitmq.reply-to".into(),
        "".into(),
        options,
        FieldTable::default(),
    );
    let mut replies = replies.await.expect("an inbox");
    let pending =
        Arc::new(Mutex::new(std::collections::HashMap::<String, oneshot::Sender<Sample>>::new()));
    let asked = Arc::clone(&pending);
    tokio::spawn(async move {
        while let Some(Ok(reply)) = replies.next().await {
            let id = reply.properties.correlation_id().as_ref().expect("an id").to_string();
            let sample = Sample::decode(reply.data.as_slice()).expect("a sample");
            if let Some(asked) = asked.lock().await.remove(&id) {
                let _ = asked.send(sample);
            }
        }
    });

    let exchange = ShortString::from(bed.exchange());
    let topic = ShortString::from(ECHO.topic().name().as_ref());
    let (channel, pending, properties) = (&channel, &pending, &properties);
    let ask = |sample: Sample| {
        let (exchange, topic) = (exchange.clone(), topic.clone());
        async move {
            let asked = Instant::now();
            let properties = fresh(Some(properties));
            let id = properties.message_id().clone().expect("an id");
            let (sender, reply) = oneshot::channel();
            pending.lock().await.insert(id.to_string(), sender);
            let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
            let confirm = channel
                .basic_publish(
                    exchange,
                    topic,
                    mandatory,
                    &sample.encode_to_vec(),
                    properties.with_correlation_id(id),
                )
                .await
                .expect("a connection");
            let (_, reply) = tokio::join!(confirm, reply);
            reply.expect("a reply");
            asked.elapsed()
        }
    };
    ask(samples(run.workload.body, 1).next().expect("a sample")).await;
    let mut meter = Meter::start();
    let asked = samples(run.workload.body, run.count).map(ask);
    let mut replies = stream::iter(asked).buffer_unordered(in_flight);
    while let Some(time) = replies.next().await {
        meter.took(time);
    }
    drop(replies);
    meter.stop(run.count)
}

/// Echoes each request and acks it.
async fn answer(mut requests: Consumer, replies: Channel) {
    while let Some(Ok(request)) = requests.next().await {
        let sample = Sample::decode(request.data.as_slice()).expect("a sample");
        let id = request.properties.message_id().clone().expect("an id");
        let properties = fresh(Some(&request.properties)).with_correlation_id(id);
        let reply_to = request.properties.reply_to().clone().expect("somewhere to reply to");
        replies
            .basic_publish(
                "".into(),
                reply_to,
                BasicPublishOptions::default(),
                &sample.encode_to_vec(),
                properties,
            )
            .await
            .expect("a connection");
        ack(&request, false).await;
    }
}
