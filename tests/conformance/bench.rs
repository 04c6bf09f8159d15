//! What cases work with: fresh names, messages with numbers, and waits that end.

use std::{
    fmt::Debug,
    io::{Write as _, stderr},
    sync::{Arc, Mutex},
    time::Duration,
};

use agentbus::{
    Envelope, Id, Name, Pattern,
    broker::{
        Broker, DeadLetterLimits, Deliveries, Delivery, Destination, PublishError, QueueRole,
        QueueSpec, QueueStats,
    },
    message::{Lane, Metadata, Priorities, Timestamp},
};
use tokio::time::{sleep, timeout};

use crate::backend::Backend;

/// How long something that must happen may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// How long is listened for what must not happen.
pub(crate) const SILENCE: Duration = Duration::from_millis(150);

/// How long an impatient publisher waits for room.
pub(crate) const IMPATIENCE: Duration = Duration::from_millis(300);

/// A backend with a connection, and names that no other case uses.
pub(crate) struct Bench {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) broker: Arc<dyn Broker>,
    prefix: String,
    queues: Mutex<Vec<Name>>,
}

impl Bench {
    pub(crate) async fn new(backend: Arc<dyn Backend>) -> Self {
        let broker = backend.connect(DEADLINE).await;
        let prefix = format!("t{:08x}", fastrand::u32(..));
        Self { backend, broker, prefix, queues: Mutex::default() }
    }

    /// Tells whether the backend has an ability; says so where it is missing.
    pub(crate) fn can(&self, has: bool, what: &str) -> bool {
        if !has {
            let backend = self.backend.name();
            let case = std::thread::current().name().unwrap_or_default().to_owned();
            // Past the capture of the test harness: a skip is never silent.
            let _ = writeln!(stderr(), "conformance: {case} skipped in part: {backend} {what}");
        }
        has
    }

