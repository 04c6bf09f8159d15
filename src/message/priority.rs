//! Priorities, from 1 to 10.

use std::{fmt, str::FromStr};

/// How urgent a message is: 1 to 10, higher first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    /// For what can wait.
    pub const LOW: Self = Self(2);
    /// What a message without a priority has.
    pub const NORMAL: Self = Self(5);
    /// Before what is normal.
    pub const HIGH: Self = Self(8);
    /// Before everything else.
    pub const URGENT: Self = Self(10);

    /// Returns the priority `level`.
    ///
    /// # Errors
    ///
    /// Returns an error if `level` is not from 1 to 10.
    pub const fn new(level: u8) -> Result<Self, InvalidPriority> {
        match level {
            1..=10 => Ok(Self(level)),
            _ => Err(InvalidPriority { level }),
        }
    }

    /// Returns the number, from 1 to 10.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.0
    }

    /// Returns the priority nearest to a number read from the wire.
    pub(crate) fn nearest(level: u8) -> Self {
        Self(level.clamp(1, 10))
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads a number from 1 to 10, or `low`, `normal`, `high` or `urgent` in any case of letters.
impl FromStr for Priority {
    type Err = UnknownPriority;

    fn from_str(text: &str) -> Result<Self, UnknownPriority> {
        let names = [
            ("low", Self::LOW),
            ("normal", Self::NORMAL),
            ("high", Self::HIGH),
            ("urgent", Self::URGENT),
        ];
        let named = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        let level = || Self::new(text.parse().ok()?).ok();
        named.map(|(_, priority)| *priority).or_else(level).ok_or(UnknownPriority)
    }
}

/// A text that is no priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a number from 1 to 10, or `low`, `normal`, `high` or `urgent`")]
pub struct UnknownPriority;

/// A number that is no priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{level}` is no priority: those go from 1 to 10, higher first")]
pub struct InvalidPriority {
    level: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_go_from_1_to_10() {
        assert_eq!(Priority::new(10), Ok(Priority::URGENT));
        assert!(Priority::new(0).is_err());
        assert!(Priority::new(11).is_err());
        assert!(Priority::HIGH > Priority::NORMAL);
    }

    #[test]
    fn priorities_are_read_as_numbers_or_names() {
        for (text, level) in [("1", 1), ("10", 10), ("low", 2), ("Normal", 5), ("URGENT", 10)] {
            assert_eq!(text.parse::<Priority>().map(Priority::level), Ok(level), "{text}");
        }
        for wrong in ["", "0", "11", "-1", "highest", "5.0"] {
            assert_eq!(wrong.parse::<Priority>(), Err(UnknownPriority), "{wrong}");
        }
    }
}
