//! Identifiers of messages, requests and conversations.

use std::{fmt, sync::Arc};

use uuid::Uuid;

/// An identifier: ours are UUIDs of version 7, a peer's may be any text.
///
/// Two ids are equal exactly if their texts are.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Uuid(Uuid),
    /// Never the canonical text of a UUID, or equality would depend on the origin.
    Text(Arc<str>),
}

impl Id {
    /// Makes a new id: a UUID of version 7, which sorts by time.
    #[must_use]
    #[allow(clippy::new_without_default)] // each call differs, which a default should not
    pub fn new() -> Self {
        Self(Repr::Uuid(Uuid::now_v7()))
    }

    /// Calls `f` with the id's text; a UUID is written into a buffer on the stack.
    pub fn with_str<T>(&self, f: impl FnOnce(&str) -> T) -> T {
        match &self.0 {
            Repr::Uuid(uuid) => f(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Repr::Text(text) => f(text),
        }
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        match Uuid::try_parse(text) {
            // Upper case, braces and the like must come out as they went in.
            Ok(uuid) if Self(Repr::Uuid(uuid)).with_str(|canonical| canonical == text) => {
                Self(Repr::Uuid(uuid))
            }
            _ => Self(Repr::Text(text.into())),
        }
    }
}

impl From<String> for Id {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_str(|text| f.pad(text))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_str(|text| fmt::Debug::fmt(text, f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_out_as_it_went_in() {
        for text in ["", "order 17", "0198F2A0-0000-7000-8000-000000000000", "größe"] {
            assert_eq!(Id::from(text).to_string(), text);
        }
    }

    #[test]
    fn an_id_read_from_its_own_text_is_equal() {
        let id = Id::new();
        assert_eq!(Id::from(id.to_string()), id);
    }
}
