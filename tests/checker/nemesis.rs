//! The nemesis: breaks one thing after another, and waits until service is back.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use super::{
    engine::Engine,
    ledger::Ledger,
    log::now,
    readers::Reader,
    support::relay::{Cut, Relay, Side},
};

/// How long service may stay away: what takes longer hangs.
const HANG: Duration = Duration::from_mins(1);

/// Something that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The broker stops in good order and starts again.
    RestartBroker,
    /// The broker's process is killed and started again.
    KillBroker,
    /// The broker closes all connections.
    CloseConnections,
    /// Connections end, or are reset.
    Finish,
    Reset,
    /// No bytes pass for a while.
    Stall,
    /// The broker's side, or ours, vanishes without a word.
    HalfOpenHere,
    HalfOpenThere,
    /// Connections are reset, and new ones refused for a while.
    Refuse,
    /// A reader is killed in the middle of its work.
    KillReader,
    /// A reader is stopped in good order.
    StopReader,
    /// The broker is out of memory for a while.
    Alarm,
}

impl Fault {
    pub const ALL: [Self; 12] = [
        Self::RestartBroker,
        Self::KillBroker,
        Self::CloseConnections,
        Self::Finish,
        Self::Reset,
        Self::Stall,
        Self::HalfOpenHere,
        Self::HalfOpenThere,
        Self::Refuse,
        Self::KillReader,
        Self::StopReader,
        Self::Alarm,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::RestartBroker => "restart the broker",
            Self::KillBroker => "kill -9 the broker",
            Self::CloseConnections => "close all connections",
            Self::Finish => "end connections",
            Self::Reset => "reset connections",
            Self::Stall => "stall",
            Self::HalfOpenHere => "half-open, broker gone",
            Self::HalfOpenThere => "half-open, client gone",
            Self::Refuse => "refuse dials",
            Self::KillReader => "kill -9 a reader",
            Self::StopReader => "stop a reader",
            Self::Alarm => "out of memory",
        }
    }

    /// Tells whether only heartbeats show it, so that it takes as long as they do.
    pub fn is_silent(self) -> bool {
        self == Self::HalfOpenHere
    }
}

/// What became of one fault. Times in microseconds since the epoch.
#[derive(Clone, Debug)]
pub struct Blow {
    pub fault: Fault,
    pub at: u64,
    /// Since when the broker accepts connections again.
    pub healed: u64,
    /// How long after that each could publish, or hear what was published then.
    pub back: Vec<(String, Option<u64>)>,
    /// Readers that did not work on what was published after it.
    pub idle: Vec<usize>,
}

/// All that can be broken.
pub struct Nemesis {
    pub engine: Engine,
    /// Of the writers, and then of each reader.
    pub relays: Vec<Relay>,
    pub readers: Vec<Reader>,
    pub ledger: Arc<Ledger>,
    pub rng: Rng,
}

impl Nemesis {
    /// Breaks something, heals it, and waits until service is back.
    pub async fn strike(&mut self, fault: Fault) -> Blow {
        let at = now();
        let healed = match fault {
            Fault::RestartBroker => {
                self.engine.stop().await;
                let accepts = self.watch();
                self.engine.start().await;
                accepts.await.expect("nobody ends it")
            }
            Fault::KillBroker => {
                self.engine.kill().await;
                let accepts = self.watch();
                self.engine.boot().await;
                accepts.await.expect("nobody ends it")
            }
            Fault::CloseConnections => {
                self.engine.close_connections().await;
                now()
            }
            Fault::Finish => self.on_relays(|relay| relay.cut(Cut::Finish)),
            Fault::Reset => self.on_relays(|relay| relay.cut(Cut::Reset)),
            Fault::Stall => {
                self.on_relays(Relay::stall);
                sleep(self.between(500, 6000)).await;
                self.relays.iter().for_each(Relay::resume);
                now()
            }
            Fault::HalfOpenHere => self.on_relays(|relay| relay.half_open(Side::Client)),
            Fault::HalfOpenThere => self.on_relays(|relay| relay.half_open(Side::Server)),
            Fault::Refuse => {
                for relay in &self.relays {
                    relay.refuse(true).await;
                    relay.cut(Cut::Reset);
                }
                sleep(self.between(500, 4000)).await;
                for relay in &self.relays {
                    relay.refuse(false).await;
                }
                now()
            }
            Fault::KillReader => {
                let reader = self.rng.usize(..self.readers.len());
                self.kill_at_work(reader).await;
                self.readers[reader].again();
                now()
            }
            Fault::StopReader => {
                let at = self.rng.usize(..self.readers.len());
                let reader = &mut self.readers[at];
                self.ledger.stopped(reader.run);
                reader.stop().await;
                reader.again();
                now()
            }
            Fault::Alarm => {
                self.engine.raise_alarm().await;
                sleep(self.between(1000, 4000)).await;
                self.engine.clear_alarm().await;
                now()
            }
        };
        let mut blow = Blow { fault, at, healed, back: Vec::new(), idle: Vec::new() };
        self.wait_for_service(&mut blow).await;
        blow
    }

    /// Watches for the broker to accept connections; when that was, is the result.
    fn watch(&self) -> tokio::task::JoinHandle<u64> {
        let address = self.engine.address();
        tokio::spawn(async move {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
            now()
        })
    }

    /// Does something to all relays, or to one of them.
    fn on_relays(&mut self, what: impl Fn(&Relay)) -> u64 {
        if self.rng.bool() {
            self.relays.iter().for_each(what);
        } else {
            what(&self.relays[self.rng.usize(..self.relays.len())]);
        }
        now()
    }

    /// Kills a reader with a handler at work: it is frozen first, so that it is sure.
    async fn kill_at_work(&mut self, reader: usize) {
        let reader = &mut self.readers[reader];
        let started = Instant::now();
        loop {
            reader.freeze();
            // Meanwhile all that it has logged is read.
            sleep(Duration::from_millis(100)).await;
            if self.ledger.at_work(reader.run) > 0 || started.elapsed() > HANG {
                break;
            }
            reader.thaw();
            sleep(Duration::from_millis(20)).await;
        }
        self.ledger.killed(reader.run);
        reader.kill().await;
    }

    fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.rng.u64(least..most))
    }

    /// Waits until all publish and hear again, for a minute at most.
    async fn wait_for_service(&self, blow: &mut Blow) {
        let started = Instant::now();
        let since = blow.healed;
        loop {
            let readers = 0..self.readers.len();
            let heard = readers
                .clone()
                .map(|reader| (format!("reader {reader}"), self.ledger.hears_since(reader, since)));
            let published = ("writers".to_owned(), self.ledger.publishes_since(since));
            let back = heard.chain([published]).map(|(who, at)| (who, at.map(|at| at - since)));
            blow.back = back.collect();
            blow.idle = readers.filter(|reader| !self.ledger.works_since(*reader, since)).collect();
            let all = blow.idle.is_empty() && blow.back.iter().all(|(_, at)| at.is_some());
            if all || started.elapsed() > HANG {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}
