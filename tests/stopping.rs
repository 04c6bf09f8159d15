//! Stopping loses nothing, starting leaves nothing behind, and a full queue ends no agent.

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use agentbus::{
    Agent, BoxError, Client, Config, Context, HandlerError, Routes, Running, Runtime,
    agent::StartError,
    broker::{PublishError, Stage},
    retry::RetryPolicy,
    testing::TestBus,
};
use futures::{StreamExt, stream};
use support::{
    bus::Bus,
    eventually,
    messages::{ASK, Answer, Event, HAPPENED, Question, question},
};

const LIMIT: Duration = Duration::from_secs(20);
const IN_FLIGHT: u16 = 500;

/// What its handlers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Every second handler never ends.
    Stuck,
    /// Handlers end when they are told to hurry.
    Obedient,
    /// Handlers end at once.
    Quick,
    /// Handlers reject what they get.
    Failing,
}

#[derive(Clone, Debug)]
struct Worker {
    mood: Mood,
    begun: Arc<AtomicU32>,
    done: Arc<Mutex<BTreeSet<u32>>>,
    redelivered: Arc<AtomicU32>,
}

impl Worker {
    fn new(mood: Mood) -> Self {
        Self { mood, begun: Arc::default(), done: Arc::default(), redelivered: Arc::default() }
    }

    fn done(&self) -> BTreeSet<u32> {
        self.done.lock().unwrap().clone()
    }

    async fn happened(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        assert_eq!(ctx.attempt(), 1, "being given back is no attempt");
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.redelivered.fetch_add(ctx.is_redelivered().into(), Ordering::Relaxed);
        match self.mood {
            Mood::Stuck if event.number.is_multiple_of(2) => std::future::pending().await,
            Mood::Obedient => ctx.cancelled().await,
            Mood::Failing => return Err(HandlerError::reject("no")),
            Mood::Stuck | Mood::Quick => {}
        }
        self.done.lock().unwrap().insert(event.number);
        Ok(())
    }

    async fn bulk(&self, events: Vec<Event>, ctx: &Context) -> Result<(), HandlerError> {
        for event in events {
            self.happened(event, ctx).await?;
        }
        Ok(())
    }
}

impl Agent for Worker {
    fn name(&self) -> &'static str {
        "worker"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened)
    }
}

/// As a worker, with batches.
struct Bulk(Worker);

impl Agent for Bulk {
    fn name(&self) -> &'static str {
        "worker"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on_batch(HAPPENED, 50, Duration::from_millis(5), Self::bulk)
    }
}

impl Bulk {
    async fn bulk(&self, events: Vec<Event>, ctx: &Context) -> Result<(), HandlerError> {
        self.0.bulk(events, ctx).await
    }
}

fn client(bus: &Bus, grace: Duration) -> Client {
    let mut config = bus.config.clone();
    config.prefetch = IN_FLIGHT;
    config.shutdown_grace = grace;
    Client::with_config(Arc::clone(bus.broker()), config)
}

async fn start(client: &Client, worker: &Worker) -> Running {
    let runtime = Runtime::new(client.clone()).retry(RetryPolicy::none());
    runtime.agent(worker.clone()).start().await.unwrap()
}

async fn publish(client: &Client, count: u32) {
    let events = stream::iter((0..count).map(|number| Event { number }));
    let published = client.publish_many(HAPPENED, events);
    published.for_each(async |result| drop(result.unwrap())).await;
}

async fn stop(agents: Running) {
    tokio::time::timeout(LIMIT, agents.stop()).await.expect("stopping is bounded");
}

async fn ready(bus: &Bus, queue: &str, expected: u64) {
    eventually(&format!("{expected} in `{queue}`"), async || {
        let stats = bus.broker().stats(&bus.queue(queue)).await.unwrap();
        assert!(stats.ready <= expected, "{} in `{queue}`, not {expected}", stats.ready);
        (stats.ready == expected).then_some(())
    })
    .await;
}

