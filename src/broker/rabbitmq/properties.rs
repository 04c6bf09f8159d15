//! Envelopes as AMQP properties and headers, and back.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::{
    Envelope, Id,
    contract::Name,
    message::{CONTENT_TYPE, Priority, Timestamp, WireValue},
};

/// Survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// Writes what describes an envelope.
///
/// `with_topic` adds the topic as a header. `hop` leaves the priority property out, for what
/// travels through the delay queues first (the header keeps it). `cloud_events` adds the headers
/// of CloudEvents.
///
/// # Errors
///
/// Returns what does not fit, in words.
pub(super) fn write(
    envelope: &Envelope,
    with_topic: bool,
    hop: bool,
    cloud_events: bool,
) -> Result<BasicProperties, String> {
    let metadata = &envelope.metadata;
    let mut headers = FieldTable::default();
    let mut misfit = None;
    let mut write = |name: &str, value: WireValue<'_>| {
        let value = match value {
            WireValue::Text(text) => AMQPValue::LongString(text.into()),
            WireValue::Int(number) => AMQPValue::LongLongInt(number),
        };
        match ShortString::try_new(name) {
            Ok(name) => drop(headers.insert(name, value)),
            Err(_) => misfit = Some(too_long("the name of a header")),
        }
    };
    envelope.write_headers(with_topic, &mut write);
    if cloud_events {
        envelope.write_cloud_events(&mut write);
    }
    if let Some(misfit) = misfit {
        return Err(misfit);
    }
    let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    if !headers.inner().is_empty() {
        properties = properties.with_headers(headers);
    }
    if let Some(content_type) = &metadata.content_type {
        properties = properties.with_content_type(short("`content_type`", content_type)?);
    }
    if let Some(encoding) = &metadata.content_encoding {
        properties = properties.with_content_encoding(short("`content_encoding`", encoding)?);
    }
    if let Some(message_type) = &metadata.message_type {
        properties = properties.with_type(short("`message_type`", message_type)?);
    }
    if let Some(id) = &metadata.message_id {
        properties = properties.with_message_id(id.with_str(|id| short("`message_id`", id))?);
    }
    if let Some(id) = &metadata.correlation_id {
        let id = id.with_str(|id| short("`correlation_id`", id))?;
        properties = properties.with_correlation_id(id);
    }
    if let Some(reply_to) = &metadata.reply_to {
        properties = properties.with_reply_to(short("`reply_to`", reply_to)?);
    }
    if let Some(sender) = &metadata.sender {
        properties = properties.with_app_id(short("`sender`", sender)?);
    }
    if let Some(timestamp) = metadata.timestamp {
        properties = properties.with_timestamp(timestamp.as_seconds());
    }
    if !hop {
        // Always there: classic queues with priorities put what has none below the lowest.
        properties = properties.with_priority(metadata.priority.unwrap_or_default().level());
    }
    Ok(properties)
}

/// Makes a short string of text from outside; lapin's own conversion panics.
pub(super) fn short(what: &str, text: &str) -> Result<ShortString, String> {
    ShortString::try_new(text).map_err(|_| too_long(what))
}

fn too_long(what: &str) -> String {
    format!("{what} has more than 255 bytes, which AMQP cannot carry")
}

/// Reads an envelope as it was received under `topic`, unless a header names another.
pub(super) fn read(
    topic: Option<&str>,
    properties: &BasicProperties,
    payload: Vec<u8>,
) -> Envelope {
    let mut envelope =
        Envelope { topic: topic.map(Name::from), payload: payload.into(), ..Envelope::default() };
    let metadata = &mut envelope.metadata;
    metadata.content_type = properties.content_type().as_ref().map(|text| match text.as_str() {
        CONTENT_TYPE => Name::from_static(CONTENT_TYPE),
        other => other.into(),
    });
    metadata.content_encoding =
        properties.content_encoding().as_ref().map(|encoding| encoding.as_str().into());
    metadata.message_type = name(properties.kind().as_ref());
    metadata.message_id = id(properties.message_id().as_ref());
    metadata.correlation_id = id(properties.correlation_id().as_ref());
    metadata.reply_to = name(properties.reply_to().as_ref());
    metadata.sender = name(properties.app_id().as_ref());
    metadata.timestamp = properties.timestamp().map(Timestamp::from_seconds);
    // One that was chosen travels as a header, too; a normal one without it is nobody's choice.
    let priority = properties.priority().map(Priority::nearest);
    metadata.priority = priority.filter(|priority| *priority != Priority::NORMAL);
    if let Some(headers) = properties.headers() {
        for (name, value) in headers {
            read_header(&mut envelope, name.as_str(), value);
        }
    }
    envelope.fill_from_cloud_events();
    envelope
}

