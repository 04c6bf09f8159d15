//! What can go wrong between bytes, JSON and descriptors, and the way out of it.

use std::fmt::Display;

use prost_reflect::{DescriptorError, FieldDescriptor, Kind, MessageDescriptor};
use serde_path_to_error::{Path, Segment};

/// How many names an error suggests.
const SUGGESTIONS: usize = 3;

/// Why a [`Schema`](super::Schema) could not be made or could not convert a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// No message of that full name is known. `close` are the most similar names, at most three.
    #[error("the contract has no message `{name}`; {}", way_out(close))]
    UnknownType {
        /// The full name that was asked for.
        name: String,
        /// The most similar full names, the closest first.
        close: Vec<String>,
    },
    /// The bytes are not a descriptor set, or one that is not complete.
    #[error(
        "not a usable file descriptor set: {reason}; compile it with all its imports, as \
         agentbus-build or `protoc --include_imports` do"
    )]
    Malformed {
        /// What is wrong, with the file if it is known.
        reason: String,
    },
    /// A file or type is there already, with another content or from another file.
    #[error(
        "the file `{file}` conflicts with the contract: {reason}; compile both descriptor sets \
         from the same sources and import paths"
    )]
    Conflict {
        /// The file that could not be added.
        file: String,
        /// What it conflicts with.
        reason: String,
    },
    /// A JSON text is not the `ProtoJSON` of that message.
    #[error("not the JSON of a `{name}`: {}{reason}", place(path))]
    Json {
        /// The full name of the message.
        name: String,
        /// Where in the text: `orders[2].amount`, or empty for the whole.
        path: String,
        /// What is wrong there, and what would be right.
        reason: String,
    },
    /// A body is not a message of that type.
    #[error(
        "the body is not a `{name}`: {reason}; it may have been sent as another type or under an \
         incompatible contract"
    )]
    Decode {
        /// The full name of the message.
        name: String,
        /// What the decoder found.
        reason: String,
    },
    /// A message is valid, but `ProtoJSON` has no form for it: a time outside of the years 1 to 9999,
    /// an `Any` of an unknown type, or more than 100 levels of nesting.
    #[error("a `{name}` cannot be shown as JSON: {reason}")]
    Unprintable {
        /// The full name of the message.
        name: String,
        /// What has no form in JSON.
        reason: String,
    },
}

impl SchemaError {
    pub(super) fn unknown_type(name: &str, known: impl Iterator<Item = String>) -> Self {
        Self::UnknownType { name: name.to_owned(), close: close_matches(name, known) }
    }

    pub(super) fn malformed(reason: impl Display) -> Self {
        Self::Malformed { reason: reason.to_string() }
    }

    pub(super) fn unusable(error: &DescriptorError) -> Self {
        match error.file() {
            Some(file) => Self::malformed(format_args!("`{file}`: {error}")),
            None => Self::malformed(error),
        }
    }

    pub(super) fn conflicting_file(file: &str) -> Self {
        let reason = "it is there already with other content".to_owned();
        Self::Conflict { file: file.to_owned(), reason }
    }

    pub(super) fn conflicting_type(name: &str, file: &str, first: &str) -> Self {
        let reason = format!("`{name}` is defined by `{first}` already");
        Self::Conflict { file: file.to_owned(), reason }
    }

    pub(super) fn unprintable(name: &str, error: &impl Display) -> Self {
        Self::Unprintable { name: name.to_owned(), reason: error.to_string() }
    }

    /// An error of the text as a whole.
    pub(super) fn json_text(name: &str, error: &impl Display) -> Self {
        Self::Json { name: name.to_owned(), path: String::new(), reason: error.to_string() }
    }

    /// An error at `path` of the JSON of a `message`.
    pub(super) fn json(message: &MessageDescriptor, path: &Path, error: &impl Display) -> Self {
        let mut reason = error.to_string();
        if let Some(found) = find(message, path) {
            reason = format!("{reason}; {}", found.expected(&reason));
        }
        // Where the text itself breaks, the last step has no name yet.
        let mut shown = path.to_string();
        match path.iter().next_back() {
            None => shown.clear(),
            Some(Segment::Unknown) => {
                let known = shown.trim_end_matches('?').trim_end_matches('.').len();
                shown.truncate(known);
            }
            Some(_) => {}
        }
        Self::Json { name: message.full_name().to_owned(), path: shown, reason }
    }
}

/// What a path in JSON leads to.
enum Found {
    Message(MessageDescriptor),
    /// A whole repeated or map field.
    Items(FieldDescriptor),
    Value(Kind),
}

impl Found {
    /// Says what belongs here. The reason decides whether names are listed.
    fn expected(&self, reason: &str) -> String {
        match self {
            Self::Message(message) if reason.contains("unrecognized field name") => {
                let wrong = reason.split('\'').nth(1).unwrap_or_default();
                let known: Vec<_> =
                    message.fields().map(|field| field.json_name().to_owned()).collect();
                let close = close_matches(wrong, known.iter().cloned());
                let names = if close.is_empty() { known } else { close };
                format!("`{}` has {}", message.full_name(), quoted(&names))
            }
            Self::Message(message) => format!("`{}` belongs here", message.full_name()),
            Self::Items(field) if field.is_map() => "an object belongs here".to_owned(),
            Self::Items(field) => format!("an array of `{:?}` belongs here", field.kind()),
            Self::Value(Kind::Enum(values)) => {
                let names: Vec<_> = values.values().map(|value| value.name().to_owned()).collect();
                format!("`{}` has the values {}", values.full_name(), quoted(&names))
            }
            Self::Value(kind) => format!("`{kind:?}` belongs here"),
        }
    }
}

