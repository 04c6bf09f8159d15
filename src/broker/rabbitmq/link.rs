//! A connection that is kept: watched, and dialled again when it is lost.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, OptionFuture},
};
use lapin::Event;
use tokio::{
    select,
    sync::watch,
    time::{interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    ConnectError, ConnectionPool, RabbitOptions,
    dial::{self, Setback},
    fault::{self, Answers, Fault, LATE, within},
    health::HealthBoard,
    pool::{Line, Role},
    topology::Topology,
};
use crate::broker::{outage::Outage, patience::Patience};

/// How long a connection must live so that dialling anew at once hammers nobody.
const SETTLED: Duration = Duration::from_secs(2);

/// How long it must live to count as one that works.
const PROVEN: Duration = Duration::from_secs(10);

/// How often a new one is looked at until then, in doubt or not: a broker that was just lost may
/// have let us in and gone again, and whoever only consumes would not notice.
const GLANCE: Duration = Duration::from_secs(2);

/// One connection, from dialling to its end.
pub(super) struct Session {
    line: Line,
    /// Counts the connections of the role.
    pub(super) number: u64,
    answers: Answers,
    /// Whether the broker takes nothing at present, and says so.
    blocked: AtomicBool,
}

impl Session {
    /// Opens a channel.
    pub(super) async fn channel(&self) -> Result<lapin::Channel, Fault> {
        self.answers.within(self.line.create_channel()).await
    }

    /// Finds out whether anybody is there.
    ///
    /// # Errors
    ///
    /// Returns the patience where nobody has shown himself for so long.
    async fn probe(&self, patience: Duration) -> Result<(), Duration> {
        let wire = self.line.wire();
        // Whatever comes of it is an answer.
        let mut answer = pin!(self.line.create_channel());
        loop {
            let before = wire.traffic();
            if timeout(patience, answer.as_mut()).await.is_ok() {
                return Ok(());
            }
            // The question may wait behind what is large.
            if !wire.traffic().is_alive_since(before) {
                return Err(patience);
            }
        }
    }
}

/// Where those who use a connection get the present one.
#[derive(Clone, Debug)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    answers: Answers,
}

#[derive(Clone)]
enum State {
    Up(Arc<Session>),
    Down(String),
    Closed,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Up(session) => write!(f, "Up({})", session.number),
            Self::Down(reason) => write!(f, "Down({reason})"),
            Self::Closed => f.write_str("Closed"),
        }
    }
}

impl Link {
    /// Waits for a connection, as long as it takes.
    pub(super) async fn session(&self) -> Result<Arc<Session>, Fault> {
        let mut state = self.state.clone();
        let state = state.wait_for(|state| !matches!(state, State::Down(_))).await;
        match state.as_deref() {
            Ok(State::Up(session)) => Ok(session.clone()),
            _ => Err(Fault::Closed),
        }
    }

    /// Waits for a connection, for at most `limit`.
    pub(super) async fn session_within(&self, limit: Duration) -> Result<Arc<Session>, Fault> {
        match timeout(limit, self.session()).await {
            Ok(session) => session,
            Err(_) => Err(Fault::Disconnected(self.trouble())),
        }
    }

    /// Waits until the connection was closed for good.
    pub(super) async fn ended(&self) {
        let mut state = self.state.clone();
        // An error means that its keeper is gone, and the connection with it.
        drop(state.wait_for(|state| matches!(state, State::Closed)).await);
    }

    /// Says what keeps the connection down.
    pub(super) fn trouble(&self) -> String {
        match &*self.state.borrow() {
            State::Up(_) => "the broker does not answer".to_owned(),
            State::Down(reason) => format!("no connection to the broker: {reason}"),
            State::Closed => "the bus is closed".to_owned(),
        }
    }

    /// How answers on the connection are waited for.
    pub(super) fn answers(&self) -> &Answers {
        &self.answers
    }
}