    /// Tells whether a publish waits for room in a full queue.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.can(self.backend.waits_for_room(), "refuses at once when a queue is full")
    }

    /// Tells whether a reply to an inbox that is gone is an error.
    pub(crate) fn knows_gone_inboxes(&self) -> bool {
        self.can(self.backend.knows_gone_inboxes(), "does not know that an inbox is gone")
    }

    /// Tells whether what was delayed takes the place of its priority under strict order.
    pub(crate) fn sorts_delayed_strictly(&self) -> bool {
        self.can(
            self.backend.sorts_delayed_strictly(),
            "puts what was delayed last in strict order",
        )
    }

    /// Makes another connection to the same engine.
    pub(crate) async fn connect(&self) -> Arc<dyn Broker> {
        self.backend.connect(DEADLINE).await
    }

    /// Makes another connection, whose publishes do not wait long.
    pub(crate) async fn connect_impatiently(&self) -> Arc<dyn Broker> {
        self.backend.connect(IMPATIENCE).await
    }

    /// Returns a name of this case's own, for a queue or a topic.
    pub(crate) fn name(&self, name: &str) -> Name {
        format!("{}.{name}", self.prefix).into()
    }

    /// Returns the role of a work queue that has room for `max_length` messages.
    pub(crate) fn work_role(&self, queue: &str, max_length: u64) -> QueueRole {
        QueueRole::Work { dead_letters: self.name(&format!("{queue}.dlq")), max_length }
    }

    /// Declares a work queue with its dead letters, bound with `patterns` as they are.
    pub(crate) async fn work(&self, queue: &str, patterns: &[&str]) -> Name {
        self.bounded(queue, 1_000_000, patterns).await
    }

    /// Declares a work queue that has room for `max_length` messages.
    pub(crate) async fn bounded(&self, queue: &str, max_length: u64, patterns: &[&str]) -> Name {
        self.dead_letters(&format!("{queue}.dlq"), DeadLetterLimits::default()).await;
        self.queue(queue, self.work_role(queue, max_length), patterns).await
    }

    /// Declares a work queue that orders by priority, with its dead letters.
    pub(crate) async fn ordered(
        &self,
        queue: &str,
        priorities: Priorities,
        patterns: &[&str],
    ) -> Name {
        self.dead_letters(&format!("{queue}.dlq"), DeadLetterLimits::default()).await;
        let spec = self.spec(queue, self.work_role(queue, 1_000_000), patterns);
        // Where lanes are queues of their own.
        for lane in Lane::ALL {
            self.queues.lock().unwrap().push(format!("{}.{lane}", spec.name).into());
        }
        let spec = spec.priorities(priorities);
        within("declare", self.broker.declare(&spec)).await.expect("the queue is declared");
        spec.name
    }

    pub(crate) async fn dead_letters(&self, queue: &str, limits: DeadLetterLimits) -> Name {
        self.queue(queue, QueueRole::DeadLetters(limits), &[]).await
    }

    /// Declares a queue of one subscriber.
    pub(crate) async fn private(&self, queue: &str, patterns: &[&str]) -> Name {
        let role = QueueRole::Private { max_length: 100_000, expires: Duration::from_mins(1) };
        self.queue(queue, role, patterns).await
    }

    /// Declares a queue.
    pub(crate) async fn queue(&self, queue: &str, role: QueueRole, patterns: &[&str]) -> Name {
        let spec = self.spec(queue, role, patterns);
        within("declare", self.broker.declare(&spec)).await.expect("the queue is declared");
        spec.name
    }

    pub(crate) fn spec(&self, queue: &str, role: QueueRole, patterns: &[&str]) -> QueueSpec {
        let name = self.name(queue);
        self.queues.lock().unwrap().push(name.clone());
        patterns.iter().fold(QueueSpec::new(name, role), |spec, pattern| spec.bind(parse(pattern)))
    }

    /// Returns the names of all queues this case may have made.
    pub(crate) fn queues(&self) -> Vec<Name> {
        self.queues.lock().unwrap().clone()
    }

    pub(crate) async fn consume(&self, queue: &str, prefetch: u16) -> Deliveries {
        consume(&*self.broker, queue, prefetch).await
    }

    pub(crate) async fn publish(&self, topic: &Name, envelope: Envelope) {
        publish(&*self.broker, topic, envelope).await.expect("the message is taken");
    }

    /// Publishes messages with these numbers, one after the other.
    pub(crate) async fn publish_numbers(
        &self,
        topic: &Name,
        numbers: impl IntoIterator<Item = u32>,
    ) {
        for number in numbers {
            self.publish(topic, numbered(number)).await;
        }
    }

    /// Waits until the counts of a queue are as they should be.
    pub(crate) async fn counts(&self, queue: &str, right: impl Fn(&QueueStats) -> bool) {
        let mut last = None;
        let settled = timeout(DEADLINE, async {
            loop {
                let stats = self.broker.stats(queue).await.expect("the queue is counted");
                if right(&stats) {
                    return;
                }
                last = Some(stats);
                sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(settled.await.is_ok(), "the counts of `{queue}` stayed wrong: {last:?}");
    }

    /// Waits until a queue has this many messages ready.
    pub(crate) async fn ready(&self, queue: &str, ready: u64) {
        self.counts(queue, |stats| stats.ready == ready).await;
    }
}

pub(crate) fn parse(pattern: &str) -> Pattern {
    Pattern::parse(pattern).expect("cases use good patterns")
}

/// Waits for what must happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = timeout(DEADLINE, future).await;
    done.unwrap_or_else(|_| panic!("waited for {what} longer than {DEADLINE:?}"))
}

pub(crate) async fn consume(broker: &dyn Broker, queue: &str, prefetch: u16) -> Deliveries {
    within("consume", broker.consume(queue, prefetch)).await.expect("the queue is consumed")
}

pub(crate) async fn publish(
    broker: &dyn Broker,
    topic: &Name,
    envelope: Envelope,
) -> Result<(), PublishError> {
    within("publish", broker.publish(Destination::Topic(topic), envelope)).await
}

/// Waits for a delivery.
pub(crate) async fn next(deliveries: &mut Deliveries) -> Delivery {
    within("a delivery", deliveries.next()).await.expect("the stream goes on")
}

/// Takes and acks `count` deliveries, and returns their numbers.
pub(crate) async fn ack_next(deliveries: &mut Deliveries, count: usize) -> Vec<u32> {
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count {
        let delivery = next(deliveries).await;
        numbers.push(number(&delivery));
        delivery.ack();
    }
    numbers
}

/// Checks that nothing is delivered for a while.
pub(crate) async fn silent(deliveries: &mut Deliveries) {
    if let Ok(delivery) = timeout(SILENCE, deliveries.next()).await {
        panic!("nothing was expected, got {delivery:?}");
    }
}

/// Checks that a stream ends, and returns what came before the end.
pub(crate) async fn rest(mut deliveries: Deliveries) -> Vec<Delivery> {
    let mut rest = Vec::new();
    while let Some(delivery) = within("the end of the stream", deliveries.next()).await {
        rest.push(delivery);
    }
    rest
}

/// Makes a message with a number as its body.
pub(crate) fn numbered(number: u32) -> Envelope {
    body(number.to_be_bytes().to_vec())
}

/// Makes a message with a body and an id, and nothing else.
pub(crate) fn body(payload: impl Into<bytes::Bytes>) -> Envelope {
    let metadata = Metadata { message_id: Some(Id::new()), ..Metadata::default() };
    Envelope { topic: None, metadata, payload: payload.into() }
}

/// Makes a message with a number as its body, which is due after `delay`.
pub(crate) fn due_in(delay: Duration, number: u32) -> Envelope {
    let mut envelope = numbered(number);
    envelope.metadata.due_at = Some(Timestamp::now().after(delay));
    envelope
}

/// Returns the number that is a delivery's body.
pub(crate) fn number(delivery: &Delivery) -> u32 {
    let payload = &delivery.envelope().payload[..];
    u32::from_be_bytes(payload.try_into().expect("the body is a number"))
}

/// Checks that numbers are those of a range, each once, in any order.
pub(crate) fn assert_each_once(mut numbers: Vec<u32>, expected: impl IntoIterator<Item = u32>) {
    numbers.sort_unstable();
    let expected: Vec<u32> = expected.into_iter().collect();
    assert!(
        numbers == expected,
        "expected {} messages, each once; got {}: {:?}…",
        expected.len(),
        numbers.len(),
        &numbers[..numbers.len().min(20)],
    );
}

/// Takes the error out of a result that must be one.
pub(crate) fn error<T: Debug, E>(result: Result<T, E>) -> E {
    match result {
        Ok(done) => panic!("an error was expected, got {done:?}"),
        Err(error) => error,
    }
}
