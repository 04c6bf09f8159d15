//! An agent that does as it is told, and counts.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use agentbus::{
    Agent, Client, Context, HandlerError, Id, PublishOptions, RequestError, RequestOptions, Routes,
    Running,
    agent::Counts,
    message::{Code, ErrorReply},
    retry::{Backoff, Jitter, RetryPolicy},
};
use tokio::{sync::Semaphore, time::Instant};

use crate::support::{
    bus::Bus,
    eventually,
    messages::{ASK, Answer, Event, HAPPENED, Question, question},
};

/// Handles events by their number and questions by their text.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) calls: Arc<AtomicU32>,
    /// Number, attempt and time of each event.
    pub(crate) events: Arc<Mutex<Vec<(u32, u32, Instant)>>>,
    /// Whether what handlers need does not work.
    pub(crate) broken: Arc<AtomicBool>,
    /// Events take one of these, and do not give it back.
    pub(crate) turns: Arc<Semaphore>,
}

impl Agent for Worker {
    fn name(&self) -> &'static str {
        "worker"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened).on(ASK, Self::answer)
    }
}

impl Worker {
    pub(crate) fn new() -> Self {
        Self {
            calls: Arc::default(),
            events: Arc::default(),
            broken: Arc::default(),
            turns: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        }
    }

    /// Makes one whose events wait for turns.
    pub(crate) fn held() -> Self {
        Self { turns: Arc::new(Semaphore::new(0)), ..Self::new() }
    }

    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn breaks(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }

    /// Numbers and attempts of the events that were handled, sorted.
    pub(crate) fn handled(&self) -> Vec<(u32, u32)> {
        let events = self.events.lock().unwrap();
        let mut handled: Vec<_> =
            events.iter().map(|&(number, attempt, _)| (number, attempt)).collect();
        handled.sort_unstable();
        handled
    }

    async fn happened(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.broken.load(Ordering::Relaxed) {
            Err(std::io::Error::other("nothing works"))?;
        }
        self.turns.acquire().await?.forget();
        match event.number {
            // The first time each.
            100 if ctx.attempt() == 1 => Err(std::io::Error::other("try again"))?,
            101 if ctx.attempt() == 1 => panic!("try again"),
            102 if call == 0 => return Err(HandlerError::Snooze(Duration::from_millis(10))),
            number => self.events.lock().unwrap().push((number, ctx.attempt(), Instant::now())),
        }
        Ok(())
    }

    async fn answer(&self, asked: Question, _: &Context) -> Result<Answer, HandlerError> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        match asked.text.as_str() {
            "not found" => {
                let reply = ErrorReply::new(Code::NotFound, format!("call {calls}"));
                Err(HandlerError::Reply(reply.with_detail("calls", calls.to_string())))
            }
            "hang" => std::future::pending().await,
            "unavailable" => Err(std::io::Error::other("nothing works"))?,
            text => Ok(Answer { text: format!("{text}, call {calls}") }),
        }
    }
}

/// Retries at once, as far as that goes.
pub(crate) fn soon() -> RetryPolicy {
    RetryPolicy::default()
        .with_backoff(Backoff::constant(Duration::from_millis(1)).with_jitter(Jitter::None))
}

pub(crate) async fn publish(client: &Client, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        client.publish(HAPPENED, &Event { number }).await.unwrap();
    }
}

/// Publishes an event under a given id.
pub(crate) async fn publish_as(client: &Client, id: &Id, number: u32) {
    let options = PublishOptions::default().message_id(id.clone());
    client.publish_with(HAPPENED, &Event { number }, options).await.unwrap();
}

/// Asks under a given message id.
pub(crate) async fn ask_as(client: &Client, id: &Id, text: &str) -> Result<Answer, RequestError> {
    let options = PublishOptions::default().message_id(id.clone());
    let options = RequestOptions::default().publish(options);
    client.request_with(ASK, &question(text), options).await
}

/// Waits until the worker's counts are as they should be.
pub(crate) async fn counted(agents: &Running, what: &str, check: impl Fn(&Counts) -> bool) {
    eventually(what, async || {
        let counts = agents.counts("worker").unwrap();
        check(&counts).then_some(())
    })
    .await;
}

/// Waits until so many messages are ready in a queue.
pub(crate) async fn ready(bus: &Bus, queue: &str, expected: u64) {
    eventually(&format!("{expected} in `{queue}`"), async || {
        let stats = bus.broker().stats(&bus.queue(queue)).await.unwrap();
        (stats.ready == expected).then_some(())
    })
    .await;
}
