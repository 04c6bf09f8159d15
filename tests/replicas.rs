//! Replicas share work, and each gets its copy of what is for everybody.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use agentbus::{
    Agent, BoxError, Client, Context, Envelope, HandlerError, RequestError, RequestOptions, Routes,
    Runtime, agent::StartError, broker::PublishError, retry::RetryPolicy,
};
use support::{
    eventually,
    messages::{ASK, Answer, Event, HAPPENED, Question, question},
};
use tokio::sync::Notify;

#[derive(Default)]
struct Replica {
    copies: Arc<AtomicU32>,
    name: &'static str,
}

impl Agent for Replica {
    fn name(&self) -> &str {
        self.name
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on_each(HAPPENED, Self::happened).on(ASK, Self::answer)
    }
}

impl Replica {
    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        self.copies.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn answer(&self, asked: Question, _: &Context) -> Result<Answer, HandlerError> {
        Ok(Answer { text: format!("{} from {}", asked.text, self.name) })
    }
}

/// Sees everything, and fails on all of it.
struct Observer {
    seen: Arc<AtomicU32>,
}

impl Agent for Observer {
    fn name(&self) -> &'static str {
        "observer"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on("#", Self::see)
    }
}

impl Observer {
    async fn see(&self, _: Envelope, _: &Context) -> Result<(), HandlerError> {
        self.seen.fetch_add(1, Ordering::Relaxed);
        Err(HandlerError::reject("an observer that cannot observe"))
    }
}

/// What became of the observer: it listens to something else.
struct Reformed;

impl Agent for Reformed {
    fn name(&self) -> &'static str {
        "observer"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on("other.#", Self::see)
    }
}

impl Reformed {
    async fn see(&self, _: Envelope, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// Hears what everybody is to hear, and nothing else.
struct Listener;

impl Agent for Listener {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on_each(HAPPENED, Self::happened)
    }
}

impl Listener {
    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// Shares work with others, once it is allowed to start.
struct Starter {
    starting: Arc<Notify>,
    allowed: Arc<Notify>,
    handled: Arc<AtomicU32>,
}

impl Agent for Starter {
    fn name(&self) -> &'static str {
        "starter"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened)
    }

    async fn on_start(&self, _: &Client) -> Result<(), BoxError> {
        self.starting.notify_one();
        self.allowed.notified().await;
        Ok(())
    }
}

