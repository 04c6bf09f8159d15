//! Compiles `.proto` contracts into typed messages and routes for agentbus.
//!
//! The `.proto` files are the whole contract: the messages, and the keys they travel under. A
//! method's key is an option; a method that returns `google.protobuf.Empty` is one-way:
//!
//! ```proto
//! syntax = "proto3";
//! package market.v1;
//!
//! import "agentbus/v1/route.proto";
//! import "google/protobuf/empty.proto";
//!
//! message DataRequest { string asset = 1; }
//! message DataResponse { repeated double prices = 1; }
//! message PriceMoved { string asset = 1; double price = 2; }
//!
//! // Gives prices.
//! service DataAgent {
//!   rpc Fetch(DataRequest) returns (DataResponse) { option (agentbus.v1.route).key = "data.request"; }
//! }
//!
//! service MarketEvents {
//!   rpc PriceMoved(PriceMoved) returns (google.protobuf.Empty) { option (agentbus.v1.route).key = "price.moved"; }
//! }
//! ```
//!
//! # In `build.rs`
//!
//! ```no_run
//! fn main() -> Result<(), agentbus_build::Error> {
//!     agentbus_build::compile(&["proto/market/v1/market.proto"], &["proto"])
//! }
//! ```
//!
//! No `protoc` is needed, nor a copy of `agentbus/v1/*.proto`: both come with this crate. The crate
//! that includes the generated code depends on `agentbus` and `prost`, and on `prost-types` where its
//! messages use Google's (`google.protobuf.Timestamp`).
//!
//! # In the crate
//!
//! Each package is a file in `OUT_DIR`, to be included in a module of its own. Packages that refer to
//! each other need modules as their names say; [`Builder::include_file`] writes those as well.
//!
//! ```ignore
//! mod market {
//!     pub mod v1 {
//!         include!(concat!(env!("OUT_DIR"), "/market.v1.rs"));
//!     }
//! }
//! ```
//!
//! It holds:
//!
//! - prost's messages and enums, with comments as documentation and their protobuf names;
//! - a module a service, with a typed constant a method:
//!
//!   ```ignore
//!   pub mod data_agent {
//!       pub const FETCH: ::agentbus::Rpc<super::DataRequest, super::DataResponse> =
//!           ::agentbus::Rpc::new("data.request").with_contract(&super::CONTRACT);
//!   }
//!   pub mod market_events {
//!       pub const PRICE_MOVED: ::agentbus::Topic<super::PriceMoved> =
//!           ::agentbus::Topic::new("price.moved").with_contract(&super::CONTRACT);
//!   }
//!   ```
//!
//!   A deadline, a retry policy or a priority that the route states beside its key goes along, as in
//!   `Rpc::new("data.request").with_deadline(…)`;
//!
//! - `serde::Serialize` and `Deserialize` for messages that [`Builder::serde`] names, as `ProtoJSON`;
//! - `bus_metadata`, an accessor on each message that carries its metadata in the body: in a field of
//!   type `agentbus.v1.Metadata`, or of any message whose fields 1 to 5 are the same. The constants
//!   name the number of that field, so that it is filled and read. A message with a field called
//!   `bus_metadata` gets no accessor;
//! - `FILE_DESCRIPTOR_SET`, the descriptors of the whole compilation with imports, options and
//!   comments, by which tools print any message; the packages of one compilation share one set.
//!   `CONTRACT` is the same with its hash, and each of the typed constants refers to it, so that a
//!   running agent can tell its contract.
//!
//! # What is checked
//!
//! All problems of all files are told at once, each with its place:
//!
//! ```text
//! proto/market/v1/market.proto:12:36: `market.v1.DataAgent.Fetch` has the key "data..request", which has an empty word: words are separated by single dots
//! ```
//!
//! - Every method has a key, in a file that imports `agentbus/v1/route.proto` and in a service of which
//!   one method has a key. Any other service (plain gRPC) is left alone: no constants, no checks.
//! - A key is words separated by single dots, without wildcards, white space or control characters, at
//!   most 197 bytes, and belongs to one method only.
//! - A deadline is from 1 ms to 30 days, and only where there is a reply; a priority from 1 to 10. A
//!   retry policy has 1 to 1000 attempts, delays of at most a day that grow by a factor of 1 to 1000.
//! - Messages go one at a time: methods that stream are not supported yet.
//! - No two names become the same in Rust.
//!
//! [`Contract`] gives the same as data: services, routes, and where each is declared.

mod builder;
mod bundled;
mod contract;
mod generate;
mod hash;
mod include;
mod metadata;
mod options;
mod problem;
mod rules;
#[cfg(test)]
mod scratch;
mod sources;

use std::path::Path;

pub use builder::Builder;
pub use bundled::bundled_protos;
pub use contract::{Contract, Retry, Route, Service};
pub use problem::{Error, Location, Problem};

/// Compiles `files` into `OUT_DIR` with the default settings; imports are searched in `includes`.
///
/// A file is named by its path, or relative to one of the `includes`, in which it has to be. The
/// packages of imported files are generated, too. Call it once with all files: two calls that
/// generate the same package overwrite each other.
///
/// # Errors
///
/// Those of [`Builder::compile`].
pub fn compile(files: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Error> {
    Builder::new().includes(includes).compile(files)
}

/// Returns a builder with the default settings, the same as [`Builder::new`].
#[must_use]
pub fn configure() -> Builder {
    Builder::new()
}
