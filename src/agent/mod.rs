//! Agents: what they listen to, how they answer, and the runtime that drives them.

mod answers;
mod batch;
mod binding;
mod card;
mod context;
mod conversation;
mod counts;
mod crew;
#[cfg(feature = "testing")]
mod direct;
mod endpoint;
mod error;
mod expiry;
mod fate;
mod handler;
mod health;
mod invalid_routes;
mod launch;
mod notices;
mod presence;
mod route;
mod route_table;
mod routes;
mod running;
mod runtime;
mod signals;
mod start;
mod worker;

pub mod middleware;

#[cfg(feature = "testing")]
pub(crate) use self::direct::{handle_directly, topic_of};
pub use self::{
    binding::{Binding, OneWay},
    context::Context,
    counts::Counts,
    error::HandlerError,
    handler::{FollowUpFn, FollowUpHandler, Handler, HandlerFn},
    invalid_routes::InvalidRoutes,
    middleware::{Middleware, Next},
    notices::DEAD_LETTERED,
    routes::Routes,
    running::{Ended, Running},
    runtime::Runtime,
    signals::Signals,
    start::StartError,
};
use crate::{BoxError, client::Client, message::Priorities, retry::RetryPolicy};

/// A named participant that reacts to messages.
///
/// ```
/// use agentbus::{Agent, Context, HandlerError, Routes, Rpc, Topic};
///
/// const LENGTH: Rpc<String, u64> = Rpc::new("text.length");
/// const SAID: Topic<String> = Topic::new("text.said");
///
/// struct Scribe;
///
/// impl Agent for Scribe {
///     fn name(&self) -> &str {
///         "scribe"
///     }
///
///     fn routes(&self) -> Routes<Self> {
///         Routes::new().on(LENGTH, Self::length).on(SAID, Self::said)
///     }
/// }
///
/// impl Scribe {
///     async fn length(&self, text: String, _: &Context) -> Result<u64, HandlerError> {
///         Ok(text.len() as u64)
///     }
///
///     async fn said(&self, text: String, _: &Context) -> Result<(), HandlerError> {
///         println!("{text}");
///         Ok(())
///     }
/// }
/// ```
pub trait Agent: Sized + Send + Sync + 'static {
    /// Returns the agent's name, which is also that of the queue its replicas share.
    ///
    /// Dot-separated words without white space; the last word is not `dlq`.
    fn name(&self) -> &str;

    /// Returns the topics this agent listens to, each with its handler. Called once.
    fn routes(&self) -> Routes<Self>;

    /// Returns when failed messages of this agent are handled again; `None`, the default, leaves it
    /// to the contract of each route, or else to the runtime ([`Runtime::retry`]). Called once.
    ///
    /// The policy of a route ([`Routes::retry`]) goes before it.
    fn retry(&self) -> Option<RetryPolicy> {
        None
    }

    /// Returns how the agent's queue orders messages by their priority; `None`, the default, leaves
    /// it to the configuration ([`Config::priorities`](crate::Config::priorities)). Called once, and
    /// the same for all replicas of an agent.
    ///
    /// The copies that each replica gets ([`Routes::on_each`]) come in the order of publishing.
    fn priorities(&self) -> Option<Priorities> {
        None
    }

    /// Called once, when the queues are bound and before the first message is handled. An error
    /// fails [`Runtime::start`], and stops the agents that had begun.
    fn on_start(&self, client: &Client) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = client;
        async { Ok(()) }
    }

    /// Called once, after the last message.
    fn on_stop(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}