async fn nobody_consumes(bus: &Bus, queue: &str) {
    eventually(&format!("nobody to consume from `{queue}`"), async || {
        let stats = bus.broker().stats(&bus.queue(queue)).await.unwrap();
        (stats.consumers == 0).then_some(())
    })
    .await;
}

/// Fails to start, or starts.
struct Starter {
    name: &'static str,
    fails: bool,
    twice: bool,
    stopped: Arc<AtomicBool>,
}

impl Agent for Starter {
    fn name(&self) -> &'static str {
        self.name
    }

    fn routes(&self) -> Routes<Self> {
        let routes = Routes::new().on(HAPPENED, Self::happened);
        if self.twice { routes.on(HAPPENED, Self::happened) } else { routes }
    }

    async fn on_start(&self, _: &Client) -> Result<(), BoxError> {
        if self.fails { Err("no prices today".into()) } else { Ok(()) }
    }

    async fn on_stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

impl Starter {
    fn good(stopped: &Arc<AtomicBool>) -> Self {
        Self { name: "good", fails: false, twice: false, stopped: Arc::clone(stopped) }
    }

    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }
}

on_each_bus! {
    async fn stopping_with_500_in_flight_loses_none(bus: Bus) {
        let client = client(&bus, Duration::from_millis(300));
        let stuck = Worker::new(Mood::Stuck);
        let agents = start(&client, &stuck).await;
        publish(&client, 1000).await;
        eventually("500 in flight", async || {
            (stuck.begun.load(Ordering::Relaxed) - u32::try_from(stuck.done().len()).unwrap() == u32::from(IN_FLIGHT)).then_some(())
        }).await;
        stop(agents).await;
        let done = stuck.done();
        nobody_consumes(&bus, "worker").await;
        ready(&bus, "worker", 1000 - done.len() as u64).await;

        let quick = Worker::new(Mood::Quick);
        let agents = start(&client, &quick).await;
        eventually("the rest", async || (quick.done().len() == 1000 - done.len()).then_some(())).await;
        assert!(quick.done().is_disjoint(&done), "none is handled twice that was done");
        assert!(quick.redelivered.load(Ordering::Relaxed) >= u32::from(IN_FLIGHT));
        stop(agents).await;
        ready(&bus, "worker", 0).await;
        ready(&bus, "worker.dlq", 0).await;
    }

    async fn handlers_that_end_when_told_to_are_waited_for(bus: Bus) {
        let client = client(&bus, Duration::from_secs(1));
        let obedient = Worker::new(Mood::Obedient);
        let agents = start(&client, &obedient).await;
        publish(&client, 600).await;
        eventually("500 in flight", async || {
            (obedient.begun.load(Ordering::Relaxed) == u32::from(IN_FLIGHT)).then_some(())
        }).await;
        stop(agents).await;
        assert_eq!(obedient.done().len(), usize::from(IN_FLIGHT));
        ready(&bus, "worker", 100).await;
    }

    async fn a_batch_that_never_ends_is_given_back(bus: Bus) {
        let client = client(&bus, Duration::from_millis(200));
        let stuck = Worker::new(Mood::Stuck);
        let runtime = Runtime::new(client.clone()).agent(Bulk(stuck.clone()));
        let agents = runtime.start().await.unwrap();
        publish(&client, 200).await;
        eventually("a batch", async || (stuck.begun.load(Ordering::Relaxed) > 0).then_some(())).await;
        stop(agents).await;
        ready(&bus, "worker", 200).await;
    }

    async fn a_shutdown_stops_the_agents_and_closes_the_bus(bus: Bus) {
        let client = client(&bus, LIMIT);
        let quick = Worker::new(Mood::Quick);
        let agents = start(&client, &quick).await;
        publish(&client, 10).await;
        let all = async || (quick.done().len() == 10).then_some(());
        tokio::time::timeout(LIMIT, agents.run_until(eventually("all", all))).await.unwrap();
        let late = client.publish(HAPPENED, &Event { number: 11 }).await;
        assert!(matches!(late, Err(PublishError::Closed { .. })), "{late:?}");
        assert_eq!(client.broker().health().borrow().stage, Stage::Closed);
    }

    async fn dropped_agents_take_no_more_and_finish_what_they_have(bus: Bus) {
        let client = client(&bus, Duration::from_millis(200));
        let obedient = Worker::new(Mood::Obedient);
        let agents = start(&client, &obedient).await;
        publish(&client, 600).await;
        eventually("500 in flight", async || {
            (obedient.begun.load(Ordering::Relaxed) == u32::from(IN_FLIGHT)).then_some(())
        }).await;
        drop(agents);
        // Not `nobody_consumes`: RabbitMQ counts a consumer until it has settled what it has.
        let quick = Worker::new(Mood::Quick);
        let agents = start(&client, &quick).await;
        eventually("the rest", async || (quick.done().len() == 100).then_some(())).await;
        assert_eq!(obedient.begun.load(Ordering::Relaxed), u32::from(IN_FLIGHT));
        stop(agents).await;
        ready(&bus, "worker", 0).await;
    }

    async fn of_two_runtimes_one_goes_on(bus: Bus) {
        let client = client(&bus, LIMIT);
        let (first, second) = (Worker::new(Mood::Quick), Worker::new(Mood::Quick));
        let agents = start(&client, &first).await;
        let others = start(&client, &second).await;
        let (published, ()) = tokio::join!(publish(&client, 1000), stop(agents));
        let () = published;
        eventually("all events", async || {
            (first.done().len() + second.done().len() == 1000).then_some(())
        }).await;
        assert!(first.done().is_disjoint(&second.done()));
        stop(others).await;
        ready(&bus, "worker", 0).await;
    }

    async fn a_failing_on_start_stops_everybody(bus: Bus) {
        let stopped = Arc::default();
        let failing = Starter { name: "failing", fails: true, twice: false, stopped: Arc::default() };
        let runtime = Runtime::new(bus.client()).agent(Starter::good(&stopped)).agent(failing);
        let error = runtime.start().await.unwrap_err();
        assert!(matches!(&error, StartError::OnStart { agent, .. } if agent == "failing"), "{error:?}");
        nobody_consumes(&bus, "good").await;
        nobody_consumes(&bus, "failing").await;
        assert!(stopped.load(Ordering::Relaxed), "what was started is stopped, as by `stop`");
        bus.client().publish(HAPPENED, &Event { number: 1 }).await.unwrap();
        ready(&bus, "good", 1).await;
    }

    async fn bad_routes_start_nobody(bus: Bus) {
        let stopped = Arc::default();
        let bad = Starter { name: "bad", fails: false, twice: true, stopped: Arc::default() };
        let runtime = Runtime::new(bus.client()).agent(Starter::good(&stopped)).agent(bad);
        let error = runtime.start().await.unwrap_err();
        assert!(matches!(&error, StartError::Routes { agent, .. } if agent == "bad"), "{error:?}");
        nobody_consumes(&bus, "good").await;
        assert!(!stopped.load(Ordering::Relaxed), "it never started");
    }
}