/// What it takes to keep a connection.
pub(super) struct Keeper {
    pub(super) role: Role,
    pub(super) answers: Answers,
    pub(super) options: RabbitOptions,
    pub(super) pool: Arc<ConnectionPool>,
    pub(super) health: Arc<HealthBoard>,
    /// Declared again on each new connection, where this is the connection for that.
    pub(super) topology: Option<Arc<Topology>>,
    pub(super) shutdown: CancellationToken,
}

impl Keeper {
    /// Keeps `line` and its successors until shutdown.
    pub(super) fn keep(self, line: Line) -> Link {
        let session = Arc::new(self.session(line, 0));
        let (sender, state) = watch::channel(State::Up(session.clone()));
        let answers = self.answers.clone();
        self.health.connected(self.role);
        tokio::spawn(self.run(session, sender));
        Link { state, answers }
    }

    fn session(&self, line: Line, number: u64) -> Session {
        Session { line, number, answers: self.answers.clone(), blocked: AtomicBool::new(false) }
    }

    async fn run(self, first: Arc<Session>, sender: watch::Sender<State>) {
        let longest = self.options.connect_timeout.max(self.options.operation_timeout);
        let (mut session, mut short_lived, mut patience) = (first, 0_u32, Patience::new(longest));
        let last = loop {
            let born = Instant::now();
            let number = session.number;
            let end = select! {
                end = self.watch(&session, patience.present()) => end,
                () = self.shutdown.cancelled() => break Some(session),
            };
            tracing::warn!(role = ?self.role, reason = end.reason, "lost the connection to RabbitMQ");
            self.health.disconnected(self.role, end.reason.clone());
            sender.send_replace(State::Down(end.reason));
            drop(session);
            // A peer that lets us in and throws us out again must not be hammered either.
            short_lived = if born.elapsed() >= SETTLED { 0 } else { short_lived + 1 };
            if born.elapsed() >= PROVEN {
                patience.recover();
            }
            if end.mute {
                patience.ran_out();
                // That was waited for already.
                short_lived = 0;
            }
            let mut outage = Outage::begin();
            let dialled = self.dial(short_lived, &mut patience, number + 1, &mut outage, &sender);
            let Some(next) = dialled.await else { break None };
            session = next;
            let (tries, lasted) = (outage.tries(), outage.lasted());
            tracing::info!(role = ?self.role, failed = tries, after = ?lasted, "connected to RabbitMQ again");
            self.health.connected(self.role);
            sender.send_replace(State::Up(session.clone()));
        };
        if let Some(session) = last {
            let closed = session.line.close(200, "closed".into());
            if let Err(error) = within(self.options.connect_timeout, closed).await {
                tracing::debug!(%error, role = ?self.role, "the connection did not close cleanly");
                session.line.cut();
            }
        }
        sender.send_replace(State::Closed);
    }

    /// Dials until it succeeds, after so many failures; `None` once the bus is closed.
    async fn dial(
        &self,
        mut failures: u32,
        patience: &mut Patience,
        number: u64,
        outage: &mut Outage,
        sender: &watch::Sender<State>,
    ) -> Option<Arc<Session>> {
        let mut setback = Setback::Unready;
        loop {
            if failures > 0 {
                let wait = dial::wait(failures, setback, outage.lasted(), &self.options);
                select! {
                    () = sleep(wait) => {}
                    // The other role's connection shows that the wait is over. Only where nobody
                    // answered: two that are let in and thrown out would keep each other awake.
                    () = self.pool.reached(), if setback == Setback::Unreachable => {}
                    () = self.shutdown.cancelled() => return None,
                }
            }
            let dialled = select! {
                dialled = self.connect(number, patience.present()) => dialled,
                () = self.shutdown.cancelled() => return None,
            };
            match dialled {
                Ok(session) => return Some(session),
                Err(error) => {
                    failures = failures.saturating_add(1);
                    setback = error.setback();
                    if setback == Setback::Silence {
                        patience.ran_out();
                    }
                    if outage.failed() {
                        let (tries, lasted) = (outage.tries(), outage.lasted());
                        tracing::warn!(%error, role = ?self.role, tries, ?lasted, "cannot connect");
                    }
                    self.health.disconnected(self.role, error.to_string());
                    sender.send_replace(State::Down(error.to_string()));
                }
            }
        }
    }

