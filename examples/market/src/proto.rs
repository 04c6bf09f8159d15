//! Messages and routes of the contract, `proto/market/v1/market.proto`.

#![allow(clippy::pedantic)] // generated

include!(concat!(env!("OUT_DIR"), "/market.v1.rs"));
