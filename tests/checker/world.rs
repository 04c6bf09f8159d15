//! A run: everybody started, everything broken, everything drained.

use std::{
    env, fs,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use agentbus::Client;
use fastrand::Rng;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    dead_letters,
    engine::Engine,
    history::History,
    ledger::Ledger,
    log::{self, now},
    nemesis::{Blow, Nemesis},
    plan::Plan,
    reader::Orders,
    readers::{Logs, Reader},
    slow::{WRITERS, excuses},
    support::relay::Relay,
    writers::Writer,
};

/// How long anything may take that is not expected to take time: only a hang takes longer.
const PATIENCE: Duration = Duration::from_mins(2);

/// Who takes longer to be back, in milliseconds, is asked why.
const SLOW: u64 = 2_000;

/// How often the logs are read.
const GLANCE: Duration = Duration::from_millis(10);

/// Everybody at work.
pub struct World {
    nemesis: Nemesis,
    writer: Writer,
    clients: Vec<Client>,
    logs: JoinHandle<()>,
    folder: PathBuf,
    orders: Orders,
    started: Instant,
}

impl World {
    /// Starts writers and readers on a broker.
    pub async fn start(engine: Engine, plan: &Plan) -> Self {
        let (folder, ledger) = (folder(), Arc::new(Ledger::default()));
        log::tell(fs::File::create(folder.join(WRITERS)).expect("the folder takes a file"));
        let orders = orders(&engine, "checker", plan);
        let mut relays = vec![Relay::to(engine.address()).await];
        let mut readers = Vec::new();
        for number in 0..plan.readers {
            let relay = Relay::to(engine.address()).await;
            readers.push(Reader::start(number, &behind(&engine, &orders, &relay), &folder));
            relays.push(relay);
        }
        let logs = follow(Logs::new(&folder, plan.readers), Arc::clone(&ledger));
        for reader in &readers {
            until("a reader is ready", || ledger.is_ready(reader.run)).await;
        }
        let behind = behind(&engine, &orders, &relays[0]);
        let mut clients = Vec::new();
        for _ in 0..=plan.writers {
            clients.push(behind.connect().await.expect("the broker is there"));
        }
        let writer = writer(clients[0].clone(), Arc::clone(&ledger));
        writer.tasks.spawn(writer.clone().beat());
        for (number, client) in (1..).zip(&clients[1..]) {
            let writer = Writer { client: client.clone(), ..writer.clone() };
            let write = writer.clone().write(plan.rate, plan.seed.wrapping_mul(31) + number);
            writer.tasks.spawn(write);
        }
        let rng = Rng::with_seed(plan.seed);
        let nemesis = Nemesis { engine, relays, readers, ledger, rng };
        Self { nemesis, writer, clients, logs, folder, orders, started: Instant::now() }
    }

    /// Lets everything happen that is planned.
    pub async fn suffer(&mut self, plan: &Plan, say: impl Fn(&str)) -> Vec<Blow> {
        let mut blows = Vec::new();
        for (number, fault) in plan.faults.iter().enumerate() {
            // Not all at once: the first faults would fall on little, the last on nobody.
            let due = plan.jobs * number / plan.faults.len();
            until("writers write", || self.nemesis.ledger.jobs() >= due).await;
            sleep(Duration::from_millis(self.nemesis.rng.u64(200..800))).await;
            let blow = self.nemesis.strike(*fault).await;
            let outage = (blow.healed - blow.at) / 1000;
            let back: Vec<_> = blow.back.iter().map(|(_, at)| at.map(|at| at / 1000)).collect();
            let all = (now() - blow.at) / 1000;
            say(&format!("{}: {outage} ms, back after {back:?}, in all {all}", fault.name()));
            if !fault.is_silent() {
                for excuse in excuses(&blow, SLOW, &self.folder) {
                    say(&excuse);
                }
            }
            blows.push(blow);
        }
        until("writers write", || self.nemesis.ledger.jobs() >= plan.jobs).await;
        blows
    }

