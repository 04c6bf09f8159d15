//! Dead letters: each agent's its own, and when they are full it pauses and nothing is dropped.

mod support;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use agentbus::{
    Agent, Client, Context, Envelope, HandlerError, Routes, Running, Runtime, broker::Deliveries,
    message::FailureKind, retry::RetryPolicy,
};
use support::messages::{Event, HAPPENED};
use tokio::time::{sleep, timeout};

/// How long something that must happen may take.
const LIMIT: Duration = Duration::from_mins(1);

/// Rejects every event, or handles it.
struct Judge {
    name: &'static str,
    rejects: bool,
}

impl Agent for Judge {
    fn name(&self) -> &'static str {
        self.name
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened)
    }
}

impl Judge {
    async fn happened(&self, event: Event, _: &Context) -> Result<(), HandlerError> {
        if self.rejects {
            return Err(HandlerError::reject(format!("no use for {}", event.number)));
        }
        Ok(())
    }
}

async fn start(client: &Client, agents: impl IntoIterator<Item = Judge>) -> Running {
    let runtime = Runtime::new(client.clone()).retry(RetryPolicy::none());
    agents.into_iter().fold(runtime, Runtime::agent).start().await.unwrap()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("still waiting for {what}"))
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !is_so().await {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Takes a dead letter out.
async fn next(letters: &mut Deliveries) -> Envelope {
    let letter = within("a dead letter", letters.next()).await.expect("the bus is open");
    let envelope = letter.envelope().clone();
    letter.ack();
    envelope
}

on_each_bus! {
    async fn full_dead_letters_pause_the_agent_and_drop_nothing(bus: Bus) {
        const EVENTS: u32 = 120;
        let mut config = bus.config.clone();
        config.dead_letters.max_length = 5;
        config.prefetch = 8;
        let client = Client::with_config(Arc::clone(bus.broker()), config);
        let agents = start(&client, [Judge { name: "judge", rejects: true }]).await;
        assert!(agents.health().is_healthy());
        for number in 0..EVENTS {
            client.publish(HAPPENED, &Event { number }).await.unwrap();
        }
        let counts = || agents.counts("judge").unwrap();
        // All it may take at a time is held, so it takes no more.
        until("the pause", async || counts().held == 8).await;
        let health = agents.health();
        assert!(!health.is_healthy());
        assert!(health.detail.contains("`judge` is paused"), "{}", health.detail);
        let ready = client.broker().stats(&bus.queue("judge")).await.unwrap().ready;
        assert_eq!(ready + 8 + counts().dead_lettered, u64::from(EVENTS), "none is gone");

        let mut letters = client.broker().consume(&bus.queue("judge.dlq"), 4).await.unwrap();
        let mut kept = BTreeSet::new();
        while kept.len() < EVENTS as usize {
            let letter = next(&mut letters).await;
            assert_eq!(letter.metadata.failure.as_ref().unwrap().kind, FailureKind::Rejected);
            kept.insert(letter.decode::<Event>().unwrap().number);
        }
        assert_eq!(kept, (0..EVENTS).collect());
        until("the end of the pause", async || counts().held == 0).await;
        assert!(agents.health().is_healthy());
        within("the end", agents.stop()).await;
        assert_eq!(client.broker().stats(&bus.queue("judge")).await.unwrap().ready, 0);
    }

    async fn each_agent_keeps_its_own_failures(bus: Bus) {
        let client = bus.client();
        let judges = [("one", true), ("two", false), ("three", true)]
            .map(|(name, rejects)| Judge { name, rejects });
        let agents = start(&client, judges).await;
        for number in 0..10 {
            client.publish(HAPPENED, &Event { number }).await.unwrap();
        }
        until("all outcomes", async || {
            let counts = |agent| agents.counts(agent).unwrap();
            counts("one").dead_lettered == 10
                && counts("two").handled == 10
                && counts("three").dead_lettered == 10
        })
        .await;
        within("the end", agents.stop()).await;
        let ready = async |queue: &str| client.broker().stats(&bus.queue(queue)).await.unwrap().ready;
        assert_eq!(ready("two.dlq").await, 0);
        for agent in ["one", "three"] {
            let queue = format!("{agent}.dlq");
            assert_eq!(ready(&queue).await, 10);
            let mut letters = client.broker().consume(&bus.queue(&queue), 10).await.unwrap();
            for number in 0..10 {
                let letter = next(&mut letters).await;
                let failure = letter.metadata.failure.as_ref().unwrap();
                assert_eq!((&*failure.agent, failure.attempts), (agent, 1));
                assert_eq!(failure.topic.as_ref(), Some(HAPPENED.name()));
                assert_eq!(&*failure.error, format!("no use for {number}"));
                assert_eq!(letter.decode::<Event>().unwrap().number, number);
            }
        }
    }
}
