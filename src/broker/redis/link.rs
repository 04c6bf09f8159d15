//! The connections that are kept: watched, and dialled again when they are lost.

use std::{sync::Arc, time::Duration};

use redis::FromRedisValue;
use tokio::{
    select,
    sync::{Notify, watch},
    time::{Instant, interval, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    ConnectError, RedisOptions,
    call::Call,
    dial::{self, Setback},
    fault::Fault,
    find::Finder,
    health::HealthBoard,
    session::{Role, Session},
    wake_up::{Bell, Bells},
};
use crate::broker::{Product, outage::Outage, patience::Patience};

/// How long a connection must live so that dialling anew at once hammers nobody.
const SETTLED: Duration = Duration::from_secs(2);

/// How long it must live to count as one that works.
const PROVEN: Duration = Duration::from_secs(10);

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How often a server that takes no messages is asked whether it does again.
const BLOCKED: Duration = Duration::from_secs(1);

/// Longest wait between two tries of a call.
const AGAIN: Duration = Duration::from_millis(500);

/// When a call that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Where it certainly did nothing.
    Undone,
    /// Also where it may have been carried out: twice does no harm.
    Harmless,
}

/// Where those who call the server, or wait for it, do so.
#[derive(Debug)]
pub(super) struct Link {
    options: Arc<RedisOptions>,
    calls: watch::Receiver<State>,
    wake_ups: watch::Receiver<State>,
    bells: Bells,
    health: Arc<HealthBoard>,
    /// Tells the keeper of the calls that the server takes no messages.
    blocked: Arc<Notify>,
    shutdown: CancellationToken,
}

#[derive(Clone, Debug)]
enum State {
    Up(Arc<Session>),
    Down(String),
    Closed,
}

impl Link {
    /// Connects: each host is tried once. Later on, lost connections are dialled again without end.
    pub(super) async fn open(
        options: RedisOptions,
        health: Arc<HealthBoard>,
    ) -> Result<Self, ConnectError> {
        options.check()?;
        let (options, bells, shutdown) =
            (Arc::new(options), Bells::default(), CancellationToken::new());
        let finder = Arc::new(Finder::new(options.clone(), bells.clone()));
        let blocked = Arc::new(Notify::new());
        let patience = options.connect_timeout;
        let calls = finder.connect(Role::Calls, 0, patience).await?;
        let wake_ups = finder.connect(Role::WakeUps, 0, patience).await?;
        tracing::debug!(host = %calls.host, product = ?calls.product, "connected to Redis");
        let keeper = |role| Keeper {
            role,
            options: options.clone(),
            finder: finder.clone(),
            bells: bells.clone(),
            health: health.clone(),
            blocked: blocked.clone(),
            shutdown: shutdown.clone(),
        };
        let calls = keeper(Role::Calls).keep(calls);
        let wake_ups = keeper(Role::WakeUps).keep(wake_ups);
        Ok(Self { options, calls, wake_ups, bells, health, blocked, shutdown })
    }

