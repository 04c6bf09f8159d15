//! The exchange of another system: joined as it is, and its own dead letters stay its own.

use std::time::Duration;

use agentbus::{
    Agent, Client, Config, Context, HandlerError, PublishOptions, Routes, Runtime, Topic,
    broker::connect,
    client::DeadLetterFilter,
    config::Declare,
    message::FailureKind,
    retry::{Backoff, RetryPolicy},
};
use lapin::{
    ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};

use crate::support::{
    bus::Bus,
    eventually,
    foreign::{Foreign, short},
    messages::{ASK, Answer, Event, HAPPENED, Question, question},
    rabbitmq::sweep,
};

const FAILS: Topic<Event> = Topic::new("stage7.fails");
const REJECTED: Topic<Event> = Topic::new("stage7.rejected");

struct Guest;

impl Agent for Guest {
    fn name(&self) -> &'static str {
        "guest"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new()
            .on(ASK, Self::answer)
            .on(HAPPENED, Self::happened)
            .on(FAILS, Self::fail)
            .on(REJECTED, Self::reject)
    }

    fn retry(&self) -> Option<RetryPolicy> {
        let backoff = Backoff::constant(Duration::from_millis(250));
        Some(RetryPolicy::attempts(2).with_backoff(backoff))
    }
}

impl Guest {
    async fn answer(&self, asked: Question, _: &Context) -> Result<Answer, HandlerError> {
        Ok(Answer { text: asked.text })
    }

    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn fail(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        Err(HandlerError::from(std::io::Error::other("out of order")))
    }

    async fn reject(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        Err(HandlerError::reject("not for us"))
    }
}

/// What an operator has set up: an exchange with an alternate one, whose queue keeps what nobody
/// takes, and a queue of theirs whose failures go to a queue of dead letters.
struct TheirSystem {
    foreign: Foreign,
    exchange: String,
}

impl TheirSystem {
    async fn set_up(bus: &Bus) -> Self {
        let foreign = Foreign::connect(&bus.config, None).await;
        let exchange = format!("{}chimera.events", bus.config.queue_prefix);
        let theirs = Self { foreign, exchange };
        theirs.exchange(&theirs.lost(), ExchangeKind::Fanout, FieldTable::default()).await;
        let mut arguments = FieldTable::default();
        arguments.insert("alternate-exchange".into(), text(&theirs.lost()));
        theirs.exchange(&theirs.exchange, ExchangeKind::Topic, arguments).await;
        theirs.queue(&theirs.lost(), FieldTable::default()).await;
        theirs.bind(&theirs.lost(), &theirs.lost(), "").await;
        // Their dead letters: of their queues, by their own exchange.
        theirs.exchange(&theirs.dlx(), ExchangeKind::Topic, FieldTable::default()).await;
        theirs.queue(&theirs.dlq(), FieldTable::default()).await;
        theirs.bind(&theirs.dlq(), &theirs.dlx(), "#").await;
        let mut arguments = FieldTable::default();
        arguments.insert("x-dead-letter-exchange".into(), text(&theirs.dlx()));
        theirs.queue(&theirs.work(), arguments).await;
        theirs.bind(&theirs.work(), &theirs.exchange, "test.happened").await;
        theirs
    }

    fn lost(&self) -> String {
        format!("{}.lost", self.exchange)
    }

    fn dlx(&self) -> String {
        format!("{}.dlx", self.exchange)
    }

    fn dlq(&self) -> String {
        format!("{}.dlq", self.exchange)
    }

    fn work(&self) -> String {
        format!("{}.work", self.exchange)
    }

    async fn exchange(&self, name: &str, kind: ExchangeKind, arguments: FieldTable) {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let channel = &self.foreign.channel;
        channel.exchange_declare(short(name), kind, options, arguments).await.unwrap();
    }

    async fn queue(&self, name: &str, arguments: FieldTable) {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        self.foreign.channel.queue_declare(short(name), options, arguments).await.unwrap();
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let options = QueueBindOptions::default();
        let [queue, exchange, key] = [queue, exchange, key].map(short);
        let channel = &self.foreign.channel;
        channel.queue_bind(queue, exchange, key, options, FieldTable::default()).await.unwrap();
    }

    /// How many messages wait in a queue.
    async fn count(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let declared =
            self.foreign.channel.queue_declare(short(queue), options, FieldTable::default());
        declared.await.unwrap().message_count()
    }

