//! Acknowledgements: a handler that sleeps holds up nobody, and no ack is one the broker refuses.
//!
//! A tag that is acked twice closes the channel, and everything unsettled on it comes again: so a
//! redelivery of what nobody gave back tells of a wrong ack.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use agentbus::{
    Agent, Client, Context, HandlerError, Routes, Runtime, broker::Health, retry::RetryPolicy,
};
use futures::{StreamExt as _, stream};
use support::{
    bus::Bus,
    messages::{Event, HAPPENED},
};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

const PREFETCH: u16 = 32;

/// How long they may take on a machine that has much else to do.
const LIMIT: Duration = Duration::from_mins(2);

/// Sleeps over the first events until it is woken, and handles all others at once.
#[derive(Clone)]
struct Sleeper {
    asleep: u32,
    seen: Arc<Seen>,
}

struct Seen {
    /// Closed when the sleepers are to wake up.
    night: Semaphore,
    sleeping: AtomicU32,
    in_work: AtomicU32,
    most_in_work: AtomicU32,
    handled: AtomicU32,
    redelivered: AtomicU32,
}

impl Sleeper {
    fn new(asleep: u32) -> Self {
        let [sleeping, in_work, most_in_work, handled, redelivered] = [0; 5].map(AtomicU32::new);
        let night = Semaphore::new(0);
        let seen = Seen { night, sleeping, in_work, most_in_work, handled, redelivered };
        Self { asleep, seen: Arc::new(seen) }
    }

    async fn happened(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        let seen = &self.seen;
        seen.redelivered.fetch_add(ctx.is_redelivered().into(), Relaxed);
        let in_work = seen.in_work.fetch_add(1, Relaxed) + 1;
        seen.most_in_work.fetch_max(in_work, Relaxed);
        if event.number < self.asleep {
            seen.sleeping.fetch_add(1, Relaxed);
            let _woken = seen.night.acquire().await;
        } else if event.number.is_multiple_of(7) {
            // So that what is settled has gaps.
            tokio::task::yield_now().await;
        }
        seen.in_work.fetch_sub(1, Relaxed);
        seen.handled.fetch_add(1, Relaxed);
        Ok(())
    }
}

impl Agent for Sleeper {
    fn name(&self) -> &'static str {
        "sleeper"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened)
    }
}

/// Notes every change of health until it is dropped.
struct Watch(Arc<Mutex<Vec<Health>>>, tokio::task::JoinHandle<()>);

impl Watch {
    fn start(client: &Client) -> Self {
        let (unhealthy, mut health) = (Arc::<Mutex<Vec<_>>>::default(), client.broker().health());
        let noted = Arc::clone(&unhealthy);
        let watching = tokio::spawn(async move {
            while health.changed().await.is_ok() {
                let now = health.borrow_and_update().clone();
                if !now.is_healthy() {
                    noted.lock().unwrap().push(now);
                }
            }
        });
        Self(unhealthy, watching)
    }

    fn unhealthy(&self) -> Vec<Health> {
        self.0.lock().unwrap().clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.1.abort();
    }
}

async fn reaches(what: &str, count: &AtomicU32, expected: u32) {
    let reached = timeout(LIMIT, async {
        while count.load(Relaxed) < expected {
            sleep(Duration::from_millis(5)).await;
        }
    });
    let so_far = || count.load(Relaxed);
    assert!(reached.await.is_ok(), "{what}: {} of {expected} after {LIMIT:?}", so_far());
}

async fn publish(client: &Client, numbers: std::ops::Range<u32>) {
    let events = stream::iter(numbers.map(|number| Event { number }));
    client.publish_many(HAPPENED, events).for_each(async |sent| drop(sent.unwrap())).await;
}

/// Lets `asleep` handlers sleep while `others` flow, then wakes them.
async fn flow_past(bus: &Bus, asleep: u32, others: u32) {
    let mut config = bus.config.clone();
    config.prefetch = PREFETCH;
    let client = Client::with_config(Arc::clone(bus.broker()), config);
    let sleeper = Sleeper::new(asleep);
    let seen = Arc::clone(&sleeper.seen);
    let runtime = Runtime::new(client.clone()).retry(RetryPolicy::none()).agent(sleeper);
    let agents = runtime.start().await.unwrap();
    let watch = Watch::start(&client);

    publish(&client, 0..asleep).await;
    reaches("asleep", &seen.sleeping, asleep).await;
    let flowing = publish(&client, asleep..asleep + others);
    tokio::join!(flowing, reaches("handled", &seen.handled, others));
    assert_eq!(seen.in_work.load(Relaxed), asleep, "the sleepers are still asleep");
    seen.night.close();
    reaches("handled in the end", &seen.handled, asleep + others).await;

    // Stopped, it has settled everything, so that the broker would have told by now.
    agents.stop().await;
    for queue in ["sleeper", "sleeper.dlq"] {
        let stats = client.broker().stats(&bus.queue(queue)).await.unwrap();
        assert_eq!((stats.ready, stats.unsettled.unwrap_or(0)), (0, 0), "{queue}");
    }
    assert_eq!(seen.redelivered.load(Relaxed), 0, "a channel was closed: an ack was wrong");
    assert_eq!(seen.handled.load(Relaxed), asleep + others, "each once");
    let most = seen.most_in_work.load(Relaxed);
    assert!(most <= PREFETCH.into(), "{most} were in work at a time");
    assert!(watch.unhealthy().is_empty(), "{:?}", watch.unhealthy());
}

on_each_bus! {
    async fn one_handler_asleep_holds_up_nobody(bus: Bus) {
        flow_past(&bus, 1, 10_000).await;
    }

    /// All but one place of the prefetch is taken: each message waits for the ack of the last.
    async fn one_handler_awake_is_enough(bus: Bus) {
        flow_past(&bus, u32::from(PREFETCH) - 1, 300).await;
    }
}
