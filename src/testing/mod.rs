//! Tests of agents: a bus in the test's own process, checks of what happened on it, time that
//! stands still, and faults.
//!
//! ```
//! use std::time::Duration;
//! use agentbus::{Agent, Context, HandlerError, Routes, Topic, testing::TestBus};
//!
//! const HEARD: Topic<String> = Topic::new("gossip.heard");
//! const TOLD: Topic<String> = Topic::new("gossip.told");
//!
//! /// Passes on what it hears, at the second attempt.
//! struct Gossip;
//!
//! impl Agent for Gossip {
//!     fn name(&self) -> &str {
//!         "gossip"
//!     }
//!
//!     fn routes(&self) -> Routes<Self> {
//!         Routes::new().on(HEARD, Self::heard)
//!     }
//! }
//!
//! impl Gossip {
//!     async fn heard(&self, rumour: String, ctx: &Context) -> Result<(), HandlerError> {
//!         if ctx.attempt() == 1 {
//!             return Err(HandlerError::Retry("not listening".into()));
//!         }
//!         ctx.publish(TOLD, &format!("{rumour}!")).await?;
//!         Ok(())
//!     }
//! }
//!
//! #[tokio::test(start_paused = true)]
//! # async fn in_a_test() {}
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! # a_rumour_is_passed_on().await;
//! # }
//! async fn a_rumour_is_passed_on() {
//!     let bus = TestBus::new();
//!     let agents = bus.start(|runtime| runtime.agent(Gossip)).await;
//!     bus.accept(&TOLD).await; // nobody listens to it in this test
//!
//!     bus.client().publish(HEARD, &"rain".to_owned()).await.unwrap();
//!     bus.settled().await; // until there is nothing to do at present
//!     bus.retried(HEARD).after(Duration::from_secs(1)).once();
//!     bus.published(TOLD).none();
//!
//!     bus.advance(Duration::from_secs(1)).await; // the clock is paused: this takes no time
//!     bus.handled(HEARD).by("gossip").attempt(2).once();
//!     bus.published(TOLD).with(|text| text == "rain!").once();
//!     bus.dead_lettered("gossip").none();
//!     agents.stop().await;
//! }
//! ```
//!
//! # Checks
//!
//! [`published`](TestBus::published), [`delivered`](TestBus::delivered), [`handled`](TestBus::handled),
//! [`replied`](TestBus::replied), [`retried`](TestBus::retried), [`snoozed`](TestBus::snoozed),
//! [`dead_lettered`](TestBus::dead_lettered) and [`expired`](TestBus::expired) say what is looked for:
//! by [`Topic`](crate::Topic) or [`Rpc`](crate::Rpc), typed; by [`Pattern`](crate::Pattern); or by an
//! agent's name. [`Expect`] has the filters and the checks. A check that fails prints what it found and
//! the whole [`History`]:
//!
//! ```text
//! expected exactly one of the messages published on topic `gossip.told`, found 0 (tests/gossip.rs:41:32)
//!
//! history of the bus:
//!   0.000 s  test    published  gossip.heard  #1 google.protobuf.StringValue {1: "rain"}
//!   0.000 s  gossip  got        gossip.heard  #1
//!   0.000 s  gossip  failed     gossip.heard  #1, again in 1s as attempt 2
//! delayed: 1, the next is due in 999ms (`drained` and `advance` move the clock)
//! ```
//!
//! All of it is told from what passes between clients and broker, so nothing in an agent is changed
//! to be watched, and a bus on RabbitMQ ([`TestBus::over`]) tells the same.
//!
//! # Time
//!
//! With `#[tokio::test(start_paused = true)]` the clock stands still as long as anything can run, and
//! jumps to the next timer when everything waits for one (tokio's feature `test-util`, among the
//! test's own dependencies). Retries, delays, deadlines and times to live all follow that clock. So:
//!
//! - [`TestBus::settled`] waits for what is to be done at present. Time moves only where handlers
//!   themselves wait, for a reply or a `sleep`.
//! - [`TestBus::advance`] lets so much time pass; everything due on the way happens in its own time.
//! - [`TestBus::drained`] goes on until nothing is left, the last retry included.
//! - Whatever else a test waits for moves the clock as well: `client.request(…)` to a handler that
//!   is retried returns its reply, seconds later by the clock and at once by yours.
//! - What waits for something outside of tokio, such as a file or a server, looks idle to the
//!   clock, which then runs on to the next time-out. Such tests are better off with real time.
//!
//! Nothing else is left to chance: runtimes of a test bus retry without jitter, whatever the policy, and random faults
//! have a seed.
//!
//! # Faults
//!
//! [`TestBus::inject`] lets publishes and deliveries fail as [`Fault`] says; [`TestBus::disconnect_for`]
//! cuts the connections; [`TestBus::crash`] kills agents in the middle of their work.
//!
//! # One handler alone
//!
//! [`handle`] calls one handler of an agent with one message, without queues or retries.
//! [`TestBus::answer`] stands in for agents that are not there, and [`TestBus::accept`] for those that
//! would only listen.

mod body;
mod books;
mod bus;
mod connection;
mod consumer;
mod core;
mod direct;
mod expect;
mod fault;
mod history;
mod inbox;
mod injected;
mod ledger;
mod outage;
mod seen;
mod settling;
mod stand_in;
mod subject;

pub use self::{
    bus::TestBus, direct::handle, expect::Expect, fault::Fault, history::History,
    injected::Injected, seen::Seen, subject::Subject,
};
