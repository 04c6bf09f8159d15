//! An agent that asks and goes on later, one that answers, and a store with outages.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use agentbus::{
    Agent, Context, HandlerError, RequestError, RequestOptions, Routes,
    message::{Code, Id},
    store::{Conversation, Conversations, Expiry, MemoryConversations, Scope, StoreError},
};
use async_trait::async_trait;

use super::{
    bus::Bus,
    messages::{ASK, Answer, Event, HAPPENED, Pending, Question, THEN},
};

/// What became of each question, by number; more than one entry is a fault.
pub type Outcomes = Arc<Mutex<BTreeMap<u32, Vec<String>>>>;

/// The first of the numbers whose questions wait for ten minutes.
pub const PATIENT: u32 = 777_000;

/// Asks on every event, and goes on when the answer is there.
#[derive(Clone, Default)]
pub struct Curious {
    pub outcomes: Outcomes,
    pub mood: Mood,
    /// How often a follow-up was called.
    pub begun: Arc<AtomicU32>,
}

/// What the follow-up does.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Works,
    FailsFirst,
    SnoozesFirst,
    Rejects,
    Hangs,
}

impl Agent for Curious {
    fn name(&self) -> &'static str {
        "curious"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened).on_reply(THEN, Self::then)
    }
}

impl Curious {
    async fn happened(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        let number = event.number;
        let text = match number % 1000 {
            997 => "hang",
            998 => "not found",
            _ => "why",
        };
        let question = Question { text: text.into(), number };
        let timeout = match text {
            "hang" => 300,
            _ if number / 1000 == PATIENT / 1000 => 600_000,
            _ => 30_000,
        };
        let options = RequestOptions::default().timeout(Duration::from_millis(timeout));
        ctx.request_later_with(THEN, &question, &Pending { number }, options).await?;
        Ok(())
    }

    async fn then(
        &self,
        answer: Result<Answer, RequestError>,
        pending: Pending,
        ctx: &Context,
    ) -> Result<(), HandlerError> {
        let before = self.begun.fetch_add(1, Ordering::Relaxed);
        match self.mood {
            Mood::SnoozesFirst if before == 0 => {
                return Err(HandlerError::Snooze(Duration::from_secs(5)));
            }
            Mood::SnoozesFirst => assert_eq!(ctx.attempt(), 1, "a snooze is no attempt"),
            Mood::FailsFirst if ctx.attempt() == 1 => Err(std::io::Error::other("not yet"))?,
            Mood::Rejects => return Err(HandlerError::reject("never")),
            Mood::Hangs => std::future::pending().await,
            Mood::Works | Mood::FailsFirst => {}
        }
        let outcome = match answer {
            Ok(answer) => answer.text,
            Err(RequestError::TimedOut { .. }) => "timed out".to_owned(),
            Err(error) => format!("{:?}", error.reply().map(|reply| reply.code)),
        };
        self.outcomes.lock().unwrap().entry(pending.number).or_default().push(outcome);
        Ok(())
    }
}

/// Keeps conversations in memory, for as many as say that they share it, and with outages.
#[derive(Debug)]
pub struct Store {
    memory: MemoryConversations,
    scope: Scope,
    /// How many calls of a kind still fail, by kind: takes, then those that put back.
    pub outages: [AtomicU32; 2],
    /// How often it was asked for what a deadline ends.
    pub asked: AtomicU32,
}

impl Store {
    pub fn new(scope: Scope) -> Arc<Self> {
        let memory = MemoryConversations::new(1000, Duration::from_mins(1));
        Arc::new(Self { memory, scope, outages: Default::default(), asked: AtomicU32::new(0) })
    }

    fn reach(&self, kind: usize) -> Result<(), StoreError> {
        let left = |left: u32| left.checked_sub(1);
        match self.outages[kind].fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
            Ok(_) => Err(StoreError::Unavailable("out for a moment".into())),
            Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Conversations for Store {
    fn scope(&self) -> Scope {
        self.scope
    }

    async fn save(&self, conversation: Conversation) -> Result<(), StoreError> {
        self.memory.save(conversation).await
    }

    async fn put_back(&self, conversation: Conversation) -> Result<(), StoreError> {
        self.reach(1)?;
        self.memory.put_back(conversation).await
    }

    async fn take(&self, agent: &str, id: &Id) -> Result<Option<Conversation>, StoreError> {
        self.reach(0)?;
        self.memory.take(agent, id).await
    }

    async fn take_expired(&self, agent: &str, id: &Id) -> Result<Expiry, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.reach(0)?;
        self.memory.take_expired(agent, id).await
    }

    async fn next_expired(&self, agent: &str) -> Result<Conversation, StoreError> {
        self.memory.next_expired(agent).await
    }

    async fn count(&self) -> Result<usize, StoreError> {
        self.memory.count().await
    }
}

pub struct Oracle;

impl Agent for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(ASK, Self::answer)
    }
}

impl Oracle {
    async fn answer(&self, asked: Question, _: &Context) -> Result<Answer, HandlerError> {
        match asked.text.as_str() {
            "hang" => std::future::pending().await,
            "not found" => Err(HandlerError::reply(Code::NotFound, "no such thing")),
            _ => Ok(Answer { text: format!("because {}", asked.number) }),
        }
    }
}

pub fn expected(number: u32) -> String {
    match number % 1000 {
        997 => "timed out".to_owned(),
        998 => format!("{:?}", Some(Code::NotFound)),
        _ => format!("because {number}"),
    }
}

pub async fn dead_letters(bus: &Bus, agent: &str) -> u64 {
    bus.broker().stats(&bus.queue(&format!("{agent}.dlq"))).await.unwrap().ready
}
