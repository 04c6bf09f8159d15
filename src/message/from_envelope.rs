//! What handlers and subscribers can take.

use prost::{Message, Name as MessageName};

use super::{DecodeError, Envelope};
use crate::contract::full_name;

/// A message that can be read out of an envelope: every protobuf message, and the envelope itself
/// where it is wanted undecoded.
pub trait FromEnvelope: Sized + Send + 'static {
    /// Reads the message.
    ///
    /// # Errors
    ///
    /// Returns an error where the envelope holds another type or the body does not decode.
    fn from_envelope(envelope: &Envelope) -> Result<Self, DecodeError>;

    /// Returns the protobuf full name of what is read; `None`, the default, where that is anything.
    #[must_use]
    fn message_type() -> Option<&'static str> {
        None
    }
}

impl<M: Message + MessageName + Default + 'static> FromEnvelope for M {
    fn from_envelope(envelope: &Envelope) -> Result<Self, DecodeError> {
        envelope.decode()
    }

    fn message_type() -> Option<&'static str> {
        Some(full_name::<M>())
    }
}

impl FromEnvelope for Envelope {
    fn from_envelope(envelope: &Envelope) -> Result<Self, DecodeError> {
        Ok(envelope.clone())
    }
}
