//! The three agents.
//!
//! Each is a struct that implements [`Agent`](agentbus::Agent): its routes are the methods of its
//! service in the contract, and the plain code of this package does the work.

mod analysis;
mod data;
mod query;

pub use analysis::Analysis;
pub use data::Data;
pub use query::Query;
