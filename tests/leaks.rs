//! Nothing is left behind: memory, tasks, waiting requests, conversations, channels, consumers.
//!
//! A mix of publishes, requests (half of them cancelled or out of time) and failures runs until
//! all that grows with use has grown; then it runs on, and nothing may have grown any more.
//! `AGENTBUS_LEAKS=1000000` says how many there are on each bus, of which a quarter warms up; the
//! default is 50 000.

#[allow(dead_code, missing_docs, unreachable_pub)] // this uses a part of it
#[path = "support/messages.rs"]
mod messages;
mod vhost;

use std::{
    alloc::System,
    env, fs,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use agentbus::{
    Agent, Client, Config, Context, HandlerError, RequestError, RequestOptions, Routes, Rpc,
    Running, Runtime, Subscription, Topic,
    broker::{Broker, memory::Memory},
    message::Code,
    retry::{Backoff, RetryPolicy},
    store::{Conversations, MemoryConversations},
};
use futures::{StreamExt as _, stream};
use messages::{ASK, Answer, Event, HAPPENED, Pending, Question, THEN};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::{
    runtime::{Builder, Handle},
    time::{sleep, timeout},
};
use vhost::{Vhost, skip};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How many are on their way at a time.
const WINDOW: usize = 256;

/// How often subscribers come and go in the meantime.
const ROUNDS: usize = 20;

/// How many pieces of memory more there may be in the end: of 37 500 messages, one of a hundred
/// that left something behind would show.
const MORE_PIECES: isize = 300;

/// How many bytes more: buffers still find their size, most of all those of sockets.
const MORE_BYTES: isize = 2 << 20;

/// How much more of the machine the process may take; an allocator gives back as it likes.
const MORE_RESIDENT: isize = 48 << 20;

/// How long it may take until nothing is on its way any more.
const QUIET: Duration = Duration::from_mins(1);

const ASKS: Topic<Event> = Topic::new("test.asks");
const FAILS: Topic<Event> = Topic::new("test.fails");
const LOGGED: Topic<Event> = Topic::new("test.logged");
const NEVER: Rpc<Question, Answer> = Rpc::new("test.never");

/// Answers, or does not.
struct Clerk;

impl Agent for Clerk {
    fn name(&self) -> &'static str {
        "clerk"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(ASK, Self::answer).on(NEVER, Self::never)
    }
}

impl Clerk {
    async fn answer(&self, asked: Question, _: &Context) -> Result<Answer, HandlerError> {
        match asked.number % 3 {
            0 => Err(HandlerError::reply(Code::NotFound, "no such thing")),
            _ => Ok(Answer { text: asked.text }),
        }
    }

    /// Ends by the deadline of the request.
    async fn never(&self, _: Question, _: &Context) -> Result<Answer, HandlerError> {
        std::future::pending().await
    }
}

/// Handles, asks later, and fails.
struct Worker {
    answered: Arc<AtomicU64>,
}

impl Agent for Worker {
    fn name(&self) -> &'static str {
        "worker"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new()
            .on(HAPPENED, Self::happened)
            .on(ASKS, Self::asks)
            .on(FAILS, Self::fails)
            .on_reply(THEN, Self::then)
    }
}

impl Worker {
    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn asks(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        let question = question(event.number);
        ctx.request_later(THEN, &question, &Pending { number: event.number }).await?;
        Ok(())
    }

    async fn then(
        &self,
        _: Result<Answer, RequestError>,
        _: Pending,
        _: &Context,
    ) -> Result<(), HandlerError> {
        self.answered.fetch_add(1, Relaxed);
        Ok(())
    }

    /// One of ten is tried again before it is a dead letter.
    async fn fails(&self, event: Event, _: &Context) -> Result<(), HandlerError> {
        match event.number % 100 {
            0..10 => Err(std::io::Error::other("not today").into()),
            _ => Err(HandlerError::reject("not ever")),
        }
    }
}

fn question(number: u32) -> Question {
    Question { text: "how much is it?".to_owned(), number }
}

