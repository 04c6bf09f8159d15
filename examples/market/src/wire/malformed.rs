//! What is wrong with a message that decodes and still cannot be.

use agentbus::{HandlerError, message::Code};
use jiff::civil::Date;

/// A message decodes, and says something that the contract does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct Malformed {
    field: &'static str,
    problem: String,
}

impl Malformed {
    /// Says what is wrong with a field, as in "`assets` is empty".
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }

    /// Answers the asker that the request is wrong, since trying again does not cure it.
    #[must_use]
    pub fn refuse(self) -> HandlerError {
        HandlerError::reply(Code::InvalidArgument, self.to_string())
    }
}

/// Returns what must be there.
pub(super) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, Malformed> {
    value.ok_or_else(|| Malformed::new(field, "is not set"))
}

/// Reads an enum value; 0 and what a newer peer may know are malformed.
pub(super) fn known<P: TryFrom<i32>, T>(
    field: &'static str,
    value: i32,
    read: impl FnOnce(P) -> Option<T>,
) -> Result<T, Malformed> {
    let known = P::try_from(value).ok().and_then(read);
    known.ok_or_else(|| Malformed::new(field, format!("has the value {value}, which is not known")))
}

/// Reads a calendar day.
pub(super) fn date(field: &'static str, text: &str) -> Result<Date, Malformed> {
    text.parse().map_err(|_| {
        Malformed::new(
            field,
            format!("is `{}`, not a date such as `2025-12-31`", text.escape_debug()),
        )
    })
}

/// Writes a count.
pub(super) fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Reads a count.
pub(super) fn size(field: &'static str, count: u64) -> Result<usize, Malformed> {
    usize::try_from(count)
        .map_err(|_| Malformed::new(field, format!("is {count}, which is too many")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto;

    #[test]
    fn a_malformed_message_names_the_field_and_what_is_wrong() {
        let cases = [
            (required::<()>("range", None).unwrap_err(), "`range` is not set"),
            (
                date("from", "31.12.2025").unwrap_err(),
                "`from` is `31.12.2025`, not a date such as `2025-12-31`",
            ),
            (
                known("metrics", 99, |metric: proto::Metric| Some(metric)).unwrap_err(),
                "`metrics` has the value 99, which is not known",
            ),
        ];
        for (malformed, text) in cases {
            assert_eq!(malformed.to_string(), text);
        }
    }
}