    /// Waits until all that was taken has become what it was to become, and ends everything.
    pub async fn drain(self, plan: &Plan, say: impl Fn(&str)) -> (History, Duration, PathBuf) {
        let Self { mut nemesis, writer, clients, logs, folder, orders, started } = self;
        writer.stop.cancel();
        writer.tasks.close();
        let written = tokio::time::timeout(PATIENCE, writer.tasks.wait());
        written.await.expect("everything that was published has ended");

        let ledger = Arc::clone(&nemesis.ledger);
        say(&format!("every publish has ended; {} messages to go", ledger.unfinished()));
        let client = orders.connect().await.expect("the broker is there");
        let queue = |name: &str| format!("{}{name}", client.config().queue_prefix);
        let mut dead = Vec::new();
        for queue in [queue("worker.dlq"), queue("second.dlq")] {
            dead.push(dead_letters::read(&client, &queue, Arc::clone(&ledger)).await);
        }
        let (mut least, mut since) = (usize::MAX, Instant::now());
        while ledger.unfinished() > 0 && since.elapsed() < plan.patience {
            if ledger.unfinished() < least {
                (least, since) = (ledger.unfinished(), Instant::now());
            }
            sleep(GLANCE).await;
        }
        let some = ledger.some_unfinished();
        say(&format!("{} messages to go: {some:?}; waiting for empty queues", ledger.unfinished()));
        let undeliverable = format!("{}.delay.v1.undeliverable", orders.exchange);
        for queue in [queue("worker"), queue("second"), undeliverable.clone()] {
            let started = Instant::now();
            let left = loop {
                let stats = client.broker().stats(&queue).await;
                match stats {
                    Ok(stats) if stats.ready == 0 || started.elapsed() > PATIENCE / 4 => {
                        break stats.ready;
                    }
                    Err(error) if started.elapsed() > PATIENCE / 4 => panic!("{error}"),
                    _ => sleep(Duration::from_millis(100)).await,
                }
            };
            if left > 0 {
                ledger.left(queue, left);
            }
        }
        let mut queues = ["worker", "second", "worker.dlq", "second.dlq"].map(queue).to_vec();
        queues.push(undeliverable);
        look_for_litter(&nemesis.engine, &orders.exchange, &queues, &ledger).await;
        say("drained; stopping the readers");
        for reader in &mut nemesis.readers {
            reader.stop().await;
        }
        // What was written last is read, too.
        sleep(10 * GLANCE).await;
        logs.abort();
        dead.iter().for_each(JoinHandle::abort);
        for client in clients.iter().chain([&client]) {
            client.close().await;
        }
        let remains = nemesis.engine.remains();
        drop(nemesis);
        assert!(!remains.are_there(), "the broker is gone");
        (ledger.history(), started.elapsed(), folder)
    }
}

/// Has a reader that acks before it works, kills it, and returns what came of it.
pub async fn careless(engine: &Engine, plan: &Plan) -> History {
    let (folder, ledger) = (folder(), Arc::new(Ledger::default()));
    let orders = Orders { careless: true, ..orders(engine, "careless", plan) };
    let mut reader = Reader::start(0, &orders, &folder);
    let logs = follow(Logs::new(&folder, 1), Arc::clone(&ledger));
    until("a reader is ready", || ledger.is_ready(reader.run)).await;
    let client = orders.connect().await.expect("the broker is there");
    // They take long enough for somebody to be killed before they are done.
    writer(client.clone(), Arc::clone(&ledger)).write_plain(20, 3_600_000).await;
    until("work has begun", || ledger.at_work(reader.run) == 20).await;
    reader.kill().await;
    reader.again();
    until("a reader is ready", || ledger.is_ready(reader.run)).await;
    reader.stop().await;
    logs.abort();
    client.close().await;
    drop(fs::remove_dir_all(&folder));
    ledger.history()
}

fn writer(client: Client, ledger: Arc<Ledger>) -> Writer {
    let (next, stop) = (Arc::new(AtomicU64::new(1)), CancellationToken::new());
    Writer { client, ledger, next, stop, tasks: TaskTracker::new() }
}

fn orders(engine: &Engine, exchange: &str, plan: &Plan) -> Orders {
    Orders {
        url: engine.url(engine.address()),
        exchange: exchange.to_owned(),
        heartbeat: 2,
        lease: plan.lease,
        log: PathBuf::new(),
        careless: false,
    }
}

fn behind(engine: &Engine, orders: &Orders, relay: &Relay) -> Orders {
    Orders { url: engine.url(relay.address()), ..orders.clone() }
}

fn folder() -> PathBuf {
    let folder =
        env::temp_dir().join(format!("agentbus-checker-{}", uuid::Uuid::now_v7().simple()));
    fs::create_dir(&folder).expect("a folder can be made");
    folder
}

/// Waits until empty queues are nothing but empty.
async fn look_for_litter(engine: &Engine, exchange: &str, queues: &[String], ledger: &Ledger) {
    let started = Instant::now();
    loop {
        let litter = engine.litter(exchange, queues).await;
        if litter.is_empty() || started.elapsed() > PATIENCE / 4 {
            return litter.into_iter().for_each(|key| ledger.left(key, 1));
        }
        sleep(GLANCE).await;
    }
}

/// Reads logs into the ledger until it is aborted.
fn follow(mut logs: Logs, ledger: Arc<Ledger>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            ledger.read(logs.read());
            sleep(GLANCE).await;
        }
    })
}

async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let started = Instant::now();
    while !check() {
        // The long run writes for minutes.
        assert!(started.elapsed() < 15 * PATIENCE, "still waiting until {what}");
        sleep(GLANCE).await;
    }
}
