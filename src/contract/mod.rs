//! The contract: topics, the messages they carry, and the patterns that match them.
//!
//! A `.proto` file is the whole contract. `agentbus-build` compiles it into messages and into one
//! typed constant a method: an [`Rpc`] for a method with a reply, a [`Topic`] for a one-way one.

mod follow_up;
mod full_name;
mod name;
mod pattern;
#[doc(hidden)]
pub mod proto_json;
mod registered;
mod reserved;
mod retries;
mod table;
mod topic;

mod schema;

pub use self::{
    follow_up::FollowUp,
    full_name::full_name,
    name::Name,
    pattern::{InvalidPattern, Pattern},
    registered::Contract,
    reserved::is_reserved,
    retries::Retries,
    schema::{Schema, SchemaError},
    table::PatternTable,
    topic::{InvalidTopic, MAX_NAME_BYTES, Rpc, Topic},
};