/// Follows a path through the descriptors, or returns `None` where it leaves them, as in a
/// `google.protobuf.Struct`.
fn find(message: &MessageDescriptor, path: &Path) -> Option<Found> {
    let mut found = Found::Message(message.clone());
    for segment in path {
        found = match (found, segment) {
            (Found::Message(message), Segment::Map { key }) => {
                let field = (message.get_field_by_json_name(key))
                    .or_else(|| message.get_field_by_name(key))?;
                if field.is_list() || field.is_map() {
                    Found::Items(field)
                } else {
                    single(field.kind())
                }
            }
            (Found::Items(field), Segment::Seq { .. }) if field.is_list() => single(field.kind()),
            (Found::Items(field), Segment::Map { .. }) if field.is_map() => {
                single(field.kind().as_message()?.map_entry_value_field().kind())
            }
            _ => return None,
        };
    }
    Some(found)
}

fn single(kind: Kind) -> Found {
    match kind {
        Kind::Message(message) => Found::Message(message),
        kind => Found::Value(kind),
    }
}

fn place(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("at `{path}`: ") }
}

fn way_out(close: &[String]) -> String {
    match close {
        [] => "merge the descriptor set that defines it".to_owned(),
        close => format!("did you mean {}?", quoted(close)),
    }
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// The names that `wanted` may be a slip of: another package, other capitals, a few wrong letters.
fn close_matches(wanted: &str, known: impl Iterator<Item = String>) -> Vec<String> {
    let last_word = |name: &str| name.rsplit('.').next().unwrap_or_default().to_lowercase();
    let word = last_word(wanted);
    let mut close: Vec<(usize, String)> = known
        .filter_map(|name| {
            let other = last_word(&name);
            let limit = word.chars().count().min(other.chars().count()) / 3;
            // Words, since a whole name is mostly package. Long ones are no slip of anything.
            if word.len().abs_diff(other.len()) > 4 || word.len() > 128 {
                return None;
            }
            let distance = edit_distance(&word, &other);
            (distance <= limit).then_some((distance, name))
        })
        .collect();
    close.sort();
    close.truncate(SUGGESTIONS);
    close.into_iter().map(|(_, name)| name).collect()
}

/// How many letters to insert, remove or replace (Levenshtein).
fn edit_distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::{super::tests::shop, *};

    #[test]
    fn an_unknown_type_is_an_error_with_similar_names() {
        let unknown = |name| match shop().to_json(name, b"") {
            Err(SchemaError::UnknownType { close, .. }) => close,
            other => panic!("{other:?}"),
        };
        assert_eq!(unknown("shop.Order"), ["shop.v1.Order"]);
        assert_eq!(unknown("shop.v1.Ordr"), ["shop.v1.Order"]);
        assert_eq!(unknown("order"), ["shop.v1.Order"]);
        assert!(unknown("weather.Forecast").is_empty());
        assert_eq!(
            shop().from_json("shop.v1.Itm", "{}").unwrap_err().to_string(),
            "the contract has no message `shop.v1.Itm`; did you mean `shop.v1.Item`?"
        );
    }

    #[test]
    fn an_error_in_json_names_the_field_its_type_and_what_belongs_there() {
        let schema = shop();
        let cases = [
            (
                r#"{"items": [{}, {"quantty": 1}]}"#,
                "not the JSON of a `shop.v1.Order`: at `items[1]`: unrecognized field name \
                 'quantty' at line 1 column 25; `shop.v1.Item` has `quantity`",
            ),
            (
                r#"{"gifts": {"me": {"x": 1}}}"#,
                "not the JSON of a `shop.v1.Order`: at `gifts.me`: unrecognized field name 'x' at \
                 line 1 column 21; `shop.v1.Item` has `productId`, `quantity`, `parts`",
            ),
            (
                r#"{"items": [{"quantity": "many"}]}"#,
                "not the JSON of a `shop.v1.Order`: at `items[0].quantity`: invalid digit found \
                 in string at line 1 column 30; `int32` belongs here",
            ),
            (
                "{",
                "not the JSON of a `shop.v1.Order`: EOF while parsing an object at line 1 column 1",
            ),
            (
                r#"{"status": "PAID"}"#,
                "not the JSON of a `shop.v1.Order`: at `status`: unrecognized enum value 'PAID' \
                 at line 1 column 17; `shop.v1.Status` has the values `STATUS_UNSPECIFIED`, \
                 `STATUS_PAID`",
            ),
            (
                r#"{"items": {}}"#,
                "not the JSON of a `shop.v1.Order`: at `items`: invalid type: map, expected a \
                 list at line 1 column 12; an array of `shop.v1.Item` belongs here",
            ),
            ("{} {}", "not the JSON of a `shop.v1.Order`: trailing characters at line 1 column 4"),
        ];
        for (json, expected) in cases {
            let error = schema.from_json("shop.v1.Order", json).unwrap_err();
            assert!(matches!(error, SchemaError::Json { .. }));
            assert_eq!(error.to_string(), expected);
        }
    }
}