impl Starter {
    fn new(allowed: &Arc<Notify>) -> Self {
        Self { starting: Arc::default(), allowed: Arc::clone(allowed), handled: Arc::default() }
    }

    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        self.handled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

on_each_bus! {
    async fn every_replica_gets_a_copy_and_one_answers(bus: Bus) {
        let copies: Vec<_> = (0..3).map(|_| Arc::new(AtomicU32::new(0))).collect();
        let mut replicas = Vec::new();
        for copies in &copies {
            let replica = Replica { copies: Arc::clone(copies), name: "replica" };
            replicas.push(Runtime::new(bus.client()).agent(replica).start().await.unwrap());
        }
        let client = bus.client();
        for number in 0..10 {
            client.publish(HAPPENED, &Event { number }).await.unwrap();
        }
        eventually("ten copies each", async || {
            copies.iter().all(|copies| copies.load(Ordering::Relaxed) == 10).then_some(())
        }).await;
        let options = RequestOptions::default().timeout(Duration::from_millis(300));
        let mut replies = client.request_many(ASK, &question("who"), options).await.unwrap();
        let mut count = 0;
        while let Some(reply) = replies.next().await {
            reply.unwrap();
            count += 1;
        }
        assert_eq!(count, 1, "replicas of one agent share the work");
        for replica in replicas {
            replica.stop().await;
        }
    }

    async fn different_agents_all_answer_a_request_to_many(bus: Bus) {
        let mut runtime = Runtime::new(bus.client());
        for name in ["first", "second", "third"] {
            runtime = runtime.agent(Replica { name, ..Replica::default() });
        }
        let agents = runtime.start().await.unwrap();
        let options = RequestOptions::default().at_most(3);
        let mut replies = agents.client().request_many(ASK, &question("who"), options).await.unwrap();
        let mut names = Vec::new();
        while let Some(reply) = replies.next().await {
            names.push(reply.unwrap().text);
        }
        names.sort();
        assert_eq!(names, ["who from first", "who from second", "who from third"]);
        agents.stop().await;
    }

    async fn a_failing_observer_does_not_disturb_a_request(bus: Bus) {
        let seen = Arc::new(AtomicU32::new(0));
        let agents = Runtime::new(bus.client())
            .retry(RetryPolicy::none())
            .agent(Observer { seen: Arc::clone(&seen) })
            .agent(Replica { name: "replica", ..Replica::default() })
            .start()
            .await
            .unwrap();
        let answer = agents.client().request(ASK, &question("who")).await.unwrap();
        assert_eq!(answer.text, "who from replica");
        eventually("the observer", async || (seen.load(Ordering::Relaxed) == 1).then_some(())).await;
        // Its own dead letter, and nobody else's.
        eventually("the dead letter", async || {
            let stats = bus.broker().stats(&bus.queue("observer.dlq")).await.unwrap();
            (stats.ready == 1).then_some(())
        }).await;
        assert_eq!(bus.broker().stats(&bus.queue("replica.dlq")).await.unwrap().ready, 0);
        agents.stop().await;
    }

    async fn after_a_clean_stop_nobody_listens(bus: Bus) {
        let agents = Runtime::new(bus.client()).agent(Listener).start().await.unwrap();
        bus.client().publish(HAPPENED, &Event { number: 1 }).await.unwrap();
        agents.stop().await;
        let published = bus.client().publish(HAPPENED, &Event { number: 2 }).await;
        assert!(matches!(published, Err(PublishError::Unroutable { .. })), "{published:?}");
    }

    async fn an_agent_without_the_route_does_not_answer(bus: Bus) {
        let yesterday = Observer { seen: Arc::default() };
        Runtime::new(bus.client()).agent(yesterday).start().await.unwrap().stop().await;
        // The queue is still bound to everything.
        let agents = Runtime::new(bus.client()).agent(Reformed).start().await.unwrap();
        let options = RequestOptions::default().timeout(Duration::from_millis(500));
        let result = agents.client().request_with(ASK, &question("who"), options).await;
        assert!(matches!(result, Err(RequestError::TimedOut { .. })), "{result:?}");
        eventually("the dead letter", async || (agents.counts("observer")?.dead_lettered == 1).then_some(())).await;
        agents.stop().await;
    }

    async fn a_slow_on_start_holds_no_messages(bus: Bus) {
        let allowed = Arc::new(Notify::new());
        allowed.notify_one();
        let quick = Starter::new(&allowed);
        let handled = Arc::clone(&quick.handled);
        let agents = Runtime::new(bus.client()).agent(quick).start().await.unwrap();

        let slow = Starter::new(&allowed);
        let starting = Arc::clone(&slow.starting);
        let start = tokio::spawn(Runtime::new(bus.client()).agent(slow).start());
        starting.notified().await;
        for number in 0..10 {
            bus.client().publish(HAPPENED, &Event { number }).await.unwrap();
        }
        eventually("all ten", async || (handled.load(Ordering::Relaxed) == 10).then_some(())).await;
        allowed.notify_one();
        start.await.unwrap().unwrap().stop().await;
        agents.stop().await;
    }

    async fn two_agents_of_one_name_are_an_error(bus: Bus) {
        let result = Runtime::new(bus.client()).agent(Listener).agent(Listener).start().await;
        let error = result.unwrap_err();
        assert!(matches!(&error, StartError::Twice { agent } if agent == "listener"), "{error:?}");
    }
}
