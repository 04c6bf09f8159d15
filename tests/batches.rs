//! Batches fill up or run out of time, and end as a whole.

mod support;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use agentbus::{
    Agent, Context, Envelope, HandlerError, Routes, Runtime,
    message::{FailureKind, Timestamp},
    retry::RetryPolicy,
};
use support::{
    eventually,
    messages::{Answer, Event, HAPPENED},
};

#[derive(Clone, Default)]
struct Bulk {
    batches: Arc<Mutex<Vec<Vec<u32>>>>,
}

impl Agent for Bulk {
    fn name(&self) -> &'static str {
        "bulk"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on_batch(HAPPENED, 100, Duration::from_millis(200), Self::happened)
    }
}

impl Bulk {
    async fn happened(&self, events: Vec<Event>, ctx: &Context) -> Result<(), HandlerError> {
        assert_eq!(ctx.batch().len(), events.len());
        let numbers: Vec<_> = events.iter().map(|event| event.number).collect();
        if numbers.contains(&666) {
            return Err(HandlerError::reject("a cursed batch"));
        }
        if numbers.contains(&667) {
            return Err(HandlerError::reject(Unshowable));
        }
        self.batches.lock().unwrap().push(numbers);
        Ok(())
    }
}

/// Takes two at a time, however long that takes.
struct Pairs(Bulk);

impl Agent for Pairs {
    fn name(&self) -> &'static str {
        "pairs"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on_batch(HAPPENED, 2, Duration::MAX, Self::happened)
    }
}

impl Pairs {
    async fn happened(&self, events: Vec<Event>, ctx: &Context) -> Result<(), HandlerError> {
        self.0.happened(events, ctx).await
    }
}

/// Panics when it is shown.
#[derive(Debug)]
struct Unshowable;

impl fmt::Display for Unshowable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no words")
    }
}

impl std::error::Error for Unshowable {}

on_each_bus! {
    async fn a_batch_is_handled_when_full_or_when_its_time_is_up(bus: Bus) {
        let bulk = Bulk::default();
        let agents = Runtime::new(bus.client()).agent(bulk.clone()).start().await.unwrap();
        for number in 0..250 {
            agents.client().publish(HAPPENED, &Event { number }).await.unwrap();
        }
        eventually("250 events", async || {
            (bulk.batches.lock().unwrap().iter().map(Vec::len).sum::<usize>() == 250).then_some(())
        }).await;
        let batches = bulk.batches.lock().unwrap().clone();
        assert!(batches.iter().all(|batch| batch.len() <= 100));
        assert!(batches.iter().any(|batch| batch.len() > 1), "{batches:?}");
        eventually("the count", async || (agents.counts("bulk")?.handled == 250).then_some(())).await;
        agents.stop().await;
    }

    async fn a_failing_batch_is_kept_and_a_bad_message_fails_alone(bus: Bus) {
        let bulk = Bulk::default();
        let runtime = Runtime::new(bus.client()).retry(RetryPolicy::none()).agent(bulk.clone());
        let agents = runtime.start().await.unwrap();
        let mut wrong = Envelope::encode(&Answer::default());
        wrong.topic = Some(HAPPENED.name().clone());
        agents.client().publish_envelope(wrong).await.unwrap();
        agents.client().publish(HAPPENED, &Event { number: 1 }).await.unwrap();
        eventually("the good one", async || (!bulk.batches.lock().unwrap().is_empty()).then_some(())).await;
        agents.client().publish(HAPPENED, &Event { number: 666 }).await.unwrap();
        eventually("two dead letters", async || {
            let stats = bus.broker().stats(&bus.queue("bulk.dlq")).await.unwrap();
            (stats.ready == 2).then_some(())
        }).await;
        assert_eq!(*bulk.batches.lock().unwrap(), [[1]]);
        agents.stop().await;
    }

    async fn a_batch_without_a_time_limit_is_handled_when_full(bus: Bus) {
        let bulk = Bulk::default();
        let agents = Runtime::new(bus.client()).agent(Pairs(bulk.clone())).start().await.unwrap();
        for number in 0..5 {
            agents.client().publish(HAPPENED, &Event { number }).await.unwrap();
        }
        eventually("two pairs", async || (bulk.batches.lock().unwrap().len() == 2).then_some(())).await;
        assert!(bulk.batches.lock().unwrap().iter().all(|batch| batch.len() == 2));
        agents.stop().await;
        // The fifth is handled at the stop where it had been collected, and else given back.
        let handled = bulk.batches.lock().unwrap().len() == 3;
        eventually("the fifth", async || {
            let ready = bus.broker().stats(&bus.queue("pairs")).await.unwrap().ready;
            (ready == u64::from(!handled)).then_some(())
        }).await;
    }

    async fn an_error_that_panics_when_shown_does_not_end_a_batch_route(bus: Bus) {
        let bulk = Bulk::default();
        let agents = Runtime::new(bus.client()).retry(RetryPolicy::none()).agent(bulk.clone()).start().await.unwrap();
        agents.client().publish(HAPPENED, &Event { number: 667 }).await.unwrap();
        let mut letters = bus.broker().consume(&bus.queue("bulk.dlq"), 1).await.unwrap();
        let letter = tokio::time::timeout(Duration::from_secs(10), letters.next()).await;
        let letter = letter.expect("a dead letter").expect("an open queue");
        let failure = letter.envelope().metadata.failure.clone().unwrap();
        assert_eq!((failure.kind, &*failure.error), (FailureKind::Panic, "the handler panicked: no words"));
        letter.ack();
        agents.client().publish(HAPPENED, &Event { number: 1 }).await.unwrap();
        eventually("the next", async || (*bulk.batches.lock().unwrap() == [[1]]).then_some(())).await;
        agents.stop().await;
    }
}

/// Takes its time, so that messages grow old before their batch is handled.
struct Slow(Bulk);

impl Agent for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on_batch(HAPPENED, 100, Duration::from_mins(1), Self::happened)
    }
}

impl Slow {
    async fn happened(&self, events: Vec<Event>, ctx: &Context) -> Result<(), HandlerError> {
        self.0.happened(events, ctx).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_late_when_its_batch_begins_is_not_handled() {
    let (client, bulk) = (support::bus::Bus::memory().client(), Bulk::default());
    let runtime = Runtime::new(client.clone()).agent(Slow(bulk.clone()));
    let agents = runtime.start().await.unwrap();
    for (number, seconds) in [(1, 30), (2, 90)] {
        let mut envelope = Envelope::encode(&Event { number });
        envelope.topic = Some(HAPPENED.name().clone());
        envelope.metadata.deadline = Some(Timestamp::now().after(Duration::from_secs(seconds)));
        client.publish_envelope(envelope).await.unwrap();
    }
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(*bulk.batches.lock().unwrap(), [[2]]);
    let counts = agents.counts("slow").unwrap();
    assert_eq!((counts.handled, counts.expired, counts.dead_lettered), (1, 1, 0));
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_holds_a_failed_batch_up_once_and_not_for_each_message() {
    let (client, bulk) = (support::bus::Bus::memory().client(), Bulk::default());
    let runtime = Runtime::new(client.clone()).on_dead_letter(|_| std::future::pending());
    let agents = runtime.agent(bulk.clone()).start().await.unwrap();
    for number in 600..700 {
        client.publish(HAPPENED, &Event { number }).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(agents.counts("bulk").unwrap().dead_lettered, 100);
    client.publish(HAPPENED, &Event { number: 1 }).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*bulk.batches.lock().unwrap(), [[1]]);
    agents.stop().await;
}
