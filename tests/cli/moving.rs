//! `agentbus move`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use agentbus::{
    Envelope, Id,
    broker::{Broker, DeadLetterLimits, Destination, QueueRole, QueueSpec, connect},
    config::BusUrl,
    message::{Failure, FailureKind, Priorities, Priority, Timestamp},
};
use tokio::{process::Command, time::timeout};

use crate::{
    program::{bare, ended, run},
    support::{
        bus::Bus,
        eventually,
        rabbitmq::{self, control},
    },
};

/// Two buses with the same names: that of a test, and one in a virtual host of its own.
struct Buses {
    old: Bus,
    new: Arc<dyn Broker>,
    from: String,
    to: String,
    vhost: String,
}

impl Buses {
    async fn find() -> Option<Self> {
        let old = Bus::rabbitmq().await?;
        let vhost = format!("agentbus-test-{}", Id::new());
        let from = rabbitmq::address(&old.config);
        let BusUrl::Amqp(url) = &old.config.bus else { unreachable!("it is a RabbitMQ") };
        let (user, name) = (url.username().to_owned(), vhost.clone());
        let made = tokio::task::spawn_blocking(move || {
            control(&["add_vhost", &name])
                && control(&["set_permissions", "-p", &name, &user, ".*", ".*", ".*"])
        });
        if !made.await.unwrap() {
            rabbitmq::skipped("it needs a virtual host of its own, and `rabbitmqctl` is denied");
            return None;
        }
        let (login, rest) = from.rsplit_once('@').expect("an address with a user");
        let host = rest.split('/').next().expect("an address with a host");
        let to = format!("{login}@{host}/{vhost}");
        let mut config = old.config.clone();
        config.bus = to.parse().expect("an address like the one before");
        let new = connect(&config).await.expect("the broker was there a moment ago");
        Some(Self { old, new, from, to, vhost })
    }

    /// The name of a queue on both.
    fn queue(&self, name: &str) -> String {
        self.old.queue(name)
    }

    fn program(&self, more: &[&str]) -> Command {
        let mut command = bare(&["move", "--from", &self.from, "--to", &self.to]);
        command
            .args(more)
            .env("AGENTBUS_EXCHANGE", &self.old.config.exchange)
            .env("AGENTBUS_QUEUE_PREFIX", &self.old.config.queue_prefix);
        command
    }
}

impl Drop for Buses {
    fn drop(&mut self) {
        let deleted = control(&["delete_vhost", &self.vhost]);
        assert!(deleted || std::thread::panicking(), "`{}` could not be removed", self.vhost);
    }
}

fn specs(agent: &str, max_length: u64) -> [QueueSpec; 2] {
    let dead_letters = format!("{agent}.dlq");
    let letters = QueueRole::DeadLetters(DeadLetterLimits::default());
    let role = QueueRole::Work { dead_letters: dead_letters.as_str().into(), max_length };
    [QueueSpec::new(dead_letters, letters), QueueSpec::new(agent, role)]
}

async fn declare(bus: &Arc<dyn Broker>, agent: &str, max_length: u64) {
    for spec in specs(agent, max_length) {
        bus.declare(&spec).await.unwrap();
    }
}

fn message(number: u32) -> Envelope {
    let mut envelope = Envelope::encode(&number);
    envelope.topic = Some("data.request".into());
    envelope.metadata.message_id = Some(Id::new());
    envelope.metadata.attempt = Some(2);
    envelope
}

async fn fill(bus: &Arc<dyn Broker>, queue: &str, numbers: std::ops::Range<u32>) {
    // Few enough at a time to be sent in their order.
    for some in numbers.collect::<Vec<_>>().chunks(50) {
        let sent = some.iter().map(|it| bus.publish(Destination::Queue(queue), message(*it)));
        futures::future::try_join_all(sent).await.unwrap();
    }
}

