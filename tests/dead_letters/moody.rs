//! An agent with dead letters, and what there is of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use agentbus::{
    Agent, Client, Context, Envelope, HandlerError, Routes, Running, Runtime, Topic,
    client::{DeadLetter, DeadLetterFilter},
    message::{Failure, FailureKind, Timestamp},
};

use crate::support::{
    bus::Bus,
    eventually,
    messages::{ASK, Answer, Event, HAPPENED, Question},
};

pub(crate) const SEEN: Topic<Event> = Topic::new("test.seen");

/// Topic and attempt of whatever was handled, by message id.
pub(crate) type Handled = BTreeMap<String, Vec<(String, u32)>>;

/// Rejects everything until it is told to work.
#[derive(Clone, Default)]
pub(crate) struct Moody {
    name: &'static str,
    works: Arc<AtomicBool>,
    pub(crate) handled: Arc<Mutex<Handled>>,
}

impl Moody {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    pub(crate) fn work(&self) {
        self.works.store(true, Ordering::SeqCst);
    }

    fn judge(&self, ctx: &Context) -> Result<(), HandlerError> {
        if !self.works.load(Ordering::SeqCst) {
            return Err(HandlerError::reject("in no mood"));
        }
        let id = ctx.message_id().expect("an id").to_string();
        let topic = ctx.topic().expect("a topic").to_string();
        self.handled.lock().unwrap().entry(id).or_default().push((topic, ctx.attempt()));
        Ok(())
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.handled.lock().unwrap().keys().cloned().collect()
    }

    pub(crate) async fn start(&self, client: &Client) -> Running {
        Runtime::new(client.clone()).agent(self.clone()).start().await.expect("it starts")
    }
}

impl Agent for Moody {
    fn name(&self) -> &str {
        self.name
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new()
            .on(ASK, Self::answer)
            .on(HAPPENED, Self::happened)
            .on_each(SEEN, Self::happened)
    }
}

impl Moody {
    async fn answer(&self, asked: Question, ctx: &Context) -> Result<Answer, HandlerError> {
        self.judge(ctx)?;
        Ok(Answer { text: asked.text })
    }

    async fn happened(&self, _: Event, ctx: &Context) -> Result<(), HandlerError> {
        self.judge(ctx)
    }
}

pub(crate) fn all() -> DeadLetterFilter {
    DeadLetterFilter::default()
}

/// A letter as an agent writes it, of the event with that number.
pub(crate) fn letter(number: u32) -> DeadLetter {
    let mut envelope = Envelope::encode(&Event { number });
    envelope.topic = Some(HAPPENED.name().clone());
    envelope.metadata.message_id = Some(format!("event {number:05}").into());
    envelope.metadata.failure = Some(Box::new(Failure {
        kind: if number.is_multiple_of(2) { FailureKind::Rejected } else { FailureKind::Timeout },
        error: "for a test".into(),
        agent: "data".into(),
        instance: None,
        topic: Some(HAPPENED.name().clone()),
        attempts: 4,
        at: Timestamp::now(),
    }));
    DeadLetter::new(envelope)
}

/// Starts an agent and puts letters into its dead letters.
pub(crate) async fn prepared(bus: &Bus, count: u32) -> (Moody, Running) {
    let data = Moody::new("data");
    bus.queue("data");
    bus.queue("data.dlq");
    let running = data.start(&bus.client()).await;
    let letters = bus.client().dead_letters("data");
    for number in 0..count {
        letters.put(letter(number)).await.expect("it is kept");
    }
    (data, running)
}

pub(crate) async fn numbers(client: &Client, filter: DeadLetterFilter) -> Vec<u32> {
    let mut list = client.dead_letters("data").list(filter);
    let mut numbers = Vec::new();
    while let Some(letter) = list.next().await.expect("the letters can be read") {
        numbers.push(letter.envelope().decode::<Event>().expect("an event").number);
    }
    assert!(!list.is_partial());
    numbers
}

pub(crate) async fn counted(client: &Client, agent: &str, expected: u64) {
    let letters = client.dead_letters(agent);
    let what = format!("{expected} letters of {agent}");
    eventually(&what, async || (letters.count().await.ok()? == expected).then_some(())).await;
}
