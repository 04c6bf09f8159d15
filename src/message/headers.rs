//! Free headers: what users attach to a message beside its metadata.

use std::fmt;

use crate::contract::Name;

/// How many free headers a message may carry.
pub const MAX_HEADERS: usize = 64;

/// How long the name or the text of a header may be, in bytes.
pub const MAX_HEADER_BYTES: usize = 255;

/// The free headers of a message, in the order they were set.
///
/// They travel with the message through retries, dead letters and replays. Values are flat, so
/// that every client library and every protocol version carries them unchanged; the order is not
/// kept by all, so two sets of headers are equal whatever their order.
///
/// ```
/// # use agentbus::message::Headers;
/// let mut headers = Headers::default();
/// headers.set("tenant", "acme")?;
/// headers.set("shard", 7)?;
/// assert_eq!(headers.text("tenant"), Some("acme"));
/// assert!(headers.set("agentbus-attempt", 3).is_err());
/// # Ok::<(), agentbus::message::HeaderError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<(Name, HeaderValue)>);

/// The value of a header: text or a whole number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// Text of at most [`MAX_HEADER_BYTES`] bytes.
    Text(Name),
    /// A whole number.
    Int(i64),
}

/// A header that cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The name belongs to agentbus, to the broker or to trace context.
    #[error(
        "header `{0}` cannot be set: names that start with `agentbus-`, `traceparent`, `tracestate`, `CC`, `BCC` and what the broker sets itself (`x-death`, `x-first-death-*`, `x-last-death-*`, `x-delivery-count`, `x-acquired-count`) are taken"
    )]
    Reserved(Name),
    /// The name is empty or too long.
    #[error("header name `{0}` cannot be used: a name has 1 to {MAX_HEADER_BYTES} bytes")]
    BadName(Name),
    /// The text is too long.
    #[error(
        "header `{name}` has {bytes} bytes of text, which is more than {MAX_HEADER_BYTES}; put long text into the message"
    )]
    TooLong {
        /// Name of the header.
        name: Name,
        /// How long its text is.
        bytes: usize,
    },
    /// The message has as many headers as it may have.
    #[error("header `{0}` cannot be added: a message has at most {MAX_HEADERS} free headers")]
    TooMany(Name),
}

impl Headers {
    /// Sets a header; one of the same name is replaced.
    ///
    /// # Errors
    ///
    /// Returns why the header was not set; the others stay as they were.
    pub fn set(
        &mut self,
        name: impl Into<Name>,
        value: impl Into<HeaderValue>,
    ) -> Result<(), HeaderError> {
        let (name, value) = (name.into(), value.into());
        if is_reserved(&name) {
            return Err(HeaderError::Reserved(name));
        }
        self.put(name, value)
    }

    /// Sets a header as received, where reserved names have been taken out already.
    pub(super) fn put(&mut self, name: Name, value: HeaderValue) -> Result<(), HeaderError> {
        if name.is_empty() || name.len() > MAX_HEADER_BYTES {
            return Err(HeaderError::BadName(name));
        }
        if let HeaderValue::Text(text) = &value
            && text.len() > MAX_HEADER_BYTES
        {
            return Err(HeaderError::TooLong { name, bytes: text.len() });
        }
        if let Some(entry) = self.0.iter_mut().find(|(known, _)| *known == name) {
            entry.1 = value;
        } else if self.0.len() == MAX_HEADERS {
            return Err(HeaderError::TooMany(name));
        } else {
            self.0.push((name, value));
        }
        Ok(())
    }

    /// Returns the value of a header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Returns the text of a header; `None` where it is missing or a number.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            HeaderValue::Text(text) => Some(text),
            HeaderValue::Int(_) => None,
        }
    }

    /// Removes a header and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<HeaderValue> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    /// Goes through names and values in the order they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Returns how many headers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(name, value)| other.get(name) == Some(value))
    }
}

impl Eq for Headers {}

/// Tells whether a header name means something to agentbus, to the broker or to tracing.
pub(super) fn is_reserved(name: &str) -> bool {
    let starts = |prefix: &str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    // By `CC` and `BCC`, RabbitMQ copies messages to more queues, and closes the channel over text.
    starts("agentbus-")
        || is("x-death")
        || starts("x-first-death-")
        || starts("x-last-death-")
        || is("x-delivery-count")
        || is("x-acquired-count")
        || matches!(name, "traceparent" | "tracestate" | "CC" | "BCC")
}

impl From<&str> for HeaderValue {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for HeaderValue {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Name> for HeaderValue {
    fn from(text: Name) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for HeaderValue {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<i32> for HeaderValue {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}

impl From<u32> for HeaderValue {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}

impl fmt::Display for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Int(number) => number.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_equal_whatever_their_order() {
        let headers = |names: [&'static str; 2]| {
            let mut headers = Headers::default();
            for name in names {
                headers.set(name, 1).unwrap();
            }
            headers
        };
        assert_eq!(headers(["a", "b"]), headers(["b", "a"]));
        assert_ne!(headers(["a", "b"]), headers(["b", "c"]));
    }

    #[test]
    fn at_most_64_headers_are_kept() {
        let mut headers = Headers::default();
        for number in 0..64 {
            headers.set(format!("h{number}"), number).unwrap();
        }
        assert!(matches!(headers.set("one-more", 1), Err(HeaderError::TooMany(_))));
        headers.set("h0", "replaced").unwrap();
        assert_eq!(headers.text("h0"), Some("replaced"));
        assert_eq!(headers.len(), 64);
    }

    #[test]
    fn names_with_a_meaning_cannot_be_set() {
        let mut headers = Headers::default();
        for name in [
            "agentbus-topic",
            "AgentBus-x",
            "x-death",
            "X-Death",
            "x-first-death-queue",
            "x-last-death-reason",
            "x-delivery-count",
            "x-acquired-count",
            "traceparent",
            "tracestate",
            "CC",
            "BCC",
        ] {
            assert!(matches!(headers.set(name, 1), Err(HeaderError::Reserved(_))), "{name}");
        }
        assert!(headers.is_empty());
        for name in ["x-request-id", "X-Trace", "x-deaths"] {
            headers.set(name, 1).unwrap();
        }
    }

    #[test]
    fn text_of_256_bytes_is_refused() {
        let mut headers = Headers::default();
        assert!(headers.set("a", "v".repeat(255)).is_ok());
        assert!(matches!(headers.set("b", "v".repeat(256)), Err(HeaderError::TooLong { .. })));
        assert!(matches!(headers.set("n".repeat(256), 1), Err(HeaderError::BadName(_))));
        assert!(matches!(headers.set("", 1), Err(HeaderError::BadName(_))));
    }
}