/// Does one thing of the mix.
async fn one(client: &Client, number: u32) {
    let event = Event { number };
    let soon = RequestOptions::default().timeout(Duration::from_millis(20));
    match number % 10 {
        0..=2 => drop(client.publish(HAPPENED, &event).await.unwrap()),
        3 => drop(client.publish(ASKS, &event).await.unwrap()),
        // Numbers of its own, so that all ways to fail are taken.
        4 | 5 => drop(client.publish(FAILS, &Event { number: number / 10 }).await.unwrap()),
        6 | 7 => match client.request(ASK, &question(number)).await {
            Ok(_) => assert_ne!(number % 3, 0),
            Err(RequestError::Replied { .. }) => assert_eq!(number % 3, 0),
            Err(error) => panic!("{error}"),
        },
        8 => {
            let ended = client.request_with(NEVER, &question(number), soon).await;
            assert!(matches!(ended, Err(RequestError::TimedOut { .. })), "{ended:?}");
        }
        _ => {
            // Dropped before it is sent, on its way, or while the answer is awaited.
            let patience = Duration::from_micros(u64::from(number % 70) * 50);
            let question = question(number);
            let request = client.request_with(NEVER, &question, soon);
            drop(timeout(patience, request).await);
        }
    }
}

async fn mix(client: &Client, numbers: Range<u32>) {
    // lapin keeps some 40 bytes of every channel that ever was, and each declaring opens one; so
    // there are as many rounds however many numbers there are.
    let round = numbers.len() / ROUNDS + 1;
    for start in numbers.clone().step_by(round) {
        let some = start..numbers.end.min(start + u32::try_from(round).unwrap());
        stream::iter(some).for_each_concurrent(WINDOW, |number| one(client, number)).await;
        subscribe(client, 2).await;
    }
}

/// Subscribers come and go.
async fn subscribe(client: &Client, count: usize) {
    let mut subscribers = Vec::new();
    for _ in 0..count {
        let subscription = Subscription::from(LOGGED).queue("log");
        subscribers.push(client.subscribe(subscription).await.unwrap());
    }
    client.publish(LOGGED, &Event { number: 0 }).await.unwrap();
    let received = subscribers.iter_mut().map(|subscriber| Box::pin(subscriber.next()));
    let (event, _, _) = timeout(QUIET, futures::future::select_all(received)).await.unwrap();
    event.unwrap().ack();
}

/// What there is of everything that could be left behind.
#[derive(Clone, Copy, Debug)]
struct Holdings {
    bytes: isize,
    pieces: isize,
    resident: isize,
    tasks: usize,
}

impl Holdings {
    fn now() -> Self {
        let stats = ALLOCATOR.stats();
        let less = |these: usize, those: usize| these.cast_signed() - those.cast_signed();
        Self {
            bytes: less(stats.bytes_allocated, stats.bytes_deallocated),
            pieces: less(stats.allocations, stats.deallocations),
            resident: resident(),
            tasks: Handle::current().metrics().num_alive_tasks(),
        }
    }
}

/// Bytes of memory that this process has; 0 where the system does not tell.
fn resident() -> isize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<isize>().ok());
    kib.unwrap_or(0) * 1024
}

/// The bus under load.
struct Load {
    client: Client,
    agents: Running,
    store: Arc<MemoryConversations>,
    answered: Arc<AtomicU64>,
    buried: Arc<AtomicU64>,
}

impl Load {
    async fn start(broker: Arc<dyn Broker>) -> Self {
        let mut config = Config::default();
        config.prefetch = 256;
        // A request or conversation that is never forgotten takes the room of another.
        config.max_pending_replies = 2 * WINDOW;
        let store = Arc::new(MemoryConversations::new(20 * WINDOW, Duration::from_mins(5)));
        let client = Client::with_config(broker, config);
        let (answered, buried) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let again = Backoff::constant(Duration::from_millis(250));
        let agents = Runtime::new(client.clone())
            .retry(RetryPolicy::attempts(2).with_backoff(again))
            .conversations(store.clone())
            .agent(Clerk)
            .agent(Worker { answered: answered.clone() })
            .start()
            .await
            .unwrap();
        take_out(&client, "worker.dlq", buried.clone()).await;
        // What ran out of time in the hands of the clerk.
        take_out(&client, "clerk.dlq", Arc::default()).await;
        Self { client, agents, store, answered, buried }
    }