/// Reads how often a message has come back to its queue, which quorum queues tell.
pub(super) fn returns(properties: &BasicProperties) -> Option<u32> {
    let count = match properties.headers().as_ref()?.inner().get("x-delivery-count")? {
        AMQPValue::LongLongInt(count) => u32::try_from(*count),
        AMQPValue::LongInt(count) => u32::try_from(*count),
        AMQPValue::LongUInt(count) => return Some(*count),
        AMQPValue::ShortInt(count) => u32::try_from(*count),
        AMQPValue::ShortShortInt(count) => u32::try_from(*count),
        _ => return None,
    };
    count.ok()
}

/// Takes in a header of any type a foreign sender may have chosen.
fn read_header(envelope: &mut Envelope, name: &str, value: &AMQPValue) {
    let mut int = |number: i64| envelope.read_header(name, WireValue::Int(number));
    match value {
        AMQPValue::ShortShortInt(number) => int((*number).into()),
        AMQPValue::ShortShortUInt(number) => int((*number).into()),
        AMQPValue::ShortInt(number) => int((*number).into()),
        AMQPValue::ShortUInt(number) => int((*number).into()),
        AMQPValue::LongInt(number) => int((*number).into()),
        AMQPValue::LongUInt(number) => int((*number).into()),
        AMQPValue::LongLongInt(number) => int(*number),
        AMQPValue::Timestamp(seconds) => {
            // The type says seconds, and our own headers of time hold milliseconds.
            let ours = name.starts_with("agentbus-");
            let time = if ours { Timestamp::from_seconds(*seconds).as_millis() } else { *seconds };
            int(i64::try_from(time).unwrap_or(i64::MAX));
        }
        AMQPValue::ShortString(text) => {
            envelope.read_header(name, WireValue::Text(text.as_str()));
        }
        AMQPValue::LongString(text) => text_header(envelope, name, text.as_bytes()),
        AMQPValue::ByteArray(bytes) => text_header(envelope, name, bytes.as_slice()),
        AMQPValue::Boolean(flag) => {
            envelope.read_header(name, WireValue::Text(if *flag { "true" } else { "false" }));
        }
        AMQPValue::Float(number) => {
            envelope.read_header(name, WireValue::Text(&number.to_string()));
        }
        AMQPValue::Double(number) => {
            envelope.read_header(name, WireValue::Text(&number.to_string()));
        }
        AMQPValue::DecimalValue(number) => {
            let text = format!("{}e-{}", number.value, number.scale);
            envelope.read_header(name, WireValue::Text(&text));
        }
        AMQPValue::Void => {}
        // `x-death` and its like are among these.
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => {
            tracing::trace!(header = name, "left out a nested header of a received message");
        }
    }
}

fn text_header(envelope: &mut Envelope, name: &str, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        envelope.read_header(name, WireValue::Text(text));
    } else {
        tracing::warn!(header = name, "left out a header that is not UTF-8");
    }
}

fn name(text: Option<&ShortString>) -> Option<Name> {
    text.map(|text| text.as_str().into())
}

fn id(text: Option<&ShortString>) -> Option<Id> {
    text.map(|text| text.as_str().into())
}

#[cfg(test)]
mod tests {
    use lapin::types::{DecimalValue, FieldArray};

    use super::*;
    use crate::message::{HeaderValue, Metadata};

