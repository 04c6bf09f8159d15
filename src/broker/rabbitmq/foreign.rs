//! What other programs send, as bytes, on its way through everything here that reads it.
//!
//! Each function takes any bytes at all and panics where a promise is broken. Property tests call
//! them on every run of the tests; the fuzzer's targets in `fuzz/` call them for as long as they
//! are let.

use lapin::{BasicProperties, protocol::basic::parse_properties};

use super::{
    death::Deaths,
    mend::{mend_header, mend_method},
    properties,
    reply_address::ReplyAddress,
};
use crate::message::Envelope;

/// Takes the payload of a header frame, which is where properties and headers are.
///
/// # Panics
///
/// Panics where mending changes the length or is not done at once, or where what was read is not
/// the same after it was written and read again.
pub fn header_frame(payload: &[u8]) {
    let mut mended = payload.to_vec();
    mend_header(&mut mended);
    assert_eq!(mended.len(), payload.len());
    let once = mended.clone();
    mend_header(&mut mended);
    assert!(mended == once, "what is mended needs no mending");
    // Class, weight and the size of the body come before them.
    let Some(bytes) = mended.get(12..) else { return };
    let Ok((_, properties)) = parse_properties(bytes) else { return };
    let mut received = properties::read(Some("a.topic"), &properties, Vec::new());
    if let Some(deaths) = Deaths::of(&properties) {
        let _published = deaths.published();
        deaths.note_failure(&mut received);
    }
    // Written once, all texts have the length that fits.
    let Some(sent) = over_the_wire(&received) else { return };
    let again = over_the_wire(&sent).expect("what was written can be written again");
    assert_eq!(again, sent);
}

/// Writes an envelope as it would be sent, and reads it; `None` where it cannot be sent.
fn over_the_wire(envelope: &Envelope) -> Option<Envelope> {
    let properties = properties::write(envelope, true, false, true).ok()?;
    assert!(!has_marks(&properties), "the broker would drop it as a cycle");
    Some(properties::read(None, &properties, Vec::new()))
}

/// Tells whether there are headers that the broker adds itself.
fn has_marks(properties: &BasicProperties) -> bool {
    let headers = properties.headers().as_ref();
    headers.is_some_and(|headers| {
        headers.inner().keys().any(|name| {
            let name = name.as_str();
            name.starts_with("x-first-death-")
                || name.starts_with("x-last-death-")
                || ["x-death", "x-delivery-count", "x-acquired-count"].contains(&name)
        })
    })
}

/// Takes the payload of a method frame.
///
/// # Panics
///
/// Panics where mending changes the length or is not done at once.
pub fn method_frame(payload: &[u8]) {
    let mut mended = payload.to_vec();
    mend_method(&mut mended);
    assert_eq!(mended.len(), payload.len());
    let once = mended.clone();
    mend_method(&mut mended);
    assert!(mended == once, "what is mended needs no mending");
}

