//! Three agents that answer questions about prices.
//!
//! *query* reads the question, *data* reads the prices, *analysis* computes; what they say to each
//! other is in `proto/market/v1/market.proto`. What an agent does, apart from talking, is plain code
//! that needs no bus, in the order of a question's way:
//!
//! 1. [`question`]: plain English to assets, metrics and a [`range`].
//! 2. [`prices`]: CSV files, or the built-in [`sample`], to [`series`] of daily closes.
//! 3. [`analysis`]: statistics, return, volatility, trend, anomalies, correlation.
//! 4. [`answer`] and [`report`]: what is shown.
//!
//! [`agents`] are the three structs that talk; [`proto`] is what they say, made from the contract, and
//! [`wire`] turns it into what the plain code takes and gives. [`cli`] is the command line, and
//! [`command`] what its commands do.

pub mod agents;
pub mod analysis;
pub mod answer;
pub mod cli;
pub mod command;
pub mod prices;
pub mod proto;
pub mod question;
pub mod range;
pub mod report;
pub mod sample;
pub mod series;
pub mod wire;
