//! An agent that tells what it was handed, and the foreign client that hands it over.

use agentbus::{
    Agent, Context, Envelope, HandlerError, Routes, Running, Runtime, Topic,
    broker::Deliveries,
    message::{FailureKind, Metadata},
};
use lapin::{BasicProperties, types::AMQPValue, types::FieldTable};
use tokio::sync::mpsc;

use crate::support::{
    bus::Bus,
    foreign::{Foreign, short},
    messages::{ASK, Answer, Event, HAPPENED, Letter, Question},
};

/// Whose messages carry their metadata in field 1.
pub(crate) const WRITTEN: Topic<Letter> =
    Topic::<Letter>::new("test.written").with_metadata_field(1);

/// What a handler was given.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) metadata: Metadata,
    pub(crate) number: u32,
}

#[derive(Clone)]
struct Listener {
    heard: mpsc::UnboundedSender<Heard>,
}

impl Listener {
    fn tell(&self, ctx: &Context, number: u32) {
        let heard = Heard { metadata: ctx.metadata().clone(), number };
        self.heard.send(heard).expect("the test listens");
    }
}

impl Agent for Listener {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new()
            .on(HAPPENED, Self::happened)
            .on(WRITTEN, Self::written)
            .on(ASK, Self::asked)
            .on("raw.#", Self::raw)
    }
}

impl Listener {
    async fn happened(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        self.tell(ctx, event.number);
        Ok(())
    }

    async fn written(&self, _: Letter, ctx: &Context) -> Result<(), HandlerError> {
        self.tell(ctx, 0);
        Ok(())
    }

    async fn asked(&self, asked: Question, ctx: &Context) -> Result<Answer, HandlerError> {
        self.tell(ctx, asked.number);
        Ok(Answer { text: asked.text })
    }

    async fn raw(&self, _: Envelope, ctx: &Context) -> Result<(), HandlerError> {
        self.tell(ctx, 0);
        Ok(())
    }
}

/// The agent at work, its dead letters, and somebody who publishes to it.
pub(crate) struct Scene {
    heard: mpsc::UnboundedReceiver<Heard>,
    pub(crate) letters: Deliveries,
    pub(crate) foreign: Foreign,
    pub(crate) agents: Running,
    pub(crate) bus: Bus,
}

impl Scene {
    /// Starts; `None` where there is no RabbitMQ.
    pub(crate) async fn start() -> Option<Self> {
        let bus = Bus::rabbitmq().await?;
        let (sender, heard) = mpsc::unbounded_channel();
        let runtime = Runtime::new(bus.client()).agent(Listener { heard: sender });
        let agents = runtime.start().await.expect("the agent starts");
        let foreign = Foreign::connect(&bus.config, None).await;
        let letters = bus.broker().consume(&bus.queue("listener.dlq"), 10).await;
        Some(Self { heard, letters: letters.expect("dead letters"), foreign, agents, bus })
    }

    pub(crate) async fn publish(&self, topic: &str, properties: BasicProperties, body: &[u8]) {
        self.foreign.publish(&self.bus.config.exchange, topic, properties, body).await;
    }

    /// Publishes an event with this number.
    pub(crate) async fn publish_event(&self, number: u8, properties: BasicProperties) {
        self.publish(HAPPENED.name(), properties, &event(number)).await;
    }

    /// What the next message was handed over as; the dead letter it became instead is a failure.
    pub(crate) async fn heard(&mut self) -> Heard {
        tokio::select! {
            heard = self.heard.recv() => heard.expect("the agent is there"),
            letter = self.letters.next() => {
                let letter = letter.expect("the bus is there");
                panic!("a dead letter: {:?}", letter.envelope().metadata.failure)
            }
            () = tokio::time::sleep(std::time::Duration::from_mins(1)) => panic!("nothing came"),
        }
    }

    /// The next dead letter, with its kind; what is handled instead is a failure.
    pub(crate) async fn dead_letter(&mut self) -> (FailureKind, Envelope) {
        tokio::select! {
            letter = self.letters.next() => {
                let letter = letter.expect("the bus is there");
                let envelope = letter.envelope().clone();
                letter.ack();
                let failure = envelope.metadata.failure.clone().expect("a failure");
                (failure.kind, envelope)
            }
            heard = self.heard.recv() => panic!("handled: {heard:?}"),
            () = tokio::time::sleep(std::time::Duration::from_mins(1)) => panic!("nothing came"),
        }
    }
}

/// The body of a `test.v1.Event`.
pub(crate) fn event(number: u8) -> [u8; 2] {
    assert!(number < 0x80, "more takes another byte");
    [0x08, number]
}

/// Properties with these headers alone.
pub(crate) fn with_headers<'a>(
    headers: impl IntoIterator<Item = (&'a str, AMQPValue)>,
) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(short(name), value);
    }
    BasicProperties::default().with_headers(table)
}

pub(crate) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