    /// Removes everything, also what the guests made beside the exchange.
    async fn tear_down(self, bus: &Bus) {
        for exchange in [&self.lost(), &self.dlx()] {
            let options = ExchangeDeleteOptions::default();
            self.foreign.channel.exchange_delete(short(exchange), options).await.unwrap();
        }
        let guests = ["guest", "guest.dlq"].map(|name| bus.queue(name));
        let queues = [self.lost(), self.dlq(), self.work()].into_iter().chain(guests);
        sweep(&bus.config.clone().with_exchange(self.exchange.clone()), queues.collect());
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A configuration that joins their exchange.
fn guest_config(bus: &Bus, theirs: &TheirSystem, declare: Declare) -> Config {
    let mut config = bus.config.clone().with_exchange(theirs.exchange.clone());
    config.declare = declare;
    // As it is by default: what agents tell of themselves is nothing for others.
    config.discovery = true;
    config
}

async fn joined(config: Config) -> Client {
    Client::with_config(connect(&config).await.expect("their exchange is there"), config)
}

/// Handles, answers, retries, rejects and dead-letters on their exchange.
async fn live_there(bus: &Bus, theirs: &TheirSystem, client: &Client) {
    let agents = Runtime::new(client.clone()).agent(Guest).start().await.unwrap();
    let answer = client.request(ASK, &question("anybody?")).await.unwrap();
    assert_eq!(answer.text, "anybody?");
    client.publish(HAPPENED, &Event { number: 1 }).await.unwrap();
    client.publish(FAILS, &Event { number: 2 }).await.unwrap();
    client.publish(REJECTED, &Event { number: 3 }).await.unwrap();
    let garbage = lapin::BasicProperties::default().with_content_encoding("gzip".into());
    theirs.foreign.publish(&theirs.exchange, HAPPENED.name(), garbage, &[0xff]).await;

    eventually("what failed to be kept", async || {
        (client.dead_letters("guest").count().await.unwrap() == 3).then_some(())
    })
    .await;
    let mut list = client.dead_letters("guest").list(DeadLetterFilter::default());
    let mut letters = Vec::new();
    while let Some(letter) = list.next().await.unwrap() {
        letters.push(letter);
    }
    let kind = |topic: &str| {
        let of =
            |letter: &&agentbus::client::DeadLetter| letter.topic().is_some_and(|t| t == topic);
        let failure = letters.iter().find(of).and_then(|letter| letter.failure().cloned());
        failure.map(|failure| (failure.kind, failure.attempts))
    };
    assert_eq!(kind("stage7.fails"), Some((FailureKind::Handler, 2)), "tried again, by a delay");
    assert_eq!(kind("stage7.rejected"), Some((FailureKind::Rejected, 1)));
    assert_eq!(kind("test.happened"), Some((FailureKind::ContentType, 1)));
    assert_eq!(theirs.count(&theirs.dlq()).await, 0, "none of ours is among their dead letters");
    assert_eq!(theirs.count(&theirs.lost()).await, 0, "nor among what nobody takes");
    assert_eq!(theirs.count(&theirs.work()).await, 2, "and they get what they are bound to");
    eventually("our queue to be empty", async || {
        let stats = bus.broker().stats(&bus.queue("guest")).await.unwrap();
        (stats.ready == 0).then_some(())
    })
    .await;
    agents.stop().await;
}

#[tokio::test]
async fn what_is_theirs_is_not_declared_over() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let theirs = TheirSystem::set_up(&bus).await;
    let error = connect(&guest_config(&bus, &theirs, Declare::Active)).await.unwrap_err();
    let error = error.to_string();
    for part in ["alternate-exchange", "declare = \"queues\""] {
        assert!(error.contains(part), "no {part} in: {error}");
    }
    theirs.tear_down(&bus).await;
}

#[tokio::test]
async fn joined_with_queues_of_our_own() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let theirs = TheirSystem::set_up(&bus).await;
    let config = guest_config(&bus, &theirs, Declare::Queues);
    let client = joined(config).await;
    live_there(&bus, &theirs, &client).await;
    client.close().await;
    theirs.tear_down(&bus).await;
}

#[tokio::test]
async fn joined_passively_where_an_operator_has_made_the_queues() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let theirs = TheirSystem::set_up(&bus).await;
    let config = guest_config(&bus, &theirs, Declare::Passive);
    let nobody = joined(config.clone()).await;
    let error = Runtime::new(nobody.clone()).agent(Guest).start().await.unwrap_err();
    assert!(format!("{error:?}").contains("Missing"), "{error:?}");
    nobody.close().await;

    // Somebody who may.
    let operator = joined(guest_config(&bus, &theirs, Declare::Queues)).await;
    Runtime::new(operator.clone()).agent(Guest).start().await.unwrap().stop().await;
    // Levels of delay are made when they are first needed.
    let later = PublishOptions::default().deliver_after(Duration::from_millis(250));
    operator.publish_with(HAPPENED, &Event { number: 0 }, later).await.unwrap();
    operator.close().await;

    let client = joined(config).await;
    live_there(&bus, &theirs, &client).await;
    client.close().await;
    theirs.tear_down(&bus).await;
}
