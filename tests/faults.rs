//! What breaks between an agent and RabbitMQ: service resumes by itself, requests end, and health
//! tells meanwhile what is the matter.

#![cfg(feature = "rabbitmq")]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use agentbus::{
    Agent, Client, Config, Context, Envelope, HandlerError, PublishError, RequestError,
    RequestOptions, Routes, Running, Runtime,
    broker::{Health, Stage},
    message::Id,
};
use lapin::{
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use support::{
    bus::Bus,
    eventually,
    messages::{ASK, Answer, Event, HAPPENED, Question, question},
    rabbitmq::{self, node::Node},
    relay::{Cut, Relay, Side},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{sleep, timeout},
};

/// For what hangs.
const LIMIT: Duration = Duration::from_mins(1);

/// Tells of each event, and answers questions when it may.
#[derive(Clone)]
struct Witness {
    events: mpsc::UnboundedSender<u32>,
    asked: Arc<Mutex<Vec<Asked>>>,
    may_answer: Arc<Semaphore>,
}

/// How a question came.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    message_id: Option<Id>,
    correlation_id: Option<Id>,
    attempt: u32,
    is_redelivered: bool,
}

impl Agent for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened).on(ASK, Self::answer)
    }
}

impl Witness {
    fn new() -> (Self, mpsc::UnboundedReceiver<u32>) {
        let (events, seen) = mpsc::unbounded_channel();
        let may_answer = Arc::new(Semaphore::new(0));
        (Self { events, asked: Arc::default(), may_answer }, seen)
    }

    async fn happened(&self, event: Event, _: &Context) -> Result<(), HandlerError> {
        self.events.send(event.number)?;
        Ok(())
    }

    async fn answer(&self, asked: Question, ctx: &Context) -> Result<Answer, HandlerError> {
        self.asked.lock().unwrap().push(Asked {
            message_id: ctx.message_id().cloned(),
            correlation_id: ctx.correlation_id().cloned(),
            attempt: ctx.attempt(),
            is_redelivered: ctx.is_redelivered(),
        });
        self.may_answer.acquire().await?.forget();
        Ok(Answer { text: asked.text })
    }

    async fn asked(&self, times: usize) {
        let asked = async {
            while self.asked.lock().unwrap().len() < times {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, asked).await.expect("the question comes");
    }
}

/// An agent behind a relay, and a client that is not.
struct Broken {
    bus: Bus,
    relay: Relay,
    agents: Running,
    witness: Witness,
    seen: mpsc::UnboundedReceiver<u32>,
}

impl Broken {
    async fn start(change: impl FnOnce(&mut Config)) -> Option<Self> {
        let bus = Bus::rabbitmq().await?;
        let relay = bus.relay().await;
        let client = bus.through(&relay, change).await;
        let (witness, seen) = Witness::new();
        let agents = Runtime::new(client).agent(witness.clone()).start().await.unwrap();
        // Known by name, so that they are removed.
        bus.queue("witness");
        bus.queue("witness.dlq");
        Some(Self { bus, relay, agents, witness, seen })
    }

    /// Publishes past the relay, and waits for the agent behind it to handle that.
    async fn works(&mut self, number: u32) {
        self.bus.client().publish(HAPPENED, &Event { number }).await.unwrap();
        let handled = async { while self.seen.recv().await.unwrap() != number {} };
        timeout(LIMIT, handled).await.expect("service resumes");
    }

