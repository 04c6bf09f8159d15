//! The test bus: agents on it, time, faults, and what was seen.

use std::{collections::BTreeSet, fmt, panic::Location, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    connection::Connection,
    core::Core,
    expect::{Expect, Kind},
    fault::Fault,
    history::History,
    injected::Injected,
    subject::Subject,
};
use crate::{
    Report,
    agent::{Running, Runtime},
    broker::{Broker, QueueRole, QueueSpec},
    client::Client,
    config::Config,
    contract::{Name, Pattern, Rpc},
    message::FromEnvelope,
};

/// How long [`TestBus::settled`] waits, by default.
const PATIENCE: Duration = Duration::from_mins(1);

/// A bus for tests: everything that passes is noted, and faults can be injected.
///
/// A clone is the same bus. It must be made within a tokio runtime (`#[tokio::test]`). See the
/// [module](super) for how it is used.
#[derive(Clone)]
pub struct TestBus {
    pub(super) core: Arc<Core>,
    config: Config,
    connection: Arc<Connection>,
    patience: Duration,
}

impl TestBus {
    /// Makes an embedded bus of its own, with the default configuration.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    #[must_use]
    #[track_caller]
    #[allow(clippy::new_without_default)] // each is another bus
    pub fn new() -> Self {
        Self::with_config(Config::default())
    }

    /// Makes an embedded bus of its own, with the bounds of `config`; its address is not looked at.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    #[must_use]
    #[track_caller]
    pub fn with_config(config: Config) -> Self {
        check_runtime();
        Self::of(Core::memory(&config), config)
    }

    /// Makes a test bus of any broker, such as one on RabbitMQ; what passes it by is not seen.
    ///
    /// A clock that is paused does not go with a broker outside of this process: tokio moves it
    /// on while answers are on their way. What this bus [closes](Client::close) stays open to
    /// others that use `broker`.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    #[must_use]
    #[track_caller]
    pub fn over(broker: Arc<dyn Broker>, config: Config) -> Self {
        check_runtime();
        Self::of(Core::over(broker, &config), config)
    }

    fn of(core: Arc<Core>, config: Config) -> Self {
        let connection = core.connect(&config);
        Self { core, config, connection, patience: PATIENCE }
    }

    /// Sets how long [`settled`](Self::settled) and [`Expect::wait_for`] wait before they panic: a
    /// minute of the test's clock by default.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Returns a client for the test to publish and ask with. It sends as `test`.
    #[must_use]
    pub fn client(&self) -> Client {
        let broker = Arc::clone(&self.connection) as Arc<dyn Broker>;
        Client::with_config(broker, self.config.clone()).named("test")
    }

    /// Returns a client with a connection of its own, as another process would have.
    #[must_use]
    pub fn connect(&self) -> Client {
        self.connect_with(self.config.clone())
    }

    /// Returns a client with a connection and a configuration of its own.
    #[must_use]
    pub fn connect_with(&self, config: Config) -> Client {
        Client::with_config(self.core.connect(&config), config)
    }

