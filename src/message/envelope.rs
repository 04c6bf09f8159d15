//! The envelope: an encoded message with its metadata.

use bytes::{Buf, Bytes};
use prost::{Message, Name as MessageName};

use super::{Id, Metadata, Timestamp};
use crate::contract::{Name, full_name};

/// The content type of protobuf bodies.
pub const CONTENT_TYPE: &str = "application/x-protobuf";

/// A message as brokers carry it: an encoded body, and what describes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Envelope {
    /// Topic the message was published under; none for one that was addressed to a queue, as
    /// replies are.
    pub topic: Option<Name>,
    /// What describes the body.
    pub metadata: Metadata,
    /// The encoded message: bare protobuf.
    pub payload: Bytes,
}

/// The body is not the message that was expected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The body is something else than protobuf.
    #[error("content type `{found}` is not protobuf; send `{CONTENT_TYPE}` or leave it out")]
    ContentType {
        /// What the message says it is.
        found: Name,
    },
    /// The body is compressed.
    #[error("content encoding `{found}` is not read; send the body as it is, and leave it out")]
    ContentEncoding {
        /// How the message says it is compressed.
        found: Name,
    },
    /// The message says that it is of another type.
    #[error("expected a `{expected}`, got a `{found}`")]
    WrongType {
        /// Full name of the expected message.
        expected: &'static str,
        /// Full name the message gives.
        found: Name,
    },
    /// The body does not decode.
    #[error("the body is no `{expected}`: {reason}")]
    Malformed {
        /// Full name of the expected message.
        expected: &'static str,
        /// What the decoder found.
        reason: String,
    },
}

impl Envelope {
    /// Encodes `message` under a new message id, with its type and the present time.
    #[must_use]
    pub fn encode<M: Message + MessageName>(message: &M) -> Self {
        Self::of_type(Name::from_static(full_name::<M>()), message.encode_to_vec())
    }

    /// Wraps a body that was encoded elsewhere.
    pub(crate) fn of_type(message_type: Name, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: None,
            metadata: Metadata {
                content_type: Some(Name::from_static(CONTENT_TYPE)),
                message_type: Some(message_type),
                message_id: Some(Id::new()),
                timestamp: Some(Timestamp::now()),
                ..Metadata::default()
            },
            payload: payload.into(),
        }
    }

    /// Decodes the body.
    ///
    /// # Errors
    ///
    /// Returns an error where the metadata names another type or content type, whatever the body
    /// would decode as: protobuf often decodes the wrong type without complaint.
    pub fn decode<M: Message + MessageName + Default>(&self) -> Result<M, DecodeError> {
        let expected = full_name::<M>();
        self.expect(expected)?;
        M::decode(Body(&self.payload, 0))
            .map_err(|error| DecodeError::Malformed { expected, reason: error.to_string() })
    }

    /// Checks that the metadata allows the body to be an `expected`.
    fn expect(&self, expected: &'static str) -> Result<(), DecodeError> {
        self.expect_protobuf()?;
        match &self.metadata.message_type {
            Some(found) if found != expected => {
                Err(DecodeError::WrongType { expected, found: found.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Checks that the body is protobuf at all.
    pub(crate) fn expect_protobuf(&self) -> Result<(), DecodeError> {
        match self.metadata.content_type.as_deref() {
            None | Some("" | CONTENT_TYPE | "application/protobuf") => {}
            Some(found) => return Err(DecodeError::ContentType { found: found.into() }),
        }
        match self.metadata.content_encoding.as_deref() {
            None | Some("" | "identity") => Ok(()),
            Some(found) => Err(DecodeError::ContentEncoding { found: found.into() }),
        }
    }
}

/// What is left of a body, which is shared with the message only where that has `bytes` of it.
struct Body<'a>(&'a Bytes, usize);

impl Buf for Body<'_> {
    fn remaining(&self) -> usize {
        self.0.len() - self.1
    }

    fn chunk(&self) -> &[u8] {
        &self.0[self.1..]
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "the body ends before");
        self.1 += count;
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        let bytes = self.0.slice(self.1..self.1 + length);
        self.1 += length;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct File {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(bytes = "bytes", tag = "2")]
        content: Bytes,
    }

    impl MessageName for File {
        const NAME: &'static str = "File";
        const PACKAGE: &'static str = "test.v1";
    }

    #[test]
    fn bytes_of_a_message_are_not_copied() {
        let file = File { name: "a".into(), content: Bytes::from_static(b"content") };
        let envelope = Envelope::encode(&file);
        let decoded: File = envelope.decode().unwrap();
        assert_eq!(decoded, file);
        assert!(envelope.payload.as_ptr_range().contains(&decoded.content.as_ptr()));
    }

    #[test]
    fn a_body_cut_short_is_an_error_or_another_message() {
        let file = File { name: "a".into(), content: Bytes::from_static(b"content") };
        let whole = Envelope::encode(&file).payload;
        for length in 0..whole.len() {
            let mut envelope = Envelope::encode(&file);
            envelope.payload = whole.slice(..length);
            assert_eq!(envelope.decode::<File>().is_ok(), matches!(length, 0 | 3), "{length}");
        }
    }

    #[derive(Clone, PartialEq, Message)]
    struct Price {
        #[prost(double, tag = "1")]
        close: f64,
    }

    impl MessageName for Price {
        const NAME: &'static str = "Price";
        const PACKAGE: &'static str = "test.v1";
    }

    #[test]
    fn what_was_encoded_decodes() {
        let price = Price { close: 4.2 };
        let envelope = Envelope::encode(&price);
        assert_eq!(envelope.decode::<Price>(), Ok(price));
        assert_eq!(envelope.metadata.message_type.as_deref(), Some("test.v1.Price"));
        assert!(envelope.metadata.message_id.is_some());
    }

    #[test]
    fn an_all_default_message_has_no_bytes_and_decodes() {
        let envelope = Envelope::encode(&Price::default());
        assert!(envelope.payload.is_empty());
        assert_eq!(envelope.decode::<Price>(), Ok(Price::default()));
    }

    #[test]
    fn a_message_of_another_type_is_never_decoded() {
        let envelope = Envelope::encode(&());
        assert!(matches!(envelope.decode::<Price>(), Err(DecodeError::WrongType { .. })));
    }

    #[test]
    fn a_message_without_a_type_decodes_as_what_is_expected() {
        let mut envelope = Envelope::encode(&Price { close: 1.0 });
        envelope.metadata.message_type = None;
        assert!(envelope.decode::<Price>().is_ok());
    }

    #[test]
    fn content_types_other_than_protobuf_are_refused() {
        let mut envelope = Envelope::encode(&Price { close: 1.0 });
        for (content_type, accepted) in
            [("application/protobuf", true), ("", true), ("application/json", false)]
        {
            envelope.metadata.content_type = Some(content_type.into());
            assert_eq!(envelope.decode::<Price>().is_ok(), accepted, "{content_type}");
        }
    }

    #[test]
    fn compressed_bodies_are_refused() {
        let mut envelope = Envelope::encode(&Price { close: 1.0 });
        for (encoding, accepted) in [("", true), ("identity", true), ("gzip", false)] {
            envelope.metadata.content_encoding = Some(encoding.into());
            assert_eq!(envelope.decode::<Price>().is_ok(), accepted, "{encoding}");
        }
    }

    #[test]
    fn garbage_is_an_error() {
        let mut envelope = Envelope::encode(&Price { close: 1.0 });
        envelope.payload = Bytes::from_static(&[0x09, 1]);
        assert!(matches!(envelope.decode::<Price>(), Err(DecodeError::Malformed { .. })));
    }
}