    async fn stop(self) {
        self.agents.shutdown().await;
        drop(self.relay);
    }
}

fn as_it_is(_: &mut Config) {}

/// Closes the way, and waits until nobody is on it any more.
async fn close(relay: &Relay) {
    relay.refuse(true).await;
    relay.cut(Cut::Reset);
    eventually("the last connection", async || (relay.open() == 0).then_some(())).await;
}

async fn at(health: &mut watch::Receiver<Health>, stage: Stage) -> Health {
    let reached = timeout(LIMIT, health.wait_for(|health| health.stage == stage)).await;
    reached.unwrap_or_else(|_| panic!("it never is {stage}")).unwrap().clone()
}

async fn publish(client: &Client, number: u32) -> Result<(), PublishError> {
    let published = timeout(LIMIT, client.publish(HAPPENED, &Event { number })).await;
    published.expect("publishing is bounded").map(drop)
}

/// Publishes as often as it takes.
async fn publish_surely(client: &Client, number: u32) {
    let published = async {
        let mut outcome = publish(client, number).await;
        while let Err(error @ PublishError::Unconfirmed { .. }) = outcome {
            outcome = client.publish_envelope(error.into_envelope()).await.map(drop);
        }
        outcome.unwrap();
    };
    timeout(LIMIT, published).await.expect("what is published is taken in the end");
}

#[tokio::test]
async fn cut_connections_are_made_anew_however_they_end() {
    let Some(mut broken) = Broken::start(as_it_is).await else { return };
    let mut health = broken.agents.watch_health();
    for (number, cut) in [(1, Cut::Finish), (2, Cut::Reset)] {
        broken.works(number).await;
        let accepted = broken.relay.accepted();
        broken.relay.cut(cut);
        broken.works(number + 10).await;
        assert!(broken.relay.accepted() > accepted, "over a new connection");
        at(&mut health, Stage::Consuming).await;
        publish_surely(broken.agents.client(), number + 20).await;
    }
    broken.stop().await;
}

#[tokio::test]
async fn a_cut_in_mid_handler_leaves_the_attempt_number() {
    let Some(broken) = Broken::start(as_it_is).await else { return };
    let mut asked = Envelope::encode(&question("why"));
    asked.topic = Some(ASK.name().clone());
    asked.metadata.attempt = Some(3);
    broken.bus.client().publish_envelope(asked).await.unwrap();
    broken.witness.asked(1).await;
    broken.relay.cut(Cut::Reset);
    broken.witness.asked(2).await;
    let asked = broken.witness.asked.lock().unwrap().clone();
    assert_eq!(asked[0], Asked { attempt: 3, is_redelivered: false, ..asked[0].clone() });
    assert_eq!(asked[1], Asked { is_redelivered: true, ..asked[0].clone() });
    broken.witness.may_answer.add_permits(2);
    broken.stop().await;
}

#[tokio::test]
async fn a_half_open_connection_is_given_up_by_either_side() {
    let beats = |config: &mut Config| config.heartbeat = Duration::from_secs(1);
    let Some(mut broken) = Broken::start(beats).await else { return };
    for (number, alone) in [(1, Side::Client), (2, Side::Server)] {
        broken.works(number).await;
        broken.relay.half_open(alone);
        broken.works(number + 10).await;
        at(&mut broken.agents.watch_health(), Stage::Consuming).await;
        publish_surely(broken.agents.client(), number + 20).await;
    }
    broken.stop().await;
}

#[tokio::test]
async fn while_dials_are_refused_publishes_end_and_health_says_why() {
    let bound = |config: &mut Config| config.publish_timeout = Duration::from_secs(2);
    let Some(mut broken) = Broken::start(bound).await else { return };
    let mut health = broken.agents.watch_health();
    broken.works(1).await;
    close(&broken.relay).await;
    let dialling = at(&mut health, Stage::Dialling).await;
    assert!(!dialling.detail.is_empty());
    let unsent = publish(broken.agents.client(), 2).await.unwrap_err();
    assert!(matches!(unsent, PublishError::Unconfirmed { .. }), "{unsent}");
    let told = health.wait_for(|health| health.detail.contains("cannot be reached"));
    assert_eq!(timeout(LIMIT, told).await.expect("why").unwrap().stage, Stage::Dialling);
    broken.relay.refuse(false).await;
    at(&mut health, Stage::Consuming).await;
    publish_surely(broken.agents.client(), 3).await;
    broken.works(4).await;
    broken.stop().await;
}

#[tokio::test]
async fn an_idempotent_request_is_sent_again_when_its_reply_is_lost() {
    let Some(broken) = Broken::start(as_it_is).await else { return };
    // The agent's connection holds; the asker's does not.
    let relay = broken.bus.relay().await;
    let client = broken.bus.through(&relay, as_it_is).await;
    let asking = |options: RequestOptions| {
        let client = client.clone();
        tokio::spawn(async move { client.request_with(ASK, &question("why"), options).await })
    };
    let timeout_of = |timeout| RequestOptions::default().timeout(timeout);

    let asked = asking(timeout_of(LIMIT).idempotent());
    broken.witness.asked(1).await;
    relay.cut(Cut::Reset);
    broken.witness.asked(2).await;
    let may_answer = &broken.witness.may_answer;
    may_answer.add_permits(2);
    assert_eq!(timeout(LIMIT, asked).await.unwrap().unwrap().unwrap().text, "why");
    let asked = std::mem::take(&mut *broken.witness.asked.lock().unwrap());
    assert!(asked[0].message_id.is_some() && asked[0].correlation_id.is_some());
    assert!(asked.iter().all(|other| *other == asked[0]), "{asked:?}");

    // Without being told that it may, none is sent again.
    let asked = asking(timeout_of(Duration::from_secs(8)));
    broken.witness.asked(1).await;
    relay.cut(Cut::Reset);
    at(&mut client.broker().health(), Stage::Consuming).await;
    may_answer.add_permits(1);
    let ended = timeout(LIMIT, asked).await.unwrap().unwrap();
    assert!(matches!(ended, Err(RequestError::TimedOut { .. })), "{ended:?}");
    assert_eq!(broken.witness.asked.lock().unwrap().len(), 1);
    client.close().await;
    broken.stop().await;
}

#[tokio::test]
async fn an_idempotent_request_that_was_not_confirmed_is_sent_when_it_can_be() {
    let Some(broken) = Broken::start(as_it_is).await else { return };
    let relay = broken.bus.relay().await;
    let bound = |config: &mut Config| config.publish_timeout = Duration::from_secs(1);
    let client = broken.bus.through(&relay, bound).await;
    broken.witness.may_answer.add_permits(10);
    let ask = async |options: RequestOptions| {
        timeout(LIMIT, client.request_with(ASK, &question("why"), options)).await.unwrap()
    };
    ask(RequestOptions::default()).await.unwrap();
    close(&relay).await;
    let short = RequestOptions::default().timeout(Duration::from_secs(3));
    let ended = ask(short).await;
    assert!(matches!(ended, Err(RequestError::Publish { .. })), "{ended:?}");
    let again = RequestOptions::default().timeout(LIMIT).idempotent();
    let (answered, ()) = tokio::join!(ask(again), async {
        // Longer than a publish waits.
        sleep(Duration::from_millis(1500)).await;
        relay.refuse(false).await;
    });
    assert_eq!(answered.unwrap().text, "why");
    client.close().await;
    broken.stop().await;
}

#[tokio::test]
async fn an_agent_whose_queue_is_taken_by_another_is_not_healthy_until_it_is_given_back() {
    let Some(mut broken) = Broken::start(as_it_is).await else { return };
    let mut health = broken.agents.watch_health();
    broken.works(1).await;
    let url = rabbitmq::address(&broken.bus.config);
    let foreign = lapin::Connection::connect(&url, lapin::ConnectionProperties::default());
    let foreign = foreign.await.unwrap();
    let queue = broken.bus.queue("witness");
    // Between the two, the agent may have declared its own again.
    let taken = async || {
        let channel = foreign.create_channel().await.unwrap();
        let options = QueueDeleteOptions::default();
        channel.queue_delete(queue.as_str().into(), options).await.unwrap();
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(queue.as_str().into(), options, FieldTable::default());
        declared.await.is_ok().then_some(())
    };
    eventually("the name", taken).await;
    let told = health.wait_for(|health| health.detail.contains("exists with other arguments"));
    let red = timeout(LIMIT, told).await.expect("what differs").unwrap().clone();
    assert_eq!(red.stage, Stage::Connected);
    assert!(red.detail.contains("agent `witness`"), "{}", red.detail);
    assert!(red.detail.contains(&format!("`{queue}`")), "{}", red.detail);

    let channel = foreign.create_channel().await.unwrap();
    let options = QueueDeleteOptions::default();
    channel.queue_delete(queue.as_str().into(), options).await.unwrap();
    at(&mut health, Stage::Consuming).await;
    broken.works(2).await;
    drop(foreign.close(200, "done".into()).await);
    broken.stop().await;
}

#[tokio::test]
async fn an_agent_lives_through_an_alarm_and_a_restart_of_its_broker() {
    if let Err(reason) = Node::installed() {
        return rabbitmq::skipped(&reason);
    }
    let node = Node::start().await.expect("a node starts where RabbitMQ is installed");
    let mut config = Config::default();
    config.bus = Node::url(node.address().port()).parse().unwrap();
    config.publish_timeout = Duration::from_secs(2);
    let client = Client::connect(config).await.unwrap();
    let (witness, mut seen) = Witness::new();
    let agents = Runtime::new(client.clone()).agent(witness).start().await.unwrap();
    let mut health = agents.watch_health();
    publish_surely(&client, 1).await;

    node.raise_alarm().await.unwrap();
    let unsent = publish(&client, 2).await.unwrap_err();
    assert!(matches!(unsent, PublishError::Unconfirmed { .. }), "{unsent}");
    let blocked = at(&mut health, Stage::Blocked).await;
    assert!(!blocked.detail.is_empty());
    node.clear_alarm().await.unwrap();
    at(&mut health, Stage::Consuming).await;
    publish_surely(&client, 3).await;

    node.stop_app().await.unwrap();
    at(&mut health, Stage::Dialling).await;
    node.start_app().await.unwrap();
    at(&mut health, Stage::Consuming).await;
    publish_surely(&client, 4).await;
    let handled = async { while seen.recv().await.unwrap() != 4 {} };
    timeout(LIMIT, handled).await.expect("service resumes");
    agents.shutdown().await;
}
