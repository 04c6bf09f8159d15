//! What agentbus costs on Redis, beside the same scripts called by the bare client, in one run.
//!
//! `cargo bench --features redis --bench redis` publishes and handles 256-byte messages in turn, with
//! a window and a prefetch of 256, and prints medians and their ratios. Redis is the one at
//! `REDIS_URL`, or on this machine. `-- memory` measures what a backlog costs instead.

#![allow(missing_docs)]
#![allow(clippy::cast_precision_loss)] // figures are rounded anyway

use std::{
    env,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use agentbus::{Agent, Client, Config, Context, HandlerError, Routes, Runtime, Topic};
use futures::{StreamExt as _, stream};
use redis::{Script, aio::MultiplexedConnection};
use tokio::sync::Notify;

const MESSAGES: usize = 100_000;
const ROUNDS: usize = 5;
const AT_ONCE: usize = 256;
const BYTES: usize = 256;

static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("../src/broker/redis/lua/queue.lua"),
        include_str!("../src/broker/redis/lua/publish.lua")
    ))
});
static TURN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("../src/broker/redis/lua/queue.lua"),
        include_str!("../src/broker/redis/lua/leases.lua"),
        include_str!("../src/broker/redis/lua/turn.lua")
    ))
});

#[derive(Clone, PartialEq, prost::Message)]
struct Sample {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(bytes = "bytes", tag = "2")]
    body: bytes::Bytes,
}

impl prost::Name for Sample {
    const NAME: &'static str = "Sample";
    const PACKAGE: &'static str = "bench.v1";
}

const SAMPLE: Topic<Sample> = Topic::new("bench.sample");

struct Counter(Arc<Count>);

struct Count {
    left: AtomicUsize,
    done: Notify,
}

impl Agent for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(SAMPLE, Self::count)
    }
}

impl Counter {
    async fn count(&self, sample: Sample, _: &Context) -> Result<(), HandlerError> {
        std::hint::black_box(sample);
        if self.0.left.fetch_sub(1, Relaxed) == 1 {
            self.0.done.notify_one();
        }
        Ok(())
    }
}

/// A bus of this run's own, and the bare client beside it.
struct Bed {
    config: Config,
    client: Client,
    bare: MultiplexedConnection,
}

impl Bed {
    async fn new() -> Self {
        let url = env::var("REDIS_URL").unwrap_or("redis://127.0.0.1:6379".to_owned());
        let mut config = Config::default();
        config.bus = url.parse().expect("an address of Redis");
        config.exchange = format!("agentbus-bench-{:08x}", fastrand::u32(..));
        config.discovery = false;
        config.prefetch = u16::try_from(AT_ONCE).expect("it is small");
        config.max_queue_length = 10_000_000;
        let client = Client::connect(config.clone()).await.expect("Redis is there");
        let bare = redis::Client::open(url).expect("an address of Redis");
        let bare = bare.get_multiplexed_async_connection().await.expect("Redis is there");
        Self { config, client, bare }
    }

    fn key(&self, rest: &str) -> String {
        format!("agentbus:{{{}}}:{rest}", self.config.exchange)
    }

    fn keys(&self) -> [String; 2] {
        [self.key("epoch"), self.key("wake:0")]
    }

    /// Declares the agent's queue, and leaves it without a consumer.
    async fn declare(&self) {
        let count = Arc::new(Count { left: AtomicUsize::new(0), done: Notify::new() });
        let agents = Runtime::new(self.client.clone()).agent(Counter(count));
        agents.start().await.expect("the agent starts").stop().await;
    }

    /// Publishes this many, and returns how many a second.
    async fn publish(&self, messages: usize) -> f64 {
        let body = bytes::Bytes::from(vec![0x5a; BYTES - 8]);
        let started = Instant::now();
        let publishes = stream::iter(0..messages as u64).map(|number| {
            let sample = Sample { number, body: body.clone() };
            async move { self.client.publish(SAMPLE, &sample).await.expect("it is taken") }
        });
        publishes.buffer_unordered(AT_ONCE).for_each(async |_| {}).await;
        rate(messages, started)
    }

    /// The same, with the same bytes, by the bare client.
    async fn publish_bare(&self) -> f64 {
        self.publish(1).await;
        let (queue, mut bare) = (self.key("w0:counter"), self.bare.clone());
        let mut command = redis::cmd("RPOP");
        let record: Vec<u8> = command.arg(queue).query_async(&mut bare).await.expect("it is there");
        let mut epoch = redis::cmd("GET");
        let epoch: String = epoch.arg(self.key("epoch")).query_async(&mut bare).await.expect("one");
        let mut call = redis::cmd("EVALSHA");
        call.arg(PUBLISH.get_hash()).arg(2).arg(&self.keys());
        call.arg(epoch).arg(1).arg(5).arg(record).arg(1).arg("counter");
        let started = Instant::now();
        let publishes = stream::iter(0..MESSAGES).map(|_| {
            // Written anew for each, as messages are not the same.
            let (call, mut bare) = (call.clone(), self.bare.clone());
            async move {
                let taken: Vec<i64> = call.query_async(&mut bare).await.expect("an answer");
                assert_eq!(taken, [1]);
            }
        });
        publishes.buffer_unordered(AT_ONCE).for_each(async |()| {}).await;
        rate(MESSAGES, started)
    }

