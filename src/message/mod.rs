//! The message: an encoded body and the metadata that travels beside it.
//!
//! The body is bare protobuf and nothing else. What describes it (type, ids, deadline, the user's
//! own headers) is [`Metadata`], which each backend carries in its own way: AMQP in properties
//! and headers. `docs/wire.md` has the tables.

mod cloud_events;
mod embedded;
mod envelope;
mod error_reply;
mod failure;
mod from_envelope;
mod headers;
mod id;
mod lane;
mod metadata;
mod priority;
mod timestamp;
mod wire;

#[cfg(feature = "rabbitmq")]
pub(crate) use self::wire::PRIORITY as PRIORITY_HEADER;
pub(crate) use self::{
    embedded::{append_metadata, fill_from_body},
    lane::Turns,
};
pub use self::{
    envelope::{CONTENT_TYPE, DecodeError, Envelope},
    error_reply::{Code, ErrorReply},
    failure::{Failure, FailureKind},
    from_envelope::FromEnvelope,
    headers::{HeaderError, HeaderValue, Headers, MAX_HEADER_BYTES, MAX_HEADERS},
    id::Id,
    lane::{Lane, Priorities},
    metadata::{MAX_ATTEMPTS, Metadata},
    priority::{InvalidPriority, Priority, UnknownPriority},
    timestamp::Timestamp,
    wire::WireValue,
};
