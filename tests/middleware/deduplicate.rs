//! A message that comes again ends as it did the first time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use agentbus::{
    Agent, Client, Config, Context, Envelope, HandlerError, Id, PublishError, RequestError, Routes,
    Runtime, Topic,
    agent::middleware::Deduplicate,
    async_trait,
    broker::{
        Broker, Deliveries, Destination, Health, Inbox, QueueError, QueueSpec, QueueStats,
        ReplySink, TopologyError, memory::Memory,
    },
    store::{Begun, Deduplication, MemoryDeduplication, MessageKey, Outcome, StoreError},
};
use tokio::sync::watch;

use crate::{
    on_each_bus,
    support::{
        self, eventually,
        messages::{Event, HAPPENED},
    },
    worker::{Worker, ask_as, counted, publish_as, ready, soon},
};

const ALSO: Topic<Event> = Topic::new("test.also");

/// Counts what every replica gets, and one topic beside it.
#[derive(Clone, Default)]
struct Replica {
    calls: Arc<AtomicU32>,
}

impl Agent for Replica {
    fn name(&self) -> &'static str {
        "replica"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on_each(HAPPENED, Self::happened).on(ALSO, Self::happened)
    }
}

impl Replica {
    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A store that is down at times.
#[derive(Debug, Default)]
struct Shaky {
    store: MemoryDeduplication,
    down: AtomicBool,
    asked: AtomicU32,
}

impl Shaky {
    fn check(&self) -> Result<(), StoreError> {
        if self.down.load(Ordering::Relaxed) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            return Err(StoreError::Unavailable("no answer".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Deduplication for Shaky {
    async fn begin(&self, key: &MessageKey, claim: &Id) -> Result<Begun, StoreError> {
        self.check()?;
        self.store.begin(key, claim).await
    }

    async fn done(&self, key: &MessageKey, claim: &Id, outcome: Outcome) -> Result<(), StoreError> {
        self.check()?;
        self.store.done(key, claim, outcome).await
    }

    async fn forget(&self, key: &MessageKey, claim: &Id) -> Result<(), StoreError> {
        self.check()?;
        self.store.forget(key, claim).await
    }

    async fn changed(&self, key: &MessageKey) {
        self.store.changed(key).await;
    }
}

/// A bus that does not take the first replies.
#[derive(Debug)]
struct Deaf {
    bus: Memory,
    refuses: AtomicU32,
}

#[async_trait]
impl Broker for Deaf {
    fn kind(&self) -> &'static str {
        self.bus.kind()
    }

    async fn publish(&self, to: Destination<'_>, envelope: Envelope) -> Result<(), PublishError> {
        let refuse = |left: u32| left.checked_sub(1);
        if let Destination::Reply(_) = to
            && self.refuses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, refuse).is_ok()
        {
            let (to, reason) = (to.to_string(), "not now".to_owned());
            return Err(PublishError::Refused { to, reason, envelope: envelope.into() });
        }
        self.bus.publish(to, envelope).await
    }

    async fn inbox(&self, sink: ReplySink) -> Result<Arc<dyn Inbox>, QueueError> {
        self.bus.inbox(sink).await
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<(), TopologyError> {
        self.bus.declare(queue).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Deliveries, QueueError> {
        self.bus.consume(queue, prefetch).await
    }

    async fn stats(&self, queue: &str) -> Result<QueueStats, QueueError> {
        self.bus.stats(queue).await
    }

    async fn purge(&self, queue: &str) -> Result<u64, QueueError> {
        self.bus.purge(queue).await
    }

    async fn delete(&self, queue: &str) -> Result<(), QueueError> {
        self.bus.delete(queue).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.bus.health()
    }

    async fn close(&self) {
        self.bus.close().await;
    }
}

on_each_bus! {
    async fn a_message_that_is_published_twice_is_handled_once(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::new());
        let runtime = Runtime::new(client.clone()).layer(Deduplicate::new());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        let (first, second) = (Id::new(), Id::new());
        for id in [&first, &second, &first, &first] {
            publish_as(&client, id, 1).await;
        }
        counted(&agents, "four ends", |counts| counts.handled == 4).await;
        assert_eq!(worker.calls(), 2);
        assert_eq!(agents.counts("worker").unwrap().duplicates, 2);
        agents.stop().await;
        ready(&bus, "worker", 0).await;
        ready(&bus, "worker.dlq", 0).await;
    }

    async fn a_repeated_request_gets_the_stored_reply(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::new());
        let runtime = Runtime::new(client.clone()).layer(Deduplicate::new());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        let id = Id::new();
        for _ in 0..3 {
            assert_eq!(ask_as(&client, &id, "again").await.unwrap().text, "again, call 1");
        }
        assert_eq!(ask_as(&client, &Id::new(), "another").await.unwrap().text, "another, call 2");
        agents.stop().await;
    }

    async fn an_error_that_is_the_answer_is_stored_too(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::new());
        let runtime = Runtime::new(client.clone()).layer(Deduplicate::new());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        let id = Id::new();
        for _ in 0..2 {
            let error = ask_as(&client, &id, "not found").await.unwrap_err();
            let RequestError::Replied { error, .. } = error else { panic!("{error:?}") };
            assert_eq!(error.details["calls"], "1");
        }
        assert_eq!(worker.calls(), 1);
        agents.stop().await;
    }

    async fn what_failed_panicked_or_snoozed_is_handled_again(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::new());
        let runtime = Runtime::new(client.clone()).layer(Deduplicate::new()).retry(soon());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        let ids = [Id::new(), Id::new(), Id::new()];
        // The one that looks at the number of calls comes alone.
        publish_as(&client, &ids[2], 102).await;
        counted(&agents, "the second call", |counts| counts.handled == 1).await;
        publish_as(&client, &ids[0], 100).await;
        publish_as(&client, &ids[1], 101).await;
        counted(&agents, "three ends", |counts| counts.handled == 3).await;
        assert_eq!(worker.handled(), [(100, 2), (101, 2), (102, 1)]);
        for (id, number) in ids.iter().zip([100, 101, 102]) {
            publish_as(&client, id, number).await;
        }
        counted(&agents, "the repeats", |counts| counts.duplicates == 3).await;
        assert_eq!(worker.calls(), 6);
        agents.stop().await;
        ready(&bus, "worker.dlq", 0).await;
    }

