//! Patterns: what a queue is bound with, wildcards included.

use std::fmt;

use super::{MAX_NAME_BYTES, Name};

/// A topic pattern: `*` stands for exactly one word, `#` for zero or more.
///
/// A topic without wildcards is a pattern that matches itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Name);

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it: an empty word, a wildcard inside a word, white space, or
    /// more than [`MAX_NAME_BYTES`] bytes.
    pub fn parse(pattern: impl Into<Name>) -> Result<Self, InvalidPattern> {
        let pattern = pattern.into();
        match fault(&pattern) {
            None => Ok(Self(pattern)),
            Some(fault) => Err(InvalidPattern { pattern, fault }),
        }
    }

    /// Returns the pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the pattern's text as a name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0
    }

    /// Tells whether the pattern has wildcards.
    #[must_use]
    pub fn has_wildcards(&self) -> bool {
        self.0.contains(['*', '#'])
    }

    /// Tells whether a message published under `topic` is routed here.
    ///
    /// To ask many patterns at once, use a [`PatternTable`](super::PatternTable).
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let mut table = super::PatternTable::new();
        table.insert(self.as_str(), ());
        table.is_match(topic)
    }
}

impl<M> From<&super::Topic<M>> for Pattern {
    fn from(topic: &super::Topic<M>) -> Self {
        Self(topic.name().clone())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.0).finish()
    }
}

/// Text that cannot be a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` cannot be a pattern: {fault}")]
pub struct InvalidPattern {
    pattern: Name,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("it has an empty word; words are separated by single dots")]
    EmptyWord,
    #[error("`*` and `#` stand for whole words, not for parts of one")]
    PartialWildcard,
    #[error("it has white space or a control character")]
    Blank,
    #[error("it has more than {MAX_NAME_BYTES} bytes")]
    TooLong,
}

fn fault(pattern: &str) -> Option<Fault> {
    if pattern.len() > MAX_NAME_BYTES {
        return Some(Fault::TooLong);
    }
    pattern.split('.').find_map(|word| {
        if word.is_empty() {
            Some(Fault::EmptyWord)
        } else if word.len() > 1 && word.contains(['*', '#']) {
            Some(Fault::PartialWildcard)
        } else if word.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            Some(Fault::Blank)
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_whole_words() {
        for good in ["#", "*", "a", "a.*", "#.b", "a.#.c", "*.*"] {
            assert!(Pattern::parse(good).is_ok(), "{good}");
        }
        let cases = [
            ("", Fault::EmptyWord),
            ("a..#", Fault::EmptyWord),
            ("a.b*", Fault::PartialWildcard),
            ("##", Fault::PartialWildcard),
            ("a b", Fault::Blank),
        ];
        for (bad, fault) in cases {
            assert_eq!(Pattern::parse(bad).unwrap_err().fault, fault, "{bad:?}");
        }
    }

    #[test]
    fn a_topic_is_a_pattern_that_matches_itself() {
        let pattern = Pattern::from(&super::super::Topic::<()>::new("data.request"));
        assert!(!pattern.has_wildcards());
        assert!(pattern.matches("data.request"));
        assert!(!pattern.matches("data.response"));
    }
}
