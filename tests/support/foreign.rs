//! A client as another program on the same broker might be: it knows nothing of agentbus.

use agentbus::{Config, config::BusUrl, message::Timestamp};
use fastrand::Rng;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString},
};

use super::garbage::{bytes, maybe, reply_to, word};

/// The headers that mean something to somebody.
const NAMES: [&str; 29] = [
    "agentbus-topic",
    "agentbus-conversation-id",
    "agentbus-causation-id",
    "agentbus-deadline",
    "agentbus-expires-at",
    "agentbus-due-at",
    "agentbus-attempt",
    "agentbus-max-attempts",
    "agentbus-priority",
    "agentbus-failure-kind",
    "agentbus-failure-error",
    "agentbus-failure-agent",
    "agentbus-failure-instance",
    "agentbus-failure-topic",
    "agentbus-failure-attempts",
    "agentbus-failure-at",
    "agentbus-nonsense",
    "traceparent",
    "tracestate",
    "ce-specversion",
    "ce-id",
    "ce-type",
    "ce-source",
    "ce-correlationid",
    "ce-time",
    "x-death",
    "x-delivery-count",
    "x-first-death-queue",
    "",
];

pub struct Foreign {
    _connection: Connection,
    pub channel: Channel,
}

impl Foreign {
    /// Connects to the broker of `config`, at another port where one is given.
    pub async fn connect(config: &Config, port: Option<u16>) -> Self {
        let BusUrl::Amqp(url) = &config.bus else { panic!("no `amqp` address") };
        let mut address = super::rabbitmq::address(config);
        if let Some(port) = port {
            let (_, broker_port) = url.hosts().next().expect("a host");
            address = address.replacen(&format!(":{broker_port}/"), &format!(":{port}/"), 1);
        }
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(&address, properties).await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        // So that this channel may put `amq.rabbitmq.reply-to` into `reply_to`.
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let queue = ShortString::from("amq.rabbitmq.reply-to");
        let consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default());
        let mut replies = consumer.await.expect("a consumer");
        tokio::spawn(async move {
            while let Some(Ok(_)) = futures::StreamExt::next(&mut replies).await {}
        });
        Self { _connection: connection, channel }
    }

    /// Publishes and waits until the broker has it.
    pub async fn publish(
        &self,
        exchange: &str,
        key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) {
        let options = BasicPublishOptions { mandatory: false, immediate: false };
        let (exchange, key) = (short(exchange), short(key));
        let published = self.channel.basic_publish(exchange, key, options, body, properties).await;
        published.expect("an open channel").await.expect("a confirmation");
    }
}

pub fn short(text: &str) -> ShortString {
    ShortString::try_new(text).expect("at most 255 bytes")
}

/// Properties as nobody in his right mind would set them.
pub fn properties(rng: &mut Rng) -> BasicProperties {
    let mut properties = BasicProperties::default();
    let text = |rng: &mut Rng| maybe(rng).map(|text| short(&text));
    if let Some(text) = text(rng) {
        properties = properties.with_content_type(text);
    }
    if let Some(text) = text(rng) {
        properties = properties.with_content_encoding(text);
    }
    if let Some(text) = text(rng) {
        properties = properties.with_type(text);
    }
    if let Some(text) = text(rng) {
        properties = properties.with_message_id(text);
    }
    if let Some(text) = text(rng) {
        properties = properties.with_correlation_id(text);
    }
    if let Some(text) = text(rng) {
        properties = properties.with_app_id(text);
    }
    if let Some(text) = text(rng) {
        properties = properties.with_cluster_id(text);
    }
    match rng.u8(0..8) {
        0 => properties = properties.with_reply_to("amq.rabbitmq.reply-to".into()),
        _ => {
            if let Some(text) = reply_to(rng) {
                properties = properties.with_reply_to(short(&text));
            }
        }
    }
    if rng.u8(0..3) == 0 {
        properties = properties.with_timestamp(rng.u64(..));
    }
    if rng.u8(0..3) == 0 {
        properties = properties.with_priority(rng.u8(..)).with_delivery_mode(rng.u8(1..=2));
    }
    // Long enough not to be over during the test: the broker drops dead letters after it.
    if rng.u8(0..10) == 0 {
        properties = properties.with_expiration("600000".into());
    }
    if rng.u8(0..4) != 0 {
        properties = properties.with_headers(table(rng, 0));
    }
    properties
}