    /// Waits until all of `numbers` have come to an end, and returns what there is then.
    async fn quiet(&self, numbers: u32) -> Holdings {
        let tens = u64::from(numbers / 10);
        let mut last = String::new();
        let quiet = timeout(QUIET, async {
            loop {
                let (worker, clerk) = (self.agents.counts("worker"), self.agents.counts("clerk"));
                let (answered, buried) = (self.answered.load(Relaxed), self.buried.load(Relaxed));
                let waiting = self.store.count().await.unwrap();
                last = format!(
                    "{answered} answered, {buried} buried, {waiting} waiting, {worker:?}, {clerk:?}"
                );
                let all = answered == tens && buried == 2 * tens && waiting == 0;
                let queues = stream::iter(["worker", "clerk", "worker.dlq", "clerk.dlq"]);
                if all && queues.all(|queue| self.is_idle(queue)).await {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(quiet.await.is_ok(), "not quiet after {numbers}: {last}");
        // What has ended by then is dropped a moment later.
        let mut least = Holdings::now();
        for _ in 0..20 {
            sleep(Duration::from_millis(20)).await;
            let now = Holdings::now();
            if now.bytes < least.bytes {
                least = now;
            }
        }
        least
    }

    async fn is_idle(&self, queue: &str) -> bool {
        let stats = self.client.broker().stats(queue).await.unwrap();
        stats.ready == 0 && stats.unsettled.unwrap_or(0) == 0
    }
}

/// Takes dead letters out and counts them.
async fn take_out(client: &Client, queue: &str, count: Arc<AtomicU64>) {
    let mut letters = client.broker().consume(queue, 256).await.unwrap();
    tokio::spawn(async move {
        while let Some(letter) = letters.next().await {
            count.fetch_add(1, Relaxed);
            letter.ack();
        }
    });
}

async fn leaves_nothing(name: &str, broker: Arc<dyn Broker>, vhost: Option<&Vhost>, total: u32) {
    let started = Instant::now();
    let load = Load::start(broker).await;
    let warm = total / 4 / 10 * 10;
    // More at a time than there will be again: their channels stay for the next ones.
    subscribe(&load.client, 8).await;
    mix(&load.client, 0..warm).await;
    let before = load.quiet(warm).await;
    let at_broker = at_the_broker(vhost).await;
    mix(&load.client, warm..total).await;
    let after = load.quiet(total).await;
    println!("{name}: {total} in {:?}; warm {before:?}, in the end {after:?}", started.elapsed());
    let mut at_broker_after = at_the_broker(vhost).await;
    for _ in 0..10 {
        if at_broker_after == at_broker {
            break;
        }
        sleep(Duration::from_millis(500)).await;
        at_broker_after = at_the_broker(vhost).await;
    }
    assert_eq!(at_broker_after, at_broker, "{name}: channels and consumers");
    println!("{name}: channels and consumers {at_broker_after:?}");
    let grown = |what: &str, by: isize, most: isize| {
        assert!(by <= most, "{name}: {by} {what} more after {total} than after {warm}");
    };
    grown("tasks", after.tasks.cast_signed() - before.tasks.cast_signed(), 0);
    // A leak costs at least a pointer each time; buffers that follow a peak cost less.
    let pointers = isize::try_from((total - warm) as usize * size_of::<usize>()).unwrap();
    grown("bytes", after.bytes - before.bytes, MORE_BYTES.max(pointers));
    grown("pieces of memory", after.pieces - before.pieces, MORE_PIECES);
    grown("bytes of the machine", after.resident - before.resident, MORE_RESIDENT);
    load.agents.stop().await;
    load.client.close().await;
}

/// How many channels there are in a virtual host, and how many consumers on them.
async fn at_the_broker(vhost: Option<&Vhost>) -> (usize, usize) {
    let Some(vhost) = vhost else { return (0, 0) };
    (vhost.channels().await, vhost.consumers().await)
}

#[test]
fn nothing_is_left_behind() {
    let total = env::var("AGENTBUS_LEAKS").map_or(50_000, |count| count.parse().expect("a number"));
    let total: u32 = total / 10 * 10;
    // Each bus has a runtime of its own, so that all its tasks can be counted.
    let runtime = || Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime().block_on(leaves_nothing("memory", Arc::new(Memory::default()), None, total));
    runtime().block_on(async {
        let Some(vhost) = skip(Vhost::alone().await) else { return };
        let bus = Arc::new(vhost.connect().await);
        leaves_nothing("rabbitmq", bus, Some(&vhost), total).await;
        assert_eq!(vhost.connections().await, 0, "a connection stayed open");
    });
}
