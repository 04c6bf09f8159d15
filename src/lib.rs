//! Typed protobuf agents over a message bus, embedded in the process or on RabbitMQ.
//!
//! An agent is a struct with typed async handlers; a `.proto` file says which messages there are and
//! under which routing keys they travel. agentbus connects, routes, correlates, retries, keeps what
//! failed, and shuts down.
//!
//! # The smallest program
//!
//! ```
//! use agentbus::{Agent, Client, Config, Context, HandlerError, Routes, Rpc, Runtime};
//!
//! const LENGTH: Rpc<String, u64> = Rpc::new("text.length");
//!
//! struct Scribe;
//!
//! impl Agent for Scribe {
//!     fn name(&self) -> &str {
//!         "scribe"
//!     }
//!
//!     fn routes(&self) -> Routes<Self> {
//!         Routes::new().on(LENGTH, Self::length)
//!     }
//! }
//!
//! impl Scribe {
//!     async fn length(&self, text: String, _: &Context) -> Result<u64, HandlerError> {
//!         Ok(text.len() as u64)
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), agentbus::Report> {
//!     // The embedded bus; `Config::load()?` would ask the environment for another.
//!     let client = Client::connect(Config::default()).await?;
//!     let agents = Runtime::new(client.clone()).agent(Scribe).start().await?;
//!
//!     let length = client.request(LENGTH, &"four".to_owned()).await?;
//!     assert_eq!(length, 4);
//!
//!     agents.shutdown().await; // or `run_until_signal`, to serve until SIGTERM
//!     Ok(())
//! }
//! ```
//!
//! `String` and `u64` stand for protobuf messages here (they are the well-known `StringValue` and
//! `UInt64Value`). In a real program `LENGTH` and its messages are generated: `agentbus-build`, called
//! from a `build.rs`, turns each method of a `.proto` service into such a constant.
//!
//! # The layers
//!
//! Each uses only those above it in this list; a test of this crate keeps that true.
//!
//! 1. [`contract`] has the names. A [`Topic<M>`](Topic) carries messages `M`, an
//!    [`Rpc<Req, Res>`](Rpc) is a topic whose messages are answered, a [`FollowUp`] is a request that
//!    is answered into a route, and a [`Pattern`] matches topics (`price.*`, `audit.#`). A [`Schema`]
//!    decodes any message of the contract by name, as ProtoJSON.
//! 2. [`message`] has what travels: an [`Envelope`] is an encoded body, its topic, and
//!    [`Metadata`](message::Metadata): ids, deadline, attempt, trace, the user's own
//!    [`Headers`](message::Headers). [`proto`] has the few messages of agentbus's own.
//! 3. [`config`] is the one [`Config`]: from code, a file, the environment. [`retry`] has the pure
//!    arithmetic of attempts and delays.
//! 4. [`broker`] is the port to the engine that moves envelopes, [`Broker`](broker::Broker), and has
//!    its backends: [`memory`](broker::memory), which is also the executable specification, and
#![cfg_attr(feature = "rabbitmq", doc = "   [`rabbitmq`](broker::rabbitmq).")]
#![cfg_attr(not(feature = "rabbitmq"), doc = "   `rabbitmq`.")]
//!    [`store`] is the port to what is remembered between messages.
//! 5. [`client`] is typed access without an agent: a [`Client`] publishes, asks, subscribes, and
//!    finds out [who is there](Client::discover).
//! 6. [`agent`] is the top: an [`Agent`] with its [`Routes`], the [`Context`] a handler gets, the
//!    [`HandlerError`] that decides a message's fate, [`middleware`](agent::middleware) around
//!    handlers, and the [`Runtime`] that drives it all.
#![cfg_attr(feature = "testing", doc = "7. [`testing`] has the bus for tests of agents.")]
#![cfg_attr(not(feature = "testing"), doc = "7. `testing` has the bus for tests of agents.")]
//!
//! # How a message travels
//!
//! 1. [`Client::publish`] or [`Client::request`] encodes the message into an envelope and fills in
//!    its id, type, time, sender, conversation and, for a request, deadline and reply address. Within
//!    a handler, the same methods of [`Context`] also name the handled message as the cause.
//! 2. The broker puts it into every queue with a binding that matches the topic, and only then is the
//!    publish `Ok`. All replicas of an agent share the queue of the agent's name;
//!    [`on_each`](Routes::on_each) routes use a queue a replica.
//! 3. A replica takes up to [`prefetch`](Config::prefetch) messages at a time and hands each to the
//!    first route that matches its topic. A type that is not the route's goes to the dead letters.
//! 4. What the handler returns decides the rest. `Ok`: a request is answered. `Err` by `?`: a copy is
//!    published to come back after a delay. [`HandlerError::Reject`], or no attempts left: a copy goes
//!    to the agent's dead-letter queue, `{agent}.dlq`, and a requester gets an
//!    [`ErrorReply`].
//! 5. Once that is confirmed, and not before, the original is acked.
//!
//! # What is promised
//!
//! - **Sent means taken.** A publish ends `Ok`, or gives the message back as
//!   [`Unroutable`](broker::PublishError::Unroutable), [`Refused`](broker::PublishError::Refused) or
//!   [`Unconfirmed`](broker::PublishError::Unconfirmed), within
//!   [`publish_timeout`](Config::publish_timeout) (10 s).
//! - **At least once.** A message may be handled twice, after a crash or a lost connection, under the
//!   same message id. The one exception are replies to [`request`](Client::request), which come at
//!   most once; the deadline covers the loss.
//! - **No hot loops.** By default 4 attempts, 1 s, 2 s and 4 s apart, plus up to 25 %
//!   ([`RetryPolicy`](retry::RetryPolicy)); an [agent](Agent::retry) or a [route](Routes::retry) may
//!   have a policy of its own, and a [message](PublishOptions::attempts) a number of attempts. A crash
//!   does not count as an attempt; a message that comes back from crashes more than 100 times goes to
//!   the dead letters.
//! - **Failures are kept**, 24 hours by default, in the failing agent's own queue.
//! - **Once, where asked for.** With [`Deduplicate`](agent::middleware::Deduplicate) a message that
//!   comes again, under the same id and within 100 000 messages and an hour, ends as it did the first
//!   time, without its handler; a repeated request gets the stored reply.
//! - **A request always ends**: with the reply, with the error that came in its place, at once where
//!   nobody listens, or at its deadline (30 s). Deadlines travel along, and a message that arrives
//!   after its deadline is not handled. Neither is any other that
//!   [expires](PublishOptions::expires_after).
//! - **A type is never guessed.** The protobuf full name travels with the message and is checked.
//! - **Everything is bounded**: messages being handled at once (32 a replica), unconfirmed messages
//!   (256), pending replies (10 000), conversations (100 000 and 1 h), a queue (1 000 000 messages,
//!   then `Refused`), dead letters (100 000 or 1 GiB, then the agent pauses), a body (16 MiB), free
//!   headers (64 of 255 bytes). All but the last are fields of [`Config`].
//!
//! The embedded bus keeps these promises as long as the process lives, and nothing beyond it. Which
//! backend keeps which, and what is still missing, is in the README; what goes over the wire is in
//! `docs/wire.md`.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `rabbitmq` | yes | the RabbitMQ backend, `amqp://` addresses |
//! | `tls` | no | `amqps://` and `rediss://` addresses, on rustls with the system's certificates |
//! | `redis` | no | the Redis backend, `redis://` addresses, and [stores](store::redis) on Redis |
//! | `sqlite` | no | [stores](store::sqlite) in SQLite files; takes a C compiler |
//! | `testing` | no | `testing`: a bus for tests of agents, with checks, faults and paused time |
//! | `cli` | no | the command `agentbus` and what it needs; implies `rabbitmq` and `redis` |

mod clock;
mod report;

pub mod agent;
pub mod broker;
pub mod client;
pub mod config;
pub mod contract;
pub mod message;
pub mod proto;
pub mod retry;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use agent::{Agent, Context, HandlerError, Middleware, Next, Routes, Running, Runtime};
/// The attribute that implementations of [`Middleware`] and of the ports need.
pub use async_trait::async_trait;
pub use broker::PublishError;
pub use client::{
    Client, PublishOptions, Publisher, RequestError, RequestOptions, Subscriber, Subscription,
};
pub use config::Config;
pub use contract::{FollowUp, Name, Pattern, Rpc, Schema, Topic};
pub use message::{Code, Envelope, ErrorReply, Id};
pub use report::Report;

/// A type-erased error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Compiles the README's programs.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../README.md")]
struct Readme;