/// Never ends stopping.
struct Endless;

impl Agent for Endless {
    fn name(&self) -> &'static str {
        "endless"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new()
    }

    async fn on_stop(&self) {
        std::future::pending::<()>().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_on_stop_that_never_ends_is_left_behind() {
    let runtime = Runtime::new(Bus::memory().client()).agent(Endless);
    let agents = runtime.start().await.unwrap();
    let patience = 3 * Config::default().shutdown_grace;
    tokio::time::timeout(patience, agents.stop()).await.expect("stopping is bounded");
}

/// Panics when it stops.
struct Panics;

impl Agent for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on_each(HAPPENED, Self::happened)
    }

    async fn on_stop(&self) {
        panic!("it is over");
    }
}

impl Panics {
    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_on_stop_that_panics_keeps_nothing_from_ending() {
    let bus = Bus::memory();
    let agents = Runtime::new(bus.client()).agent(Panics).start().await.unwrap();
    agents.client().publish(HAPPENED, &Event { number: 0 }).await.unwrap();
    agents.shutdown().await;
    let client = bus.client();
    let published = client.publish(HAPPENED, &Event { number: 1 }).await;
    assert!(matches!(published, Err(PublishError::Closed { .. })), "{published:?}");
}

/// Publishes three events to itself for each one, until they have shrunk to nothing.
#[derive(Clone, Default)]
struct Flooder {
    refused: Arc<AtomicU32>,
}

impl Agent for Flooder {
    fn name(&self) -> &'static str {
        "flooder"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened).on(ASK, Self::answer)
    }
}