/// Takes what is in a queue: its messages by number, each as often as it came.
async fn take(bus: &Arc<dyn Broker>, queue: &str) -> Vec<(u32, Envelope)> {
    let mut taken = Vec::new();
    let mut deliveries = bus.consume(queue, 1000).await.unwrap();
    while let Ok(Some(delivery)) = timeout(Duration::from_millis(700), deliveries.next()).await {
        let envelope = delivery.envelope().clone();
        taken.push((envelope.decode().unwrap(), envelope));
        delivery.ack();
    }
    taken
}

#[tokio::test]
async fn queues_and_dead_letters_are_moved_as_they_are() {
    let Some(buses) = Buses::find().await else { return };
    let (data, letters_of) = (&*buses.queue("data"), &*buses.queue("data.dlq"));
    declare(buses.old.broker(), data, 1000).await;
    fill(buses.old.broker(), data, 0..500).await;
    let mut letter = message(7);
    letter.metadata.failure = Some(Box::new(Failure {
        kind: FailureKind::Rejected,
        error: "no such thing".into(),
        agent: "data".into(),
        instance: None,
        topic: letter.topic.clone(),
        attempts: 2,
        at: Timestamp::now(),
    }));
    buses.old.broker().publish(Destination::Queue(letters_of), letter.clone()).await.unwrap();

    let said = run(buses.program(&["--agent", "data"])).await.with_code(2);
    assert!(said.err.contains("--create"), "{}", said.err);
    let said = run(buses.program(&["--agent", "data", "--create", "--dry-run", "--json"])).await;
    let rows = said.with_code(0).json();
    assert_eq!((&rows[0]["queue"], &rows[0]["wouldMove"]), (&data.into(), &500.into()));
    let said = run(buses.program(&["--agent", "data", "--create", "--json"])).await.with_code(0);
    let rows: BTreeMap<_, _> = said
        .json()
        .iter()
        .map(|row| (row["queue"].as_str().unwrap().to_owned(), row["moved"].clone()))
        .collect();
    assert_eq!(rows[data], 500);
    assert_eq!(rows[letters_of], 1);

    for queue in [data, letters_of] {
        assert_eq!(buses.old.broker().stats(queue).await.unwrap().ready, 0);
    }
    let moved = take(&buses.new, data).await;
    let numbers: Vec<_> = moved.iter().map(|(number, _)| *number).collect();
    assert!(numbers.iter().copied().eq(0..500), "in their order: {numbers:?}");
    let (_, first) = &moved[0];
    assert_eq!((first.topic.as_deref(), first.metadata.attempt), (Some("data.request"), Some(2)));
    let letters = take(&buses.new, letters_of).await;
    assert_eq!(letters.len(), 1);
    let (found, sent) = (&letters[0].1.metadata, &letter.metadata);
    assert_eq!(found.message_id, sent.message_id);
    let failure = found.failure.as_ref().expect("why it is a dead letter");
    assert_eq!((&failure.kind, &*failure.error), (&FailureKind::Rejected, "no such thing"));
}

#[tokio::test]
async fn killed_in_the_middle_it_goes_on_and_loses_nothing() {
    let Some(buses) = Buses::find().await else { return };
    let data = &*buses.queue("data");
    for bus in [buses.old.broker(), &buses.new] {
        declare(bus, data, 10_000).await;
    }
    fill(buses.old.broker(), data, 0..600).await;
    for signal in ["-KILL", "-INT"] {
        let mut command = buses.program(&[data, "--rate", "300", "--window", "16"]);
        let child = command.spawn().unwrap();
        let before = buses.new.stats(data).await.unwrap().ready;
        eventually("some that are moved", async || {
            (buses.new.stats(data).await.unwrap().ready > before + 20).then_some(())
        })
        .await;
        let id = child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
        let said = ended(child).await;
        assert_eq!(said.code, (signal == "-INT").then_some(130), "{said:?}");
        assert!(buses.old.broker().stats(data).await.unwrap().ready > 0, "{signal} came in time");
    }
    run(buses.program(&[data])).await.with_code(0);
    let mut copies = BTreeMap::<u32, Vec<_>>::new();
    for (number, envelope) in take(&buses.new, data).await {
        copies.entry(number).or_default().push(envelope.metadata.message_id);
    }
    assert!(copies.keys().copied().eq(0..600), "nothing is lost or made up");
    let twice: Vec<_> = copies.values().filter(|ids| ids.len() > 1).collect();
    assert!(twice.len() <= 16, "only what was on its way when it was killed: {}", twice.len());
    assert!(twice.iter().all(|ids| ids.windows(2).all(|pair| pair[0] == pair[1])), "{twice:?}");
}

