//! The client: typed publishing, asking and subscribing, without an agent.

mod ask;
mod dead_letters;
mod discovery;
mod options;
mod publish;
mod publisher;
mod replies;
mod request;
mod requester;
mod subscriber;
mod subscription;
mod undecoded;

use std::{fmt, sync::Arc};

use self::requester::Requester;
pub use self::{
    dead_letters::{
        DeadLetter, DeadLetterError, DeadLetterFilter, DeadLetterList, DeadLetters,
        LetterJsonError, Purge, Replay, ReplayOptions, ReplayOutcome, Replayed,
    },
    discovery::{
        AGENT_STARTED, AGENT_STOPPED, AgentCard, AgentContract, AgentLoad, AgentRoute, DISCOVER,
        Discovered, Discovery, RouteKind,
    },
    options::{PublishOptions, RequestOptions},
    publisher::Publisher,
    replies::Replies,
    request::RequestError,
    subscriber::{Received, SubscribeError, Subscriber},
    subscription::Subscription,
};
pub(crate) use self::{
    dead_letters::{dead_letter_queue, dead_letter_spec},
    options::Origin,
};
use crate::{
    broker::{Broker, ConnectError, connect},
    config::Config,
    contract::{Contract, Name, Topic},
    message::{Envelope, FromEnvelope, Id, Priority, Timestamp, append_metadata},
};

/// A handle that publishes messages, asks for replies and subscribes; cheap to clone.
///
/// All clones share one inbox for replies. Futures that are dropped leave nothing behind.
///
/// ```
/// use agentbus::{Client, Topic, broker::memory::Memory};
///
/// const TICK: Topic<()> = Topic::new("clock.tick");
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::new(Memory::default());
/// let mut ticks = client.subscribe(TICK).await?;
/// client.publish(TICK, &()).await?;
/// assert_eq!(ticks.next().await.map(|tick| tick.ack()), Some(()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    /// Name that messages are sent under.
    sender: Option<Name>,
}

struct Shared {
    broker: Arc<dyn Broker>,
    config: Config,
    requester: Requester,
}

impl Client {
    /// Makes a client of a broker, with the default configuration.
    #[must_use]
    pub fn new(broker: impl Broker) -> Self {
        Self::with_config(Arc::new(broker), Config::default())
    }

    /// Makes a client of a broker with the time-outs and bounds of `config`; its address is not
    /// looked at.
    #[must_use]
    pub fn with_config(broker: Arc<dyn Broker>, config: Config) -> Self {
        let requester = Requester::new(Arc::clone(&broker), config.max_pending_replies);
        Self { shared: Arc::new(Shared { broker, config, requester }), sender: None }
    }

    /// Connects to the bus that `config` names, and makes a client of it.
    ///
    /// With `memory:`, the default, all connections of this process share one embedded bus, as they
    /// would share a broker; it goes with the last of them.
    ///
    /// # Errors
    ///
    /// Returns why the bus cannot be connected to; passwords are never shown.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        Ok(Self::with_config(connect(&config).await?, config))
    }

    /// Returns a client that sends under a name, which receivers see as the sender.
    #[must_use]
    pub fn named(&self, sender: impl Into<Name>) -> Self {
        Self { shared: Arc::clone(&self.shared), sender: Some(sender.into()) }
    }

    /// Returns the broker.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.shared.broker
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Subscribes to a topic or pattern.
    ///
    /// Unless the subscription names a queue, this subscriber gets a copy of everything, from a
    /// queue of its own that vanishes a minute after it. When this returns, the queue is bound:
    /// what is published from now on arrives.
    ///
    /// # Errors
    ///
    /// Returns an error where the queue cannot be declared or consumed from.
    pub async fn subscribe<M: FromEnvelope>(
        &self,
        subscription: impl Into<Subscription<M>>,
    ) -> Result<Subscriber<M>, SubscribeError> {
        Subscriber::open(self.clone(), subscription.into()).await
    }

    /// Returns a publisher of one topic.
    #[must_use]
    pub fn publisher<M>(&self, topic: Topic<M>) -> Publisher<M> {
        Publisher::new(self.clone(), topic)
    }

    /// Flushes what is being published and closes the bus for all clones.
    pub async fn close(&self) {
        self.shared.broker.close().await;
    }

    /// Fills in who sent the envelope, what it follows from, what its topic's contract says, and the
    /// metadata inside the body.
    fn fill(
        &self,
        origin: Origin<'_>,
        mut envelope: Envelope,
        topic: &Name,
        terms: Terms,
    ) -> Envelope {
        let metadata = &mut envelope.metadata;
        metadata.message_id.get_or_insert_with(Id::new);
        metadata.timestamp.get_or_insert_with(Timestamp::now);
        if metadata.sender.is_none() {
            metadata.sender.clone_from(&self.sender);
        }
        metadata.priority = metadata.priority.or(terms.priority);
        if let Some(contract) = terms.contract.filter(|_| self.shared.config.send_contract) {
            metadata.contract = Some(Box::new(Name::from_static(contract.hash())));
        }
        origin.apply(metadata);
        envelope.topic = Some(topic.clone());
        if let Some(number) = terms.metadata_field {
            let mut body = Vec::from(std::mem::take(&mut envelope.payload));
            append_metadata(&mut body, number, &envelope.metadata);
            envelope.payload = body.into();
        }
        envelope
    }
}

/// What the contract of a topic says of its messages; nothing where there is only a name.
#[derive(Clone, Copy, Debug, Default)]
struct Terms {
    metadata_field: Option<u32>,
    priority: Option<Priority>,
    contract: Option<&'static Contract>,
}

impl<M> From<&Topic<M>> for Terms {
    fn from(topic: &Topic<M>) -> Self {
        Self {
            metadata_field: topic.metadata_field(),
            priority: topic.priority().and_then(|level| Priority::new(level).ok()),
            contract: topic.contract(),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("broker", &self.shared.broker)
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}