    async fn connect(&self, number: u64, patience: Duration) -> Result<Arc<Session>, ConnectError> {
        let dialling = Instant::now();
        let (line, host) = self.pool.get(self.role, patience).await?;
        let session = Arc::new(self.session(line, number));
        let (dialled, restoring) = (dialling.elapsed(), Instant::now());
        if let Some(topology) = &self.topology {
            select! {
                restored = topology.restore(&session) => restored?,
                end = self.watch(&session, patience) => {
                    let host = host.to_string();
                    return Err(match end {
                        End { mute: true, .. } => ConnectError::Timeout { host, after: patience },
                        End { reason, .. } => ConnectError::Refused { host, reason },
                    });
                }
            }
        }
        let restored = restoring.elapsed();
        tracing::debug!(role = ?self.role, ?dialled, ?restored, "a connection is ready");
        Ok(session)
    }

    /// Watches a connection until it is lost, and says why it was.
    ///
    /// A doubt is looked into: whoever says nothing for as long as there is patience is given up,
    /// without waiting for heartbeats. A connection that has proven itself gets more: what it holds
    /// would come twice, and a broker may well be busy for a while.
    async fn watch(&self, session: &Session, patience: Duration) -> End {
        let status = session.line.status();
        // lapin hands each event to one listener only: this is the one.
        let mut events = Box::pin(session.line.events_listener());
        let mut look = interval(Duration::from_secs(1));
        let mut reason = "the connection was lost".to_owned();
        let mut probe: Option<BoxFuture<'_, _>> = None;
        let born = Instant::now();
        let mut probed = born;
        let new = || session.number > 0 && born.elapsed() < PROVEN;
        let proven = self.options.heartbeat.min(self.options.operation_timeout).max(patience);
        while status.connected() {
            let probing = probe.is_some();
            let mut answered = OptionFuture::from(probe.as_mut());
            select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(alarm)) => {
                        let alarm = format!("the broker takes no messages: {alarm}");
                        self.health.blocked(self.role, Some(alarm));
                        session.blocked.store(true, Ordering::Relaxed);
                        // It answers nothing now.
                        probe = None;
                    }
                    Some(Event::ConnectionUnblocked) => {
                        self.health.blocked(self.role, None);
                        session.blocked.store(false, Ordering::Relaxed);
                    }
                    // Comes for channels too, and a little before the status changes.
                    Some(Event::Error(error)) => {
                        reason = fault::text(&error);
                        look.reset_after(Duration::from_millis(10));
                    }
                    Some(_) => {}
                    None => break,
                },
                _ = look.tick() => {
                    if new() && probed.elapsed() >= GLANCE {
                        self.answers.doubt.raise();
                    }
                }
                Some(answer) = &mut answered => {
                    if let Err(patience) = answer {
                        session.line.cut();
                        let reason = format!("the broker said nothing for {patience:?}");
                        return End { reason, mute: true };
                    }
                    (probe, probed) = (None, Instant::now());
                }
                () = self.answers.doubt.raised(), if !probing => {
                    // A slow broker is asked once in a while, however many wait for it.
                    if probed.elapsed() >= LATE && !session.blocked.load(Ordering::Relaxed) {
                        let patience = if new() { patience } else { proven };
                        probe = Some(session.probe(patience).boxed());
                    }
                }
            }
        }
        // The cause may have arrived together with the change of status.
        while let Ok(Some(event)) = timeout(Duration::ZERO, events.next()).await {
            if let Event::Error(error) = event {
                reason = fault::text(&error);
            }
        }
        End { reason, mute: false }
    }
}

/// How a connection ended.
struct End {
    reason: String,
    /// Nothing was heard any more, and it was given up for that.
    mute: bool,
}
