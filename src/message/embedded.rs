//! Metadata in the body, as an older convention has it.
//!
//! Some peers look for a message's ids in field 1 of the message itself. The field is filled by
//! appending it to the encoded body, which protobuf merges; it is read where properties are
//! missing. Properties win.

use bytes::{Buf, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{
        DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field,
    },
};

use super::{Metadata, Timestamp};
use crate::proto::v1 as proto;

/// Appends `metadata` to a body as field `number`.
pub(crate) fn append_metadata(body: &mut Vec<u8>, number: u32, metadata: &Metadata) {
    let text = |id: &Option<super::Id>| id.as_ref().map(ToString::to_string).unwrap_or_default();
    let embedded = proto::Metadata {
        message_id: text(&metadata.message_id),
        correlation_id: text(&metadata.correlation_id),
        timestamp: metadata
            .timestamp
            .map_or(0, |at| i64::try_from(at.as_millis()).unwrap_or(i64::MAX)),
        sender_agent: metadata.sender.as_deref().unwrap_or_default().to_owned(),
        reply_to: metadata.reply_to.as_deref().unwrap_or_default().to_owned(),
    };
    encode_key(number, WireType::LengthDelimited, body);
    encode_varint(embedded.encoded_len() as u64, body);
    embedded.encode_raw(body);
}

/// Fills what `metadata` lacks from field `number` of the body, where the body has one.
///
/// A body that cannot be read is left to the decoder to complain about.
pub(crate) fn fill_from_body(metadata: &mut Metadata, body: &Bytes, number: u32) {
    let Some(embedded) = read(body.clone(), number) else { return };
    fill(&mut metadata.message_id, embedded.message_id);
    fill(&mut metadata.correlation_id, embedded.correlation_id);
    fill(&mut metadata.sender, embedded.sender_agent);
    fill(&mut metadata.reply_to, embedded.reply_to);
    if metadata.timestamp.is_none() && embedded.timestamp > 0 {
        metadata.timestamp = u64::try_from(embedded.timestamp).ok().map(Timestamp::from_millis);
    }
}

fn fill<T: From<String>>(slot: &mut Option<T>, text: String) {
    if slot.is_none() && !text.is_empty() {
        *slot = Some(text.into());
    }
}

fn read(mut body: Bytes, number: u32) -> Option<proto::Metadata> {
    // A field may come in several pieces, which protobuf merges by concatenation.
    let mut pieces = BytesMut::new();
    let mut found = false;
    while body.has_remaining() {
        let (field, wire_type) = decode_key(&mut body).ok()?;
        if field == number && wire_type == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut body).ok()?).ok()?;
            if length > body.remaining() {
                return None;
            }
            pieces.extend_from_slice(&body.split_to(length));
            found = true;
        } else {
            skip_field(wire_type, field, &mut body, DecodeContext::default()).ok()?;
        }
    }
    if found { proto::Metadata::decode(pieces.freeze()).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        Metadata {
            message_id: Some("m".into()),
            correlation_id: Some("c".into()),
            reply_to: Some("query".into()),
            sender: Some("query".into()),
            timestamp: Some(Timestamp::from_millis(1_700_000_000_000)),
            ..Metadata::default()
        }
    }

    #[test]
    fn what_was_appended_fills_what_is_missing() {
        let mut body = vec![0x12, 1, b'q'];
        append_metadata(&mut body, 1, &metadata());
        let mut received = Metadata::default();
        fill_from_body(&mut received, &body.into(), 1);
        assert_eq!(received, metadata());
    }

    #[test]
    fn properties_win() {
        let mut body = Vec::new();
        append_metadata(&mut body, 7, &metadata());
        let mut received = Metadata { message_id: Some("mine".into()), ..Metadata::default() };
        fill_from_body(&mut received, &body.into(), 7);
        assert_eq!(received.message_id, Some("mine".into()));
        assert_eq!(received.correlation_id, Some("c".into()));
    }

    #[test]
    fn a_body_cut_short_fills_nothing() {
        let mut body = Vec::new();
        append_metadata(&mut body, 1, &metadata());
        for length in 0..body.len() {
            let mut received = Metadata::default();
            fill_from_body(&mut received, &Bytes::copy_from_slice(&body[..length]), 1);
            assert_eq!(received, Metadata::default(), "cut to {length} bytes");
        }
    }

    #[test]
    fn pieces_of_the_field_are_merged() {
        let mut body = vec![0x0a, 3, 0x0a, 1, b'a'];
        body.extend([0x0a, 3, 0x12, 1, b'b']);
        let mut received = Metadata::default();
        fill_from_body(&mut received, &body.into(), 1);
        assert_eq!(received.message_id, Some("a".into()));
        assert_eq!(received.correlation_id, Some("b".into()));
    }
}