    async fn a_repeat_waits_for_the_first_to_end(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::held());
        let runtime = Runtime::new(client.clone()).layer(Deduplicate::new()).retry(soon());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        let id = Id::new();
        for _ in 0..3 {
            publish_as(&client, &id, 1).await;
        }
        counted(&agents, "two that wait", |counts| counts.waiting == 2).await;
        assert_eq!(worker.calls(), 1);
        worker.turns.add_permits(1);
        counted(&agents, "all ends", |counts| counts.handled == 3).await;
        assert_eq!((worker.calls(), agents.counts("worker").unwrap().waiting), (1, 0));
        agents.stop().await;
    }

    async fn of_two_that_wait_one_is_handled_if_the_first_failed(bus: Bus) {
        let (client, worker) = (bus.client(), Worker::held());
        let runtime = Runtime::new(client.clone()).layer(Deduplicate::new()).retry(soon());
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        let id = Id::new();
        publish_as(&client, &id, 100).await;
        publish_as(&client, &id, 1).await;
        publish_as(&client, &id, 1).await;
        counted(&agents, "two that wait", |counts| counts.waiting == 2).await;
        // The first fails, is retried, and finds that another has done it.
        worker.turns.add_permits(2);
        counted(&agents, "all ends", |counts| counts.handled == 3).await;
        assert_eq!((worker.handled(), worker.calls()), (vec![(1, 1)], 2));
        agents.stop().await;
    }

    async fn what_is_dropped_at_the_stop_is_handled_again_and_no_attempt_counted(bus: Bus) {
        let mut config = bus.config.clone();
        config.shutdown_grace = Duration::from_millis(200);
        let client = Client::with_config(Arc::clone(bus.broker()), config);
        let layer = Deduplicate::new();
        let stuck = Worker::held();
        let runtime = Runtime::new(client.clone()).layer(layer.clone());
        let agents = runtime.agent(stuck.clone()).start().await.unwrap();
        let id = Id::new();
        publish_as(&client, &id, 1).await;
        publish_as(&client, &id, 1).await;
        counted(&agents, "one that waits", |counts| counts.waiting == 1).await;
        agents.stop().await;
        ready(&bus, "worker", 2).await;

        let worker = Worker::new();
        let runtime = Runtime::new(client.clone()).layer(layer);
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        counted(&agents, "two ends", |counts| counts.handled == 2).await;
        assert_eq!((worker.handled(), stuck.calls()), (vec![(1, 1)], 1));
        agents.stop().await;
    }

