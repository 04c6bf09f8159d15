//! Bodies as text, without knowing their types: field numbers and what the values look like.

use std::fmt::{self, Write as _};

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::message::Envelope;

/// How much of a body is shown.
const LONGEST: usize = 100;

/// How deep messages within messages are shown.
const DEEPEST: u8 = 4;

/// An envelope's body, as `examples.v1.Order {1: "tea", 2: 7}`.
pub(super) struct Shown<'a>(pub(super) &'a Envelope);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Envelope { metadata, payload, .. } = self.0;
        if let Some(kind) = metadata.message_type.as_deref().filter(|kind| !kind.is_empty()) {
            write!(f, "{kind} ")?;
        }
        let mut text = fields(payload, 0).unwrap_or_else(|| format!("{} bytes", payload.len()));
        if text.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        f.write_str(&text)
    }
}

/// Reads bytes as the fields of a message; `None` where they are none.
fn fields(mut bytes: &[u8], depth: u8) -> Option<String> {
    let mut text = String::from("{");
    while !bytes.is_empty() {
        if text.len() > 1 {
            text.push_str(", ");
        }
        let (number, wire_type) = decode_key(&mut bytes).ok()?;
        let value = match wire_type {
            WireType::Varint => decode_varint(&mut bytes).ok()?.to_string(),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                inner(value, depth)
            }
            WireType::SixtyFourBit => {
                let (value, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                format!("{:?}", f64::from_le_bytes(*value))
            }
            WireType::ThirtyTwoBit => {
                let (value, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                format!("{:?}", f32::from_le_bytes(*value))
            }
            other => {
                skip_field(other, number, &mut bytes, DecodeContext::default()).ok()?;
                "…".to_owned()
            }
        };
        write!(text, "{number}: {value}").ok()?;
    }
    text.push('}');
    Some(text)
}

/// Shows what may be text, a message or bytes, as what it looks like most.
fn inner(value: &[u8], depth: u8) -> String {
    let text = str::from_utf8(value).ok();
    if let Some(text) = text.filter(|text| !text.chars().any(char::is_control)) {
        return format!("{text:?}");
    }
    let message = if depth < DEEPEST { fields(value, depth + 1) } else { None };
    message.unwrap_or_else(|| match text {
        Some(text) => format!("{text:?}"),
        None => format!("{} bytes", value.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::ErrorReply;

    #[test]
    fn a_body_is_shown_by_its_field_numbers() {
        let shown = |envelope: Envelope| Shown(&envelope).to_string();
        assert_eq!(
            shown(Envelope::encode(&"Ada".to_owned())),
            r#"google.protobuf.StringValue {1: "Ada"}"#
        );
        assert_eq!(shown(Envelope::encode(&300_u64)), "google.protobuf.UInt64Value {1: 300}");
        assert_eq!(shown(Envelope::encode(&1.5_f64)), "google.protobuf.DoubleValue {1: 1.5}");
        assert_eq!(shown(Envelope::encode(&())), "google.protobuf.Empty {}");
        let details = [("a".to_owned(), "b".to_owned())].into();
        let error = ErrorReply { code: "NOT_FOUND".into(), details, ..ErrorReply::default() };
        let text = r#"agentbus.v1.ErrorReply {1: "NOT_FOUND", 4: {1: "a", 2: "b"}}"#;
        assert_eq!(shown(Envelope::encode(&error)), text);
    }

    #[test]
    fn what_is_no_message_is_counted_and_what_is_long_is_cut() {
        let garbage = Envelope { payload: vec![0xff; 7].into(), ..Envelope::default() };
        assert_eq!(Shown(&garbage).to_string(), "7 bytes");
        let long = Shown(&Envelope::encode(&"ä".repeat(1000))).to_string();
        assert!(long.len() < 150 && long.ends_with('…'), "{long}");
    }
}
