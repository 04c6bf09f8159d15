//! A connection to RabbitMQ that falls silent: it is given up and made anew long before heartbeats
//! would tell, whatever it was in the middle of.
//!
//! Heartbeats are five minutes apart here, and any answer is waited for as long, so that service can be
//! back for one reason only.

#![cfg(feature = "rabbitmq")]

mod support;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use agentbus::{
    Agent, Client, Config, Context, HandlerError, PublishError, Routes, Running, Runtime,
    broker::{
        Stage,
        rabbitmq::{Host, RabbitMq, RabbitOptions},
    },
};
use futures::future::join_all;
use support::{
    bus::Bus,
    messages::{Event, HAPPENED},
    rabbitmq,
    relay::{Cut, Relay},
};
use tokio::{sync::mpsc, time::timeout};

/// How long the bus waits by itself, for heartbeats as for answers.
const AGES: Duration = Duration::from_mins(5);

/// For what hangs, well below that.
const LIMIT: Duration = Duration::from_mins(2);

/// How many lengths are tried of a connection that falls silent.
const LENGTHS: u64 = 16;

/// Tells of each event.
struct Witness(mpsc::UnboundedSender<u32>);

impl Agent for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened)
    }
}

impl Witness {
    async fn happened(&self, event: Event, _: &Context) -> Result<(), HandlerError> {
        self.0.send(event.number)?;
        Ok(())
    }
}

/// A client behind a relay that waits long for everything.
async fn patient(config: &Config, relay: &Relay) -> Client {
    let url = rabbitmq::address(config);
    let mut options = RabbitOptions::from_url(&url).unwrap();
    let relay = relay.address();
    options.hosts = vec![Host { name: relay.ip().to_string(), port: relay.port() }];
    options.exchange = config.exchange.clone().into();
    options.heartbeat = AGES;
    options.operation_timeout = AGES;
    let broker = RabbitMq::connect(options).await.expect("the relay lets through");
    Client::with_config(Arc::new(broker), config.clone())
}

/// An agent behind a relay, and a client that is not.
struct Case {
    bus: Bus,
    relay: Relay,
    agents: Running,
    seen: mpsc::UnboundedReceiver<u32>,
}

impl Case {
    async fn start() -> Option<Self> {
        let bus = Bus::rabbitmq().await?;
        let relay = bus.relay().await;
        let client = patient(&bus.config, &relay).await;
        let (events, seen) = mpsc::unbounded_channel();
        let agents = Runtime::new(client).agent(Witness(events)).start().await.unwrap();
        // Known by name, so that they are removed.
        bus.queue("witness");
        bus.queue("witness.dlq");
        Some(Self { bus, relay, agents, seen })
    }

    /// Ends the connections, and waits until all is set up again; returns how many bytes that took
    /// on the connection that took more.
    async fn length(&self) -> u64 {
        let mut health = self.agents.watch_health();
        health.mark_unchanged();
        self.relay.bytes_of_newest();
        self.relay.cut(Cut::Reset);
        for wanted in [false, true] {
            let reached = health.wait_for(|health| (health.stage == Stage::Consuming) == wanted);
            timeout(LIMIT, reached).await.expect("service resumes").unwrap();
        }
        self.relay.bytes_of_newest().into_iter().max().expect("a new connection")
    }

    /// Ends the connections; the next ones fall silent after so many bytes.
    async fn survives(&mut self, connections: usize, bytes: u64) {
        let case = format!("{connections} connections that fall silent after {bytes} bytes");
        self.relay.mute(connections, bytes);
        self.relay.cut(Cut::Reset);
        let number = u32::try_from(bytes).unwrap();
        self.bus.client().publish(HAPPENED, &Event { number }).await.unwrap();
        // Handled in any order, and perhaps more than once.
        let mut missing = BTreeSet::from([number, number + 1]);
        let works = async {
            publish_surely(self.agents.client(), number + 1).await;
            while !missing.is_empty() {
                missing.remove(&self.seen.recv().await.unwrap());
            }
        };
        timeout(LIMIT, works).await.unwrap_or_else(|_| panic!("{missing:?} are missing: {case}"));
    }

    async fn stop(self) {
        // A connection that has not come so far yet must not fall silent now.
        self.relay.cut(Cut::Reset);
        self.agents.shutdown().await;
        drop(self.relay);
    }
}

/// Publishes as often as it takes.
async fn publish_surely(client: &Client, number: u32) {
    let mut outcome = client.publish(HAPPENED, &Event { number }).await.map(drop);
    while let Err(error @ PublishError::Unconfirmed { .. }) = outcome {
        outcome = client.publish_envelope(error.into_envelope()).await.map(drop);
    }
    outcome.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_falls_silent_at_any_step_is_made_anew() {
    let Some(measured) = Case::start().await else { return };
    let whole = measured.length().await;
    measured.stop().await;
    // From the first byte to the last, where each consumer has just been registered.
    let lengths = (0..LENGTHS).map(|at| {
        let step = whole / LENGTHS;
        at * step + fastrand::u64(..step)
    });
    let cases = lengths.chain([0]).map(async |bytes| {
        let mut case = Case::start().await.expect("it was there a moment ago");
        case.survives(2, bytes).await;
        case.stop().await;
    });
    join_all(cases).await;
}

#[tokio::test]
async fn a_broker_that_is_silent_again_and_again_is_waited_for_longer() {
    let Some(mut case) = Case::start().await else { return };
    case.survives(6, 700).await;
    case.stop().await;
}
