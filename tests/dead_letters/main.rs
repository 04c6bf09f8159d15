//! Dead letters: looked at, replayed, removed; and nothing is lost by it.

#[path = "../support/mod.rs"]
mod support;

mod kept;
mod moody;
mod notices;
mod replay;