    fn envelope() -> Envelope {
        let mut envelope = Envelope { topic: Some("price.moved".into()), ..Envelope::default() };
        envelope.metadata = Metadata {
            content_type: Some(CONTENT_TYPE.into()),
            content_encoding: Some("gzip".into()),
            message_type: Some("market.v1.PriceMoved".into()),
            message_id: Some(Id::new()),
            correlation_id: Some("order 17".into()),
            reply_to: Some("data".into()),
            sender: Some("analysis".into()),
            timestamp: Some(Timestamp::from_millis(1_700_000_000_000)),
            priority: Some(Priority::HIGH),
            attempt: Some(3),
            ..Metadata::default()
        };
        envelope.metadata.headers.set("tenant", "acme").unwrap();
        envelope.payload = vec![1, 2, 3].into();
        envelope
    }

    #[test]
    fn an_envelope_reads_back() {
        let sent = envelope();
        let properties = write(&sent, false, false, false).unwrap();
        assert_eq!(read(Some("price.moved"), &properties, vec![1, 2, 3]), sent);
    }

    #[test]
    fn the_topic_header_goes_before_the_routing_key() {
        let properties = write(&envelope(), true, false, false).unwrap();
        assert_eq!(read(None, &properties, vec![]).topic.as_deref(), Some("price.moved"));
        assert_eq!(read(Some("a.b"), &properties, vec![]).topic.as_deref(), Some("price.moved"));
    }

    #[test]
    fn a_delay_hop_keeps_the_priority_in_its_header_only() {
        let properties = write(&envelope(), true, true, false).unwrap();
        assert_eq!(*properties.priority(), None);
        assert_eq!(read(None, &properties, vec![]).metadata.priority, Some(Priority::HIGH));
    }

    #[test]
    fn what_is_too_long_for_amqp_is_an_error_and_no_panic() {
        for break_it in [
            (|metadata, long| metadata.message_id = Some(long.into())) as fn(&mut Metadata, &str),
            |metadata, long| metadata.correlation_id = Some(long.into()),
            |metadata, long| metadata.message_type = Some(long.into()),
            |metadata, long| metadata.content_type = Some(long.into()),
            |metadata, long| metadata.content_encoding = Some(long.into()),
            |metadata, long| metadata.reply_to = Some(long.into()),
            |metadata, long| metadata.sender = Some(long.into()),
        ] {
            let mut envelope = envelope();
            break_it(&mut envelope.metadata, &"x".repeat(256));
            let reason = write(&envelope, false, false, false).unwrap_err();
            assert!(reason.contains("255"), "{reason}");
        }
    }

    #[test]
    fn foreign_headers_of_any_type_are_taken_or_left_out() {
        let mut table = FieldTable::default();
        let values = [
            ("bool", AMQPValue::Boolean(true)),
            ("byte", AMQPValue::ShortShortUInt(7)),
            ("double", AMQPValue::Double(0.5)),
            ("nan", AMQPValue::Float(f32::NAN)),
            ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 314 })),
            ("time", AMQPValue::Timestamp(u64::MAX)),
            ("void", AMQPValue::Void),
            ("long", AMQPValue::LongString("x".repeat(5000).into())),
            ("binary", AMQPValue::LongString(vec![0xff, 0xfe].into())),
            ("bytes", AMQPValue::ByteArray(vec![b'o', b'k'].into())),
            ("nested", AMQPValue::FieldTable(FieldTable::default())),
            ("x-death", AMQPValue::FieldArray(FieldArray::default())),
            ("agentbus-attempt", AMQPValue::Boolean(true)),
            ("agentbus-deadline", AMQPValue::Double(1e300)),
        ];
        for (name, value) in values {
            table.insert(name.into(), value);
        }
        let properties = BasicProperties::default().with_headers(table).with_priority(255);
        let read = read(Some("t"), &properties, vec![]);
        let headers: Vec<_> = read.metadata.headers.iter().collect();
        let expected = [
            ("bool", HeaderValue::from("true")),
            ("byte", HeaderValue::Int(7)),
            ("bytes", "ok".into()),
            ("decimal", "314e-2".into()),
            ("double", "0.5".into()),
            ("nan", "NaN".into()),
            ("time", HeaderValue::Int(i64::MAX)),
        ];
        assert_eq!(headers, expected.iter().map(|(n, v)| (*n, v)).collect::<Vec<_>>());
        assert_eq!(read.metadata.attempt, None);
        assert_eq!(read.metadata.deadline, None);
        assert_eq!(read.metadata.priority, Some(Priority::URGENT));
    }
}