    /// Returns the broker that [`client`](Self::client) uses.
    #[must_use]
    pub fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.connection) as Arc<dyn Broker>
    }

    /// Returns a runtime for agents, with a connection of its own. Its retries have no jitter,
    /// whatever policy an agent or a route has: the delays are the same on every run. Its agents do
    /// not [announce](Runtime::discovery) themselves, so that only what they do is seen.
    pub fn runtime(&self) -> Runtime {
        Runtime::new(self.connect()).without_jitter().discovery(false)
    }

    /// Starts agents, in a [`runtime`](Self::runtime) that `agents` fills.
    ///
    /// # Panics
    ///
    /// Panics if they do not start, with the reason.
    #[track_caller]
    pub fn start<F>(&self, agents: F) -> impl Future<Output = Running> + use<F>
    where
        F: FnOnce(Runtime) -> Runtime,
    {
        let (runtime, caller) = (agents(self.runtime()), Location::caller());
        async move {
            match runtime.start().await {
                Ok(running) => running,
                Err(error) => {
                    panic!("the agents of {caller} did not start: {}", Report::from(error))
                }
            }
        }
    }

    /// Takes messages that nobody listens to, so that they are not
    /// [`Unroutable`](crate::PublishError::Unroutable): a test of one agent has nobody else.
    ///
    /// They stay in a queue without consumers, `accepted.{pattern}`. Takes `&TOPIC`,
    /// [`rpc.topic()`](Rpc::topic) or a pattern; `#` takes everything.
    ///
    /// # Panics
    ///
    /// Panics if the broker does not declare the queue, with the reason.
    #[track_caller]
    pub fn accept<P: Into<Pattern>>(&self, pattern: P) -> impl Future<Output = ()> + use<P> {
        let (pattern, caller) = (pattern.into(), Location::caller());
        let role = QueueRole::Private { max_length: 1_000_000, expires: Duration::from_hours(24) };
        let name = format!("{}accepted.{}", self.config.queue_prefix, pattern.as_str());
        let queue = QueueSpec::new(name, role).bind(pattern);
        let broker = self.broker();
        async move {
            if let Err(error) = broker.declare(&queue).await {
                panic!("cannot accept messages ({caller}): {}", Report::from(error));
            }
        }
    }

    /// Kills agents as the death of their process would: in the middle of what they do.
    ///
    /// Handlers end where they wait next, nothing they do reaches the bus any more, and what they
    /// had not settled is delivered to others, marked as redelivered.
    ///
    /// # Panics
    ///
    /// Panics if the agents do not run on a connection of their own on this bus, as those of
    /// [`start`](Self::start), [`runtime`](Self::runtime) and [`connect`](Self::connect) do.
    #[track_caller]
    pub fn crash(&self, agents: Running) -> impl Future<Output = ()> + use<> {
        let connection = self.core.connection(agents.client().broker());
        let connection = connection.filter(|it| !Arc::ptr_eq(it, &self.connection));
        let Some(connection) = connection else {
            panic!(
                "these agents have no connection of their own on this bus; start them by \
                 `TestBus::start`, or with a client of `TestBus::connect`"
            );
        };
        self.core.ledger.note("crashed agents");
        async move {
            connection.kill().await;
            agents.kill().await;
        }
    }

    /// Cuts all connections of this bus, until [`reconnect`](Self::reconnect).
    ///
    /// What was delivered and not settled goes back at once, to be delivered again, and acks that
    /// come later count for nothing. Publishes wait, and end in
    /// [`Unconfirmed`](crate::PublishError::Unconfirmed) if the outage lasts longer than the configuration's
    /// `publish_timeout`; those on their way end so at once. Replies to requests made before are
    /// lost. Health is [`Dialling`](crate::broker::Stage::Dialling).
    pub fn disconnect(&self) {
        let _ = self.core.cut();
    }

    /// Cuts all connections as [`disconnect`](Self::disconnect) does; they are back after
    /// `duration`, by the test's clock.
    pub fn disconnect_for(&self, duration: Duration) {
        if let Some(outage) = self.core.cut() {
            let core = Arc::clone(&self.core);
            tokio::spawn(async move {
                sleep(duration).await;
                core.mend(Some(outage));
            });
        }
    }

    /// Ends an outage: consumers are registered again, and publishes go on.
    pub fn reconnect(&self) {
        self.core.mend(None);
    }

    /// Lets something go wrong from now on.
    #[allow(clippy::must_use_candidate)] // a fault is there whether its hits are counted or not
    pub fn inject(&self, fault: Fault) -> Injected {
        self.core.ledger.note(format!("injected {fault}"));
        self.core.faults.inject(fault)
    }

    /// Returns what happened until now, to be printed.
    #[must_use]
    pub fn history(&self) -> History {
        self.core.ledger.history()
    }

    /// Returns the names of the queues that were declared here and not deleted.
    #[must_use]
    pub fn queues(&self) -> BTreeSet<Name> {
        self.core.ledger.queues()
    }

    /// Returns what there is to look at when a check has failed.
    pub(super) fn told(&self) -> String {
        let work = self.core.ledger.work();
        let later = match (work.delayed, work.next_due) {
            (0, _) | (_, None) => String::new(),
            (count, Some(due)) => format!(
                "delayed: {count}, the next is due in {:?} (`drained` and `advance` move the clock)\n",
                due.remaining()
            ),
        };
        format!("history of the bus:\n{}{later}", self.history())
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Looks for messages that were published to a topic and that the bus has taken, delayed ones
    /// included; retries and dead letters are not published in this sense. An agent's name asks
    /// for what it has sent.
    pub fn published<S: Subject>(&self, subject: S) -> Expect<S::Message> {
        self.expect(Kind::Published, subject)
    }

    /// Looks for messages that were handed to an agent, whatever became of them.
    pub fn delivered<S: Subject>(&self, subject: S) -> Expect<S::Message> {
        self.expect(Kind::Delivered, subject)
    }

    /// Looks for messages that an agent was done with: acked, and neither retried nor snoozed,
    /// dead-lettered or expired. A request that was answered with an error by
    /// [`HandlerError::Reply`](crate::HandlerError::Reply) was handled.
    pub fn handled<S: Subject>(&self, subject: S) -> Expect<S::Message> {
        self.expect(Kind::Handled, subject)
    }

    /// Looks for failed attempts after which the message is tried again.
    pub fn retried<S: Subject>(&self, subject: S) -> Expect<S::Message> {
        self.expect(Kind::Retried, subject)
    }

    /// Looks for messages whose handler asked to be called again later.
    pub fn snoozed<S: Subject>(&self, subject: S) -> Expect<S::Message> {
        self.expect(Kind::Snoozed, subject)
    }

    /// Looks for messages that were moved to the dead letters.
    pub fn dead_lettered<S: Subject>(&self, subject: S) -> Expect<S::Message> {
        self.expect(Kind::DeadLettered, subject)
    }

    /// Looks for messages that arrived after their deadline or expiry and were dropped unhandled.
    pub fn expired<S: Subject>(&self, subject: S) -> Expect<S::Message> {
        self.expect(Kind::Expired, subject)
    }

    /// Looks for replies to a request that were sent; an error in place of the reply has
    /// [`Seen::error`](super::Seen::error).
    pub fn replied<Req, Res: FromEnvelope + fmt::Debug>(&self, rpc: Rpc<Req, Res>) -> Expect<Res> {
        Expect::new(self.clone(), Kind::Replied, Some(rpc.name().clone()), None, "replies to")
    }

    fn expect<S: Subject>(&self, kind: Kind, subject: S) -> Expect<S::Message> {
        subject.expect(self.clone(), kind)
    }
}

#[track_caller]
fn check_runtime() {
    assert!(
        tokio::runtime::Handle::try_current().is_ok(),
        "a `TestBus` is made within a tokio runtime: mark the test with `#[tokio::test]`"
    );
}

impl fmt::Debug for TestBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestBus").field("broker", &self.connection.kind()).finish_non_exhaustive()
    }
}