#[tokio::test]
async fn a_full_queue_stops_it_and_there_is_no_message_in_neither() {
    let Some(buses) = Buses::find().await else { return };
    let data = &*buses.queue("data");
    declare(buses.old.broker(), data, 1000).await;
    declare(&buses.new, data, 50).await;
    fill(buses.old.broker(), data, 0..200).await;
    let mut command = buses.program(&[data, "--window", "8", "--json"]);
    command.env("AGENTBUS_PUBLISH_TIMEOUT", "1s");
    let said = run(command).await.with_code(1);
    let row = &said.json()[0];
    let (moved, left) = (row["moved"].as_u64().unwrap(), row["left"].as_u64().unwrap());
    assert!(moved >= 50 && moved + left >= 200, "{row}");
    assert!(row["error"].as_str().unwrap().contains("full"), "{row}");
    let mut numbers: Vec<u32> = Vec::new();
    for (bus, queue) in [(buses.old.broker(), data), (&buses.new, data)] {
        numbers.extend(take(bus, queue).await.iter().map(|(number, _)| *number));
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert!(numbers.into_iter().eq(0..200));
}

#[tokio::test]
async fn each_message_finds_its_lane() {
    let Some(buses) = Buses::find().await else { return };
    let laned = &*buses.queue("laned");
    let [urgent_lane, ..] =
        &["urgent", "high", "low"].map(|lane| buses.queue(&format!("laned.{lane}")));
    for bus in [buses.old.broker(), &buses.new] {
        for spec in specs(laned, 1000) {
            let lanes = spec.name.ends_with(".dlq").then_some(Priorities::Off);
            bus.declare(&spec.priorities(lanes.unwrap_or(Priorities::Lanes))).await.unwrap();
        }
    }
    let mut urgent = message(1);
    urgent.metadata.priority = Some(Priority::URGENT);
    buses.old.broker().publish(Destination::Queue(laned), urgent).await.unwrap();
    fill(buses.old.broker(), laned, 2..4).await;
    let said = run(buses.program(&["--agent", "laned", "--json"])).await.with_code(0);
    let rows = said.json();
    let moved = |queue: &str| {
        rows.iter().find(|row| row["queue"] == queue).unwrap()["moved"].as_u64().unwrap()
    };
    assert_eq!((moved(laned), moved(urgent_lane)), (2, 1));
    assert_eq!(buses.new.stats(laned).await.unwrap().ready, 3);
    assert_eq!(take(&buses.new, urgent_lane).await.len(), 1);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let Some(buses) = Buses::find().await else { return };
    let data = &*buses.queue("data");
    declare(buses.old.broker(), data, 10).await;
    let mut command = bare(&["move", "--from", &buses.from, "--to", &buses.from, data]);
    command.env("AGENTBUS_EXCHANGE", &buses.old.config.exchange);
    let said = run(command).await.with_code(2);
    assert!(said.err.contains("the same bus"), "{}", said.err);
    let said = run(buses.program(&[])).await.with_code(2);
    assert!(said.err.contains("--agent"), "{}", said.err);
    let said = run(buses.program(&["nowhere"])).await.with_code(1);
    assert!(said.err.contains("no queue `nowhere`"), "{}", said.err);
    let said = run(bare(&["move", "--from", "memory:", "--to", &buses.to, data])).await;
    assert!(said.with_code(2).err.contains("embedded bus"));
}
