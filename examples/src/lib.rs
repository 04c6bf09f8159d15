//! What the examples share: their contract, compiled from `proto/examples/v1`.
//!
//! Each example beside this crate's `Cargo.toml` is one idea in one file, and a program of its
//! own: `cargo run -p examples --bin hello_agent`. They run on the bus that `AGENTBUS_URL` names,
//! by default the embedded one. In the order to read them in:
//!
//! | example | shows |
//! |---|---|
//! | `hello_agent` | the smallest agent, and a request to it |
//! | `request_reply` | every way a request ends: reply, typed error, deadline, nobody there |
//! | `publish_subscribe` | one message to many agents; the patterns `*` and `#` |
//! | `addressing` | to one instance, to all of a type, to everybody; topics made at run time |
//! | `conversation` | a request whose answer comes to a route, with the state kept meanwhile |
//! | `failures` | retries and dead letters |
//! | `contract_terms` | what a contract states beside the key: deadline, retries, priority; messages as JSON |
//! | `batches` | messages handled in bulk |
//! | `middleware` | code around every handler |
//! | `publisher` | sending without an agent: confirmed, pipelined, unroutable |
//! | `subscriber` | receiving without an agent: ack, reject, release |
//! | `raw_envelopes` | undecoded messages: forwarded whole, printed as JSON |

//!
//! How agents are tested is in `tests/warehouse.rs`.

// A module for each package: the messages, and for each service a module with one constant a
// method.
include!(concat!(env!("OUT_DIR"), "/contract.rs"));

pub use self::examples::v1;