    /// Runs a script, and waits for a connection and for the answer, together for `limit`.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        limit: Duration,
        call: &Call<'_>,
    ) -> Result<T, Fault> {
        let deadline = Instant::now() + limit;
        let session = match timeout_at(deadline, self.session()).await {
            Ok(session) => session?,
            Err(_) => return Err(Fault::Down(self.trouble())),
        };
        let answer = select! {
            biased;
            answer = timeout_at(deadline, session.run(call)) => answer,
            // What is known of the end tells more than that there is no answer.
            reason = session.ended() => Ok(Err(Fault::Lost(reason))),
        };
        let fault = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::Timeout(limit),
        };
        if fault.is_elsewhere() {
            session.dismiss(fault.to_string());
        } else if fault.is_blockage() {
            self.health.blocked(Some(fault.to_string()));
            self.blocked.notify_one();
        }
        Err(fault)
    }

    /// Runs a script until it has an answer, for at most `limit`; between two tries is a pause.
    ///
    /// # Errors
    ///
    /// Returns the last fault, and one that leaves open whether the call was carried out rather than
    /// one that does not.
    pub(super) async fn call_until<T: FromRedisValue>(
        &self,
        limit: Duration,
        again: Again,
        call: &Call<'_>,
    ) -> Result<T, Fault> {
        let deadline = Instant::now() + limit;
        let (mut pause, mut open) = (Duration::from_millis(10), None);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let fault = match self.call(left, call).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let tried_again = fault.is_passing() && (again == Again::Harmless || fault.is_undone());
            let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            if !fault.is_undone() {
                open = Some(fault.clone());
            }
            if !tried_again || Instant::now() + wait >= deadline {
                return Err(open.unwrap_or(fault));
            }
            sleep(wait).await;
            pause = (2 * pause).min(AGAIN);
        }
    }

    async fn session(&self) -> Result<Arc<Session>, Fault> {
        let mut state = self.calls.clone();
        let state = state.wait_for(|state| !matches!(state, State::Down(_))).await;
        match state.as_deref() {
            Ok(State::Up(session)) => Ok(session.clone()),
            _ => Err(Fault::Closed),
        }
    }

    /// Listens for a name, such as a queue's; after each loss of the connection all bells ring.
    pub(super) fn listen(&self, name: &str) -> Bell {
        self.bells.listen(name)
    }

    /// Counts the connections for calls: what a lost one knew is to be told again.
    pub(super) fn number(&self) -> Option<u64> {
        match &*self.calls.borrow() {
            State::Up(session) => Some(session.number),
            _ => None,
        }
    }

    /// Waits until there is a connection for calls other than `number`, and returns its number.
    pub(super) async fn renewed(&self, number: Option<u64>) -> Result<u64, Fault> {
        let mut state = self.calls.clone();
        let other = |state: &State| match state {
            State::Up(session) => Some(session.number) != number,
            State::Down(_) => false,
            State::Closed => true,
        };
        match state.wait_for(other).await.as_deref() {
            Ok(State::Up(session)) => Ok(session.number),
            _ => Err(Fault::Closed),
        }
    }

    /// Returns what the server calls itself.
    pub(super) fn product(&self) -> Option<Product> {
        match &*self.calls.borrow() {
            State::Up(session) => session.product.clone(),
            _ => None,
        }
    }

    /// Says what keeps the connection down.
    pub(super) fn trouble(&self) -> String {
        match &*self.calls.borrow() {
            State::Up(_) => "Redis does not answer".to_owned(),
            State::Down(reason) => format!("no connection to Redis: {reason}"),
            State::Closed => "the bus is closed".to_owned(),
        }
    }

    /// Closes both connections, once what was asked is answered; a second call does nothing.
    pub(super) async fn close(&self) {
        self.shutdown.cancel();
        let ended = |state: &watch::Receiver<State>| {
            let mut state = state.clone();
            async move { drop(state.wait_for(|state| matches!(state, State::Closed)).await) }
        };
        let both = async { tokio::join!(ended(&self.calls), ended(&self.wake_ups)) };
        drop(timeout(2 * self.options.connect_timeout, both).await);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// What it takes to keep a connection.
struct Keeper {
    role: Role,
    options: Arc<RedisOptions>,
    finder: Arc<Finder>,
    bells: Bells,
    health: Arc<HealthBoard>,
    blocked: Arc<Notify>,
    shutdown: CancellationToken,
}

/// How a connection ended.
struct End {
    reason: String,
    /// Nothing was heard any more, and it was given up for that.
    mute: bool,
}

impl Keeper {
    /// Keeps `session` and its successors until shutdown.
    fn keep(self, session: Session) -> watch::Receiver<State> {
        let session = Arc::new(session);
        let (sender, state) = watch::channel(State::Up(session.clone()));
        self.report(&session);
        tokio::spawn(self.run(session, sender));
        state
    }

    fn report(&self, session: &Session) {
        self.health.connected(self.role);
        if self.role == Role::Calls {
            self.health.blocked(session.blockage.clone());
            if session.blockage.is_some() {
                self.blocked.notify_one();
            }
        }
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
            tracing::warn!(role = ?self.role, reason = end.reason, "lost the connection to Redis");
            if end.mute {
                // Whoever waits for an answer on it learns of it now.
                session.cut(end.reason.clone());
            }
            self.health.disconnected(self.role, end.reason.clone());
            sender.send_replace(State::Down(end.reason));
            drop(session);
            // A peer that lets us in and throws us out again must not be hammered either.
            short_lived = if born.elapsed() >= SETTLED { 0 } else { short_lived.saturating_add(1) };
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
            session = Arc::new(next);
            let (tries, lasted) = (outage.tries(), outage.lasted());
            tracing::info!(role = ?self.role, failed = tries, after = ?lasted, "connected to Redis again");
            self.report(&session);
            sender.send_replace(State::Up(session.clone()));
            // What was said meanwhile was not heard; and what could not be done can be.
            self.bells.ring_all();
        };
        if let Some(session) = last {
            session.close(self.options.connect_timeout).await;
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
    ) -> Option<Session> {
        let mut setback = Setback::Unready;
        loop {
            if failures > 0 {
                let wait = dial::wait(failures, setback, outage.lasted(), &self.options);
                select! {
                    () = sleep(wait) => {}
                    // The other connection shows that the wait is over.
                    () = self.finder.reached(), if setback == Setback::Unreachable => {}
                    () = self.shutdown.cancelled() => return None,
                }
            }
            let dialled = select! {
                dialled = self.finder.connect(self.role, number, patience.present()) => dialled,
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
                        tracing::warn!(%error, role = ?self.role, tries, ?lasted, "cannot connect to Redis");
                    }
                    self.health.disconnected(self.role, error.to_string());
                    sender.send_replace(State::Down(error.to_string()));
                }
            }
        }
    }

    /// Watches a connection until it is lost, and says why it was.
    ///
    /// Whoever is asked and says nothing for as long as there is patience is given up: what a lost
    /// connection had claimed stays claimed, so that dialling again costs little.
    async fn watch(&self, session: &Session, patience: Duration) -> End {
        let mut silence = session.watch();
        let mut look = interval(LOOK);
        loop {
            select! {
                reason = session.useless() => return End { reason, mute: false },
                () = self.blocked.notified(), if self.role == Role::Calls => {
                    if let Some(end) = self.unblock(session, patience).await {
                        return end;
                    }
                    silence = session.watch();
                }
                _ = look.tick() => {
                    let (overdue, silent) = silence.look();
                    if overdue >= patience {
                        return mute(patience);
                    }
                    // Where an answer is awaited already, another question would only take longer.
                    if silent >= self.options.heartbeat && overdue.is_zero() {
                        match timeout(patience, session.ping()).await {
                            Ok(_) => silence = session.watch(),
                            Err(_) => return mute(patience),
                        }
                    }
                }
            }
        }
    }

    /// Asks until the server takes messages again; returns an end where the connection does.
    async fn unblock(&self, session: &Session, patience: Duration) -> Option<End> {
        loop {
            let probed = select! {
                probed = timeout(patience, session.probe()) => probed,
                reason = session.useless() => return Some(End { reason, mute: false }),
            };
            match probed {
                Err(_) => return Some(mute(patience)),
                Ok(Err(fault)) if fault.is_blockage() => {
                    self.health.blocked(Some(fault.to_string()));
                }
                Ok(Err(fault)) if fault.is_elsewhere() => {
                    return Some(End { reason: fault.to_string(), mute: false });
                }
                // Another fault says nothing about memory or disk.
                Ok(_) => {
                    self.health.blocked(None);
                    self.bells.ring_all();
                    return None;
                }
            }
            select! {
                () = sleep(BLOCKED) => {}
                reason = session.useless() => return Some(End { reason, mute: false }),
            }
        }
    }
}

fn mute(patience: Duration) -> End {
    End { reason: format!("Redis said nothing for {patience:?}"), mute: true }
}

#[cfg(test)]
mod tests;