    /// Handles what is there, and returns how many a second.
    async fn handle(&self) -> f64 {
        let count = Arc::new(Count { left: AtomicUsize::new(MESSAGES), done: Notify::new() });
        let started = Instant::now();
        let agents = Runtime::new(self.client.clone()).agent(Counter(count.clone()));
        let agents = agents.start().await.expect("the agent starts");
        count.done.notified().await;
        let rate = rate(MESSAGES, started);
        agents.stop().await;
        rate
    }

    /// The same at the port, without an agent.
    async fn drain(&self) -> f64 {
        let started = Instant::now();
        let prefetch = u16::try_from(AT_ONCE).expect("it is small");
        let broker = self.client.broker();
        let mut deliveries = broker.consume("counter", prefetch).await.expect("it is there");
        for _ in 0..MESSAGES {
            deliveries.next().await.expect("the bus is open").ack();
        }
        rate(MESSAGES, started)
    }

    /// The same by the bare client: each turn settles what the last one claimed.
    async fn handle_bare(&self) -> f64 {
        let started = Instant::now();
        let (mut done, mut places, mut turn) = (0, Vec::<String>::new(), 0);
        while done < MESSAGES {
            let mut call = redis::cmd("EVALSHA");
            call.arg(TURN.get_hash()).arg(2).arg(&self.keys()).arg("counter").arg("bare");
            call.arg(turn).arg(0).arg(AT_ONCE).arg(4 << 20).arg(30_000).arg(1).arg(0);
            call.arg(places.len()).arg(&places).arg(&[0, 0, 0]);
            let answer: Vec<redis::Value> =
                call.query_async(&mut self.bare.clone()).await.expect("an answer");
            done += places.len();
            places = answer[1..]
                .chunks_exact(3)
                .map(|message| redis::from_redis_value_ref(&message[0]).expect("a place"))
                .collect();
            turn += 1;
        }
        rate(MESSAGES, started)
    }

    async fn used(&self) -> u64 {
        let mut info = redis::cmd("INFO");
        let info: String =
            info.arg("memory").query_async(&mut self.bare.clone()).await.expect("it");
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        used.expect("it is told").trim().parse().expect("a number")
    }

    async fn remove(&self) {
        self.client.close().await;
        let mut keys = redis::cmd("KEYS");
        let pattern = self.key("*");
        let found: Vec<String> =
            keys.arg(pattern).query_async(&mut self.bare.clone()).await.expect("they are listed");
        let mut unlink = redis::cmd("UNLINK");
        let _: u64 = unlink.arg(found).query_async(&mut self.bare.clone()).await.expect("removed");
    }
}

fn rate(messages: usize, started: Instant) -> f64 {
    messages as f64 / started.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[tokio::main]
async fn main() {
    let bed = Bed::new().await;
    for script in [&*PUBLISH, &*TURN] {
        script.load_async(&mut bed.bare.clone()).await.expect("it is loaded");
    }
    bed.declare().await;
    if env::args().any(|argument| argument == "memory") {
        const BACKLOG: usize = 1_000_000;
        let before = bed.used().await;
        bed.publish(BACKLOG).await;
        let used = bed.used().await - before;
        println!("a backlog of {BACKLOG} messages: {} bytes each", used / BACKLOG as u64);
        bed.remove().await;
        return;
    }
    let [mut bare_publish, mut publish, mut bare_handle, mut handle] = [const { Vec::new() }; 4];
    let mut drain = Vec::new();
    for _ in 0..ROUNDS {
        bed.publish(MESSAGES).await;
        drain.push(bed.drain().await);
        bare_publish.push(bed.publish_bare().await);
        bare_handle.push(bed.handle_bare().await);
        publish.push(bed.publish(MESSAGES).await);
        handle.push(bed.handle().await);
    }
    for (what, ours, bare) in [
        ("publish", publish, bare_publish),
        ("handle, typed", handle, bare_handle.clone()),
        ("handle, at the port", drain, bare_handle),
    ] {
        let (ours, bare) = (median(ours), median(bare));
        println!("{what}: ours {ours:.0}/s, bare {bare:.0}/s, ratio {:.2}", ours / bare);
    }
    bed.remove().await;
}