fn table(rng: &mut Rng, depth: u8) -> FieldTable {
    let mut table = FieldTable::default();
    for _ in 0..rng.u8(0..if depth == 0 { 12 } else { 4 }) {
        let name = match rng.u8(0..4) {
            0 => word(rng),
            _ => NAMES[rng.usize(0..NAMES.len())].to_owned(),
        };
        let mut value = value(rng, depth);
        // A message that is due later is held, as asked; the test would wait for it.
        if name == "agentbus-due-at" && !matches!(value, AMQPValue::FieldTable(_)) {
            value = AMQPValue::LongLongInt(rng.i64(..=1_000_000_000_000));
        }
        // Most deadlines are nonsense and ignored; some are over.
        if name == "agentbus-deadline" && rng.bool() {
            let now = Timestamp::now().as_millis();
            value = AMQPValue::LongLongInt((now - rng.u64(1..100_000)).cast_signed());
        }
        // As for deadlines.
        if name == "agentbus-expires-at" && rng.bool() {
            let now = Timestamp::now().as_millis();
            value = AMQPValue::LongLongInt((now - rng.u64(1..100_000)).cast_signed());
        }
        // One that is allowed many attempts is tried so often; the test would wait for it.
        if name == "agentbus-max-attempts" && !matches!(value, AMQPValue::FieldTable(_)) {
            let nonsense = [i64::MIN, -1, 0, 1, 1001, i64::MAX];
            value = AMQPValue::LongLongInt(nonsense[rng.usize(0..nonsense.len())]);
        }
        table.insert(short(&name), value);
    }
    if depth == 0 && rng.u8(0..20) == 0 {
        for number in 0..100 {
            table.insert(short(&format!("h{number}")), value(rng, 3));
        }
    }
    table
}

fn value(rng: &mut Rng, depth: u8) -> AMQPValue {
    match rng.u8(0..if depth > 3 { 17 } else { 20 }) {
        0 => AMQPValue::Boolean(rng.bool()),
        1 => AMQPValue::ShortShortInt(rng.i8(..)),
        2 => AMQPValue::ShortShortUInt(rng.u8(..)),
        3 => AMQPValue::ShortInt(rng.i16(..)),
        4 => AMQPValue::ShortUInt(rng.u16(..)),
        5 => AMQPValue::LongInt(rng.i32(..)),
        6 => AMQPValue::LongUInt(rng.u32(..)),
        7 => AMQPValue::LongLongInt(rng.i64(..)),
        // RabbitMQ itself cannot read what is not finite.
        8 => AMQPValue::Float(f32::from(rng.i16(..)) / 7.0),
        9 => AMQPValue::Double(rng.f64() * 1e300),
        10 => AMQPValue::DecimalValue(DecimalValue { scale: rng.u8(..), value: rng.u32(..) }),
        11 => AMQPValue::Timestamp(rng.u64(..)),
        12 => AMQPValue::Void,
        13 => AMQPValue::ByteArray(bytes(rng, 300).into()),
        14 => AMQPValue::LongString(bytes(rng, 300).into()),
        15 => AMQPValue::LongString("long".repeat(rng.usize(0..1000)).into()),
        16 => AMQPValue::LongString(word(rng).into()),
        17 => {
            let mut array = FieldArray::default();
            (0..rng.u8(0..4)).for_each(|_| array.push(value(rng, depth + 1)));
            AMQPValue::FieldArray(array)
        }
        _ => AMQPValue::FieldTable(table(rng, depth + 1)),
    }
}
