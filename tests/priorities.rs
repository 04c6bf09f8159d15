//! What an agent says of priorities, and what becomes of a message's on its way.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use agentbus::{
    Agent, Context, HandlerError, PublishOptions, Routes, Runtime,
    client::DeadLetter,
    message::{Priorities, Priority},
    retry::{Backoff, RetryPolicy},
};
use support::{
    eventually,
    messages::{Event, HAPPENED},
};
use tokio::sync::Semaphore;

/// Notes what it is given, one at a time, once the gate is open; fails at odd numbers.
#[derive(Clone)]
struct Clerk {
    priorities: Option<Priorities>,
    gate: Arc<Semaphore>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Seen {
    number: u32,
    priority: Option<Priority>,
    attempt: u32,
}

impl Agent for Clerk {
    fn name(&self) -> &'static str {
        "clerk"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened)
    }

    fn retry(&self) -> Option<RetryPolicy> {
        Some(RetryPolicy::attempts(2).with_backoff(Backoff::constant(Duration::from_millis(250))))
    }

    fn priorities(&self) -> Option<Priorities> {
        self.priorities
    }
}

impl Clerk {
    fn new(priorities: impl Into<Option<Priorities>>) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        Self { priorities: priorities.into(), gate, seen: Arc::default() }
    }

    async fn happened(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        let _turn = self.gate.acquire().await;
        let number = event.number;
        let priority = ctx.envelope().metadata.priority;
        self.seen.lock().unwrap().push(Seen { number, priority, attempt: ctx.attempt() });
        if number % 2 == 1 { Err(std::io::Error::other("odd").into()) } else { Ok(()) }
    }

    async fn has_seen(&self, count: usize) -> Vec<Seen> {
        eventually("what the clerk sees", async || {
            let seen = self.seen.lock().unwrap().clone();
            (seen.len() >= count).then_some(seen)
        })
        .await
    }
}

on_each_bus! {
    async fn a_retry_and_a_dead_letter_keep_the_priority(bus: Bus) {
        for priorities in [Priorities::Lanes, Priorities::Off] {
            let clerk = Clerk::new(priorities);
            clerk.gate.add_permits(1);
            let letters = Arc::new(Mutex::new(Vec::new()));
            let noted = letters.clone();
            let runtime = Runtime::new(bus.client()).on_dead_letter(move |letter: DeadLetter| {
                noted.lock().unwrap().push(letter.envelope().metadata.priority);
                std::future::ready(())
            });
            let agents = runtime.agent(clerk.clone()).start().await.unwrap();
            let urgent = PublishOptions::default().priority(Priority::URGENT);
            bus.client().publish_with(HAPPENED, &Event { number: 1 }, urgent).await.unwrap();
            let seen = clerk.has_seen(2).await;
            let priority = Some(Priority::URGENT);
            let expected = [1, 2].map(|attempt| Seen { number: 1, priority, attempt });
            assert_eq!(seen, expected, "{priorities:?}");
            let dead = eventually("the dead letter", async || letters.lock().unwrap().pop()).await;
            assert_eq!(dead, priority);
            agents.stop().await;
            bus.broker().delete(&bus.queue("clerk")).await.unwrap();
        }
    }

    async fn an_agent_says_for_itself_or_the_configuration_does(bus: Bus) {
        let mut config = bus.config.clone();
        config.priorities = Priorities::Strict;
        config.prefetch = 2;
        let client = agentbus::Client::with_config(Arc::clone(bus.broker()), config);
        for own in [None, Some(Priorities::Off)] {
            let clerk = Clerk::new(own);
            let agents = Runtime::new(client.clone()).agent(clerk.clone()).start().await.unwrap();
            // Two are being handled, behind the closed gate, when the others come.
            let queue = bus.queue("clerk");
            for number in [0, 2, 4, 6, 8, 10] {
                let level = u8::try_from(number).unwrap().max(1);
                let options = PublishOptions::default().priority(Priority::new(level).unwrap());
                client.publish_with(HAPPENED, &Event { number }, options).await.unwrap();
            }
            eventually("the backlog", async || {
                (bus.broker().stats(&queue).await.unwrap().ready == 4).then_some(())
            }).await;
            clerk.gate.add_permits(1);
            let order: Vec<_> = clerk.has_seen(6).await.iter().map(|seen| seen.number).collect();
            let sorted = own.is_none();
            let expected = if sorted { [10, 8, 6, 4] } else { [4, 6, 8, 10] };
            assert_eq!(order[2..], expected, "{own:?}");
            agents.stop().await;
            bus.broker().delete(&queue).await.unwrap();
        }
    }

    async fn another_order_than_the_queue_has_is_an_error(bus: Bus) {
        let agents = Runtime::new(bus.client()).agent(Clerk::new(None)).start().await.unwrap();
        agents.stop().await;
        let strict = Runtime::new(bus.client()).agent(Clerk::new(Priorities::Strict));
        let error = strict.start().await.unwrap_err();
        let text = agentbus::Report::from(error).to_string();
        for part in ["clerk", "exists with other arguments", "delete the queue"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