    async fn every_replica_counts_for_itself_and_so_does_every_topic(bus: Bus) {
        let client = bus.client();
        let layer = Deduplicate::new();
        let replicas = [Replica::default(), Replica::default()];
        let mut running = Vec::new();
        for replica in &replicas {
            let runtime = Runtime::new(client.clone()).layer(layer.clone());
            running.push(runtime.agent(replica.clone()).start().await.unwrap());
        }
        let id = Id::new();
        for topic in [HAPPENED, HAPPENED, ALSO, ALSO] {
            let options = agentbus::PublishOptions::default().message_id(id.clone());
            client.publish_with(topic, &Event { number: 1 }, options).await.unwrap();
        }
        let sum = |count: fn(&agentbus::agent::Counts) -> u64| {
            running.iter().map(|agents| count(&agents.counts("replica").unwrap())).sum::<u64>()
        };
        eventually("six ends", async || (sum(|counts| counts.handled) == 6).then_some(())).await;
        assert_eq!(sum(|counts| counts.duplicates), 3);
        let calls = replicas.each_ref().map(|replica| replica.calls.load(Ordering::Relaxed));
        assert_eq!(calls.iter().sum::<u32>(), 3, "one each, and one of the topic that one gets");
        assert!(calls.iter().all(|calls| *calls > 0));
        for agents in running {
            agents.stop().await;
        }
    }

    async fn while_the_store_is_down_messages_wait_and_are_handled_once(bus: Bus) {
        let store = Arc::new(Shaky::default());
        let (client, worker) = (bus.client(), Worker::held());
        let runtime = Runtime::new(client.clone()).layer(Deduplicate::in_store(store.clone()));
        let agents = runtime.agent(worker.clone()).start().await.unwrap();
        let (first, second) = (Id::new(), Id::new());
        publish_as(&client, &first, 1).await;
        eventually("a call", async || (worker.calls() == 1).then_some(())).await;
        store.down.store(true, Ordering::Relaxed);
        publish_as(&client, &second, 2).await;
        counted(&agents, "one that waits", |counts| counts.waiting == 1).await;
        // The handler ends, and the store does not learn of it yet.
        worker.turns.add_permits(2);
        counted(&agents, "an end", |counts| counts.handled == 1).await;
        publish_as(&client, &first, 1).await;
        counted(&agents, "two that wait", |counts| counts.waiting == 2).await;
        assert_eq!(worker.calls(), 1);
        store.down.store(false, Ordering::Relaxed);
        counted(&agents, "three ends", |counts| counts.handled == 3).await;
        assert_eq!(worker.handled(), [(1, 1), (2, 1)]);
        agents.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_could_not_be_sent_is_sent_when_the_request_comes_again() {
    let bus = Arc::new(Deaf { bus: Memory::default(), refuses: AtomicU32::new(4) });
    let client = Client::with_config(bus.clone(), Config::default());
    let worker = Worker::new();
    let runtime = Runtime::new(client.clone()).layer(Deduplicate::new());
    let agents = runtime.agent(worker.clone()).start().await.unwrap();
    let answer = ask_as(&client, &Id::new(), "hello?").await.unwrap();
    assert_eq!((answer.text.as_str(), worker.calls()), ("hello?, call 1", 1));
    let counts = agents.counts("worker").unwrap();
    assert_eq!((counts.retried, counts.duplicates), (1, 1), "{counts:?}");
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_repeat_comes_back_later_when_the_first_takes_too_long() {
    let (client, worker) = (support::bus::Bus::memory().client(), Worker::held());
    let layer = Deduplicate::new().patience(Duration::from_secs(10));
    let agents = Runtime::new(client.clone()).layer(layer).agent(worker.clone());
    let agents = agents.start().await.unwrap();
    let id = Id::new();
    publish_as(&client, &id, 1).await;
    publish_as(&client, &id, 1).await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    let counts = agents.counts("worker").unwrap();
    assert!(counts.snoozed >= 2 && counts.retried == 0, "{counts:?}");
    worker.turns.add_permits(1);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(worker.handled(), [(1, 1)]);
    assert_eq!(agents.counts("worker").unwrap().duplicates, 1);
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_handled_again_once_the_first_is_forgotten() {
    let (client, worker) = (support::bus::Bus::memory().client(), Worker::new());
    let layer = Deduplicate::within(2, Duration::from_hours(1));
    let agents = Runtime::new(client.clone()).layer(layer).agent(worker.clone());
    let agents = agents.start().await.unwrap();
    let ids = [Id::new(), Id::new(), Id::new()];
    let ask = async |index: usize| {
        drop(ask_as(&client, &ids[index], "?").await.unwrap());
        worker.calls()
    };
    assert_eq!((ask(0).await, ask(1).await, ask(0).await), (1, 2, 2));
    assert_eq!((ask(2).await, ask(0).await, ask(1).await), (3, 3, 4), "the second was forgotten");
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(ask(1).await, 5);
    agents.stop().await;
}