impl Flooder {
    async fn happened(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        if let Some(number) = event.number.checked_sub(1) {
            for _ in 0..3 {
                let published = ctx.publish(HAPPENED, &Event { number }).await;
                if matches!(published, Err(PublishError::Refused { .. })) {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                published?;
            }
        }
        Ok(())
    }

    async fn answer(&self, asked: Question, _: &Context) -> Result<Answer, HandlerError> {
        Ok(Answer { text: asked.text })
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_floods_itself_is_refused_and_goes_on() {
    let mut config = Config::default();
    config.publish_timeout = Duration::from_secs(1);
    config.max_queue_length = 50;
    for policy in [RetryPolicy::none(), RetryPolicy::default()] {
        let bus = TestBus::with_config(config.clone()).with_patience(Duration::from_hours(10));
        let client = bus.client();
        let flooder = Flooder::default();
        let agents = bus.start(|runtime| runtime.retry(policy).agent(flooder.clone())).await;
        client.publish(HAPPENED, &Event { number: 6 }).await.unwrap();
        bus.drained().await;
        assert!(flooder.refused.load(Ordering::Relaxed) > 0);
        let answer = client.request(ASK, &question("still there?")).await.unwrap();
        assert_eq!(answer.text, "still there?");
        let counts = agents.counts("flooder").unwrap();
        println!("{counts:?}, {} refused", flooder.refused.load(Ordering::Relaxed));
        agents.stop().await;
    }
}

async fn held_ones_are_given_back(bus: Bus) {
    let mut config = bus.config.clone();
    config.shutdown_grace = Duration::from_millis(300);
    config.prefetch = IN_FLIGHT;
    config.dead_letters.max_length = 5;
    let client = Client::with_config(Arc::clone(bus.broker()), config);
    let worker = Worker::new(Mood::Failing);
    let agents = start(&client, &worker).await;
    let counts = || agents.counts("worker").unwrap();
    let mut published = 0;
    // RabbitMQ takes some more than a queue has room for.
    while counts().held < 3 {
        assert!(published < 200, "there is room for everything");
        client.publish(HAPPENED, &Event { number: published }).await.unwrap();
        published += 1;
        eventually("room or none", async || {
            let counts = counts();
            (counts.held + counts.dead_lettered == u64::from(published)).then_some(())
        })
        .await;
    }
    stop(agents).await;
    nobody_consumes(&bus, "worker").await;
    let kept = bus.broker().stats(&bus.queue("worker.dlq")).await.unwrap().ready;
    let rest = u64::from(published) - kept;
    ready(&bus, "worker", rest).await;
    // As the first attempt, each of them.
    let quick = Worker::new(Mood::Quick);
    let agents = start(&client, &quick).await;
    eventually("the rest", async || (quick.done().len() as u64 == rest).then_some(())).await;
    stop(agents).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_room_among_the_dead_letters_is_given_back() {
    held_ones_are_given_back(Bus::memory()).await;
}

#[cfg(feature = "rabbitmq")]
#[tokio::test]
async fn what_waits_for_room_among_the_dead_letters_is_given_back_to_rabbitmq() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    held_ones_are_given_back(bus).await;
}