/// Takes an address that a reply is to go to.
///
/// # Panics
///
/// Panics where an address is taken for an inbox that is not made as the broker makes them.
pub fn reply_address(address: &str) {
    let Ok(ReplyAddress::Inbox(inbox)) = ReplyAddress::parse(address) else { return };
    let nobody = inbox.to_nobody();
    let Ok(ReplyAddress::Inbox(parsed)) = ReplyAddress::parse(&nobody) else {
        panic!("`{nobody}` is no inbox, made of `{address}`")
    };
    assert_eq!(parsed.node(), inbox.node());
    let (name, number) = inbox.node().split_once('@').expect("a node has a host");
    assert!(!name.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()), "{address}");
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use lapin::types::ShortString;
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// Names that mean something, and others.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        const KNOWN: [&str; 22] = [
            "agentbus-topic",
            "agentbus-deadline",
            "agentbus-due-at",
            "agentbus-attempt",
            "agentbus-priority",
            "agentbus-failure-kind",
            "agentbus-failure-error",
            "agentbus-failure-at",
            "agentbus-failure-attempts",
            "agentbus-later",
            "traceparent",
            "tracestate",
            "ce-specversion",
            "ce-id",
            "ce-type",
            "x-death",
            "x-delivery-count",
            "x-request-id",
            "reason",
            "routing-keys",
            "queue",
            "time",
        ];
        prop_oneof![
            select(&KNOWN[..]).prop_map(|name| name.as_bytes().to_vec()),
            vec(any::<u8>(), 0..40),
            vec(any::<u8>(), 255),
        ]
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).expect("a short test");
        [&length.to_be_bytes(), bytes].concat()
    }

    fn short(bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).expect("at most 255 bytes");
        [&[length], bytes].concat()
    }

    fn fixed(kind: u8, bytes: usize) -> impl Strategy<Value = Vec<u8>> {
        vec(any::<u8>(), bytes).prop_map(move |bytes| [&[kind][..], &bytes].concat())
    }

    /// A value of any kind that AMQP and RabbitMQ know, as bytes.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        let text = prop_oneof![
            vec(any::<u8>(), 0..300),
            "[a-z_.0-9é]{0,300}".prop_map(String::into_bytes),
            select(&["expired", "delivery_limit", "1.0", "17", "-1", "true"][..])
                .prop_map(|text| text.as_bytes().to_vec()),
        ];
        let flat = prop_oneof![
            Just(b"V".to_vec()),
            fixed(b't', 1),
            fixed(b'b', 1),
            fixed(b'B', 1),
            fixed(b's', 2),
            fixed(b'U', 2),
            fixed(b'u', 2),
            fixed(b'I', 4),
            fixed(b'i', 4),
            fixed(b'f', 4),
            fixed(b'D', 5),
            fixed(b'L', 8),
            fixed(b'l', 8),
            fixed(b'd', 8),
            fixed(b'T', 8),
            text.clone().prop_map(|text| [&b"S"[..], &long(&text)].concat()),
            text.prop_map(|text| [&b"x"[..], &long(&text)].concat()),
        ];
        flat.prop_recursive(20, 60, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4)
                    .prop_map(|values| [&b"A"[..], &long(&values.concat())].concat()),
                table(inner).prop_map(|table| [&b"F"[..], &table].concat()),
            ]
        })
    }

    fn table(value: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        vec((name(), value), 0..6).prop_map(|entries| {
            let entries = entries.iter().map(|(name, value)| [short(name), value.clone()].concat());
            long(&entries.collect::<Vec<_>>().concat())
        })
    }

    /// A header frame's payload, well made but for what is in it.
    fn header() -> impl Strategy<Value = Vec<u8>> {
        let text = vec(any::<u8>(), 0..60).prop_map(|text| short(&text)).boxed();
        let texts = |count| vec(text.clone(), count).prop_map(|texts| texts.concat());
        (texts(2), table(value()), any::<[u8; 2]>(), texts(4), any::<[u8; 8]>(), texts(4)).prop_map(
            |(before, headers, numbers, between, time, after)| {
                let start = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfc];
                let parts: [&[u8]; 7] =
                    [&start, &before, &headers, &numbers, &between, &time, &after];
                parts.concat()
            },
        )
    }

    proptest! {
        #[test]
        fn headers_of_any_kind_are_read_and_can_be_sent_on(header in header()) {
            let mut mended = header.clone();
            mend_header(&mut mended);
            prop_assert!(parse_properties(&mended[12..]).is_ok(), "lapin takes what is mended");
            header_frame(&header);
        }

        #[test]
        fn a_damaged_header_harms_nobody(
            header in header(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut damaged = header;
            let index = at.index(damaged.len());
            damaged[index] = byte;
            header_frame(&damaged);
            header_frame(&damaged[..cut.index(damaged.len())]);
        }

        #[test]
        fn any_bytes_harm_nobody(bytes in vec(any::<u8>(), 0..200)) {
            header_frame(&bytes);
            method_frame(&bytes);
            reply_address(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn methods_with_names_of_any_bytes_are_mended(
            method in select(&[[0, 10, 0, 50], [0, 20, 0, 40], [0, 60, 0, 50], [0, 60, 0, 60], [0, 60, 0, 71]][..]),
            arguments in vec(any::<u8>(), 0..80),
        ) {
            method_frame(&[&method[..], &arguments].concat());
        }

        #[test]
        fn an_inbox_is_one_of_the_brokers_only(
            node in "[a-z_@.0-9é]{0,20}",
            kind in select(&[88_u8, 103, 97][..]),
            atom in select(&[119_u8, 115, 118, 100][..]),
            rest in vec(any::<u8>(), 8..14),
            key in vec(any::<u8>(), 15..18),
        ) {
            let length = u8::try_from(node.len()).expect("a short name");
            let length = if atom == 118 || atom == 100 { vec![0, length] } else { vec![length] };
            let term = [&[131, kind, atom][..], &length, node.as_bytes(), &rest].concat();
            let (term, key) = (STANDARD.encode(term), STANDARD.encode(key));
            let address = format!("amq.rabbitmq.reply-to.{term}.{key}");
            prop_assume!(ShortString::try_new(address.as_str()).is_ok());
            reply_address(&address);
        }
    }
}
