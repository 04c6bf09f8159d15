//! The workloads on agentbus: typed agents, typed messages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use agentbus::{Agent, Client, Context, HandlerError, Routes, Running, Runtime, Topic};
use futures::{StreamExt as _, stream};
use tokio::sync::Notify;

use super::{
    bare,
    bed::Bed,
    measure::{Figures, Meter},
    message::{ECHO, Sample, TOPIC, samples, topic_of},
    plan::{Engine, Kind, Run},
};

/// Counts what it gets, and echoes what it is asked.
struct Counter {
    name: String,
    topic: Topic<Sample>,
    count: Arc<Count>,
}

/// How much is still to be handled, by all agents together.
struct Count {
    left: AtomicUsize,
    done: Notify,
}

impl Agent for Counter {
    fn name(&self) -> &str {
        &self.name
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(self.topic.clone(), Self::count).on(ECHO, Self::echo)
    }
}

impl Counter {
    async fn count(&self, sample: Sample, _: &Context) -> Result<(), HandlerError> {
        std::hint::black_box(sample);
        if self.count.left.fetch_sub(1, Relaxed) == 1 {
            self.count.done.notify_one();
        }
        Ok(())
    }

    async fn echo(&self, sample: Sample, _: &Context) -> Result<Sample, HandlerError> {
        Ok(sample)
    }
}

pub async fn measure(run: &Run, bed: &Bed) -> Figures {
    match run.workload.kind {
        Kind::Publish => publish(run, bed).await,
        Kind::Handle => handle(run, bed).await,
        Kind::Pipe => pipe(run, bed).await,
        Kind::Request { in_flight } => requests(run, bed, in_flight).await,
        Kind::Fanout { agents } => spread(run, bed, agents, true).await,
        Kind::Agents { agents } => spread(run, bed, agents, false).await,
    }
}

fn count(left: usize) -> Arc<Count> {
    Arc::new(Count { left: left.into(), done: Notify::new() })
}

/// Starts agents; the first is `bench` where there is only one.
async fn start(client: &Client, agents: Vec<Counter>) -> Running {
    let mut runtime = Runtime::new(client.clone());
    for agent in agents {
        runtime = runtime.agent(agent);
    }
    runtime.start().await.expect("the agents can be started")
}

fn one(count: &Arc<Count>) -> Vec<Counter> {
    vec![Counter { name: "bench".to_owned(), topic: TOPIC, count: Arc::clone(count) }]
}

async fn publish_all(client: &Client, run: &Run) {
    let samples = stream::iter(samples(run.workload.body, run.count));
    let mut published = std::pin::pin!(client.publish_many(TOPIC, samples));
    while let Some(result) = published.next().await {
        result.expect("it is taken");
    }
}

/// Makes the agent's queue without an agent that takes from it.
async fn queue(client: &Client) {
    start(client, one(&count(0))).await.shutdown().await;
}

async fn publish(run: &Run, bed: &Bed) -> Figures {
    let (maker, client) = (bed.client().await, bed.client().await);
    let keep = run.system.engine() == Engine::Memory;
    // The embedded bus keeps a queue, but not without a connection.
    queue(&maker).await;
    let meter = Meter::start();
    publish_all(&client, run).await;
    let figures = meter.stop(run.count);
    if keep {
        client.close().await;
    }
    figures
}

async fn handle(run: &Run, bed: &Bed) -> Figures {
    let maker = bed.client().await;
    queue(&maker).await;
    let client = bed.client().await;
    if run.system.engine() == Engine::Memory {
        publish_all(&client, run).await;
    } else {
        bare::fill(run, bed).await;
    }
    let count = count(run.count);
    let meter = Meter::start();
    let running = start(&client, one(&count)).await;
    count.done.notified().await;
    let figures = meter.stop(run.count);
    running.shutdown().await;
    figures
}

async fn pipe(run: &Run, bed: &Bed) -> Figures {
    let client = bed.client().await;
    let count = count(run.count);
    let running = start(&client, one(&count)).await;
    let meter = Meter::start();
    tokio::join!(publish_all(&client, run), count.done.notified());
    let figures = meter.stop(run.count);
    running.shutdown().await;
    figures
}

async fn requests(run: &Run, bed: &Bed, in_flight: usize) -> Figures {
    let (server, client) = (bed.client().await, bed.client().await);
    let running = start(&server, one(&count(0))).await;
    let first = samples(run.workload.body, 1).next().expect("a sample");
    // Whatever the first request sets up.
    client.request(ECHO, &first).await.expect("a reply");
    let mut meter = Meter::start();
    let asked = samples(run.workload.body, run.count).map(|sample| {
        let client = &client;
        async move {
            let asked = Instant::now();
            client.request(ECHO, &sample).await.expect("a reply");
            asked.elapsed()
        }
    });
    let mut replies = stream::iter(asked).buffer_unordered(in_flight);
    while let Some(time) = replies.next().await {
        meter.took(time);
    }
    drop(replies);
    let figures = meter.stop(run.count);
    running.shutdown().await;
    figures
}

/// To many agents: to each a copy, or to each in turn.
async fn spread(run: &Run, bed: &Bed, agents: usize, copies: bool) -> Figures {
    let client = bed.client().await;
    let handled = if copies { run.count * agents } else { run.count };
    let count = count(handled);
    let topic = |agent| if copies { TOPIC } else { topic_of(agent) };
    let all = (0..agents).map(|agent| Counter {
        name: format!("agent-{agent}"),
        topic: topic(agent),
        count: Arc::clone(&count),
    });
    let running = start(&client, all.collect()).await;
    let topics: Vec<_> = (0..agents).map(topic).collect();
    let meter = Meter::start();
    let window = usize::from(client.config().confirm_window);
    let publishing = stream::iter(samples(run.workload.body, run.count).enumerate())
        .map(|(i, sample)| {
            let (client, topic) = (&client, topics[i % topics.len()].clone());
            async move { client.publish(topic, &sample).await.expect("it is taken") }
        })
        .buffered(window)
        .for_each(|_| async {});
    tokio::join!(publishing, count.done.notified());
    let figures = meter.stop(handled);
    running.shutdown().await;
    figures
}
