//! Turns what the agents compute with into the contract's messages, and back.
//!
//! Ours becomes theirs by `From`. Theirs becomes ours by `TryFrom`, since a peer may send anything: a
//! date that is none, an enum value of next year. What is [`Malformed`] names the field.

mod analysis;
mod answer;
mod malformed;
mod prices;
mod question;
mod range;
mod series;

pub use malformed::Malformed;

/// Converts every item, to a message or from one that cannot be malformed.
fn all<T, U: From<T>>(items: impl IntoIterator<Item = T>) -> Vec<U> {
    items.into_iter().map(U::from).collect()
}

/// Converts every item, up to the first that is malformed.
fn try_all<T, U: TryFrom<T, Error = Malformed>>(
    items: impl IntoIterator<Item = T>,
) -> Result<Vec<U>, Malformed> {
    items.into_iter().map(U::try_from).collect()
}
