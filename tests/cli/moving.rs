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
        redis,
    },
};

/// What is moved from, and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pair {
    /// From one virtual host of a RabbitMQ to another.
    RabbitMqs,
    ToRedis,
    FromRedis,
}

/// Two buses with the same names: one on RabbitMQ, and one in a virtual host of its own or on Redis.
struct Buses {
    old: Arc<dyn Broker>,
    new: Arc<dyn Broker>,
    from: String,
    to: String,
    rabbitmq: Bus,
    vhost: Option<String>,
}

impl Buses {
    async fn find(pair: Pair) -> Option<Self> {
        let rabbitmq = Bus::rabbitmq().await?;
        let address = rabbitmq::address(&rabbitmq.config);
        let (vhost, url) = if pair == Pair::RabbitMqs {
            let vhost = own_vhost(&rabbitmq).await?;
            let (login, rest) = address.rsplit_once('@').expect("an address with a user");
            let host = rest.split('/').next().expect("an address with a host");
            let url = format!("{login}@{host}/{vhost}");
            (Some(vhost), url)
        } else {
            redis::config()?;
            (None, redis::url())
        };
        let mut config = rabbitmq.config.clone();
        config.bus = url.parse().expect("an address");
        let other = connect(&config).await.expect("it was there a moment ago");
        let one = rabbitmq.broker().clone();
        let (old, new, from, to) = match pair {
            Pair::RabbitMqs | Pair::ToRedis => (one, other, address, url),
            Pair::FromRedis => (other, one, url, address),
        };
        Some(Self { old, new, from, to, rabbitmq, vhost })
    }

    /// The name of a queue on both.
    fn queue(&self, name: &str) -> String {
        self.rabbitmq.queue(name)
    }

    fn program(&self, more: &[&str]) -> Command {
        let mut command = bare(&["move", "--from", &self.from, "--to", &self.to]);
        command
            .args(more)
            .env("AGENTBUS_EXCHANGE", &self.rabbitmq.config.exchange)
            .env("AGENTBUS_QUEUE_PREFIX", &self.rabbitmq.config.queue_prefix);
        command
    }
}

impl Drop for Buses {
    fn drop(&mut self) {
        if let Some(vhost) = &self.vhost {
            let deleted = control(&["delete_vhost", vhost]);
            assert!(deleted || std::thread::panicking(), "`{vhost}` could not be removed");
        } else {
            redis::sweep(&self.rabbitmq.config.clone().with_bus(redis::url().parse().unwrap()));
        }
    }
}

/// Makes a virtual host; none where that is denied, which has been said then.
async fn own_vhost(bus: &Bus) -> Option<String> {
    let vhost = format!("agentbus-test-{}", Id::new());
    let BusUrl::Amqp(url) = &bus.config.bus else { unreachable!("it is a RabbitMQ") };
    let (user, name) = (url.username().to_owned(), vhost.clone());
    let made = tokio::task::spawn_blocking(move || {
        control(&["add_vhost", &name])
            && control(&["set_permissions", "-p", &name, &user, ".*", ".*", ".*"])
    });
    if made.await.unwrap() {
        return Some(vhost);
    }
    rabbitmq::skipped("it needs a virtual host of its own, and `rabbitmqctl` is denied");
    None
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
    for some in numbers.collect::<Vec<_>>().chunks(20) {
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
    for pair in [Pair::RabbitMqs, Pair::ToRedis, Pair::FromRedis] {
        let Some(buses) = Buses::find(pair).await else { return };
        move_all(&buses).await;
    }
}

async fn move_all(buses: &Buses) {
    let (data, letters_of) = (&*buses.queue("data"), &*buses.queue("data.dlq"));
    declare(&buses.old, data, 1000).await;
    fill(&buses.old, data, 0..500).await;
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
    buses.old.publish(Destination::Queue(letters_of), letter.clone()).await.unwrap();

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
        assert_eq!(buses.old.stats(queue).await.unwrap().ready, 0);
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
    for pair in [Pair::RabbitMqs, Pair::ToRedis] {
        let Some(buses) = Buses::find(pair).await else { return };
        kill_and_go_on(&buses).await;
    }
}

async fn kill_and_go_on(buses: &Buses) {
    let data = &*buses.queue("data");
    for bus in [&buses.old, &buses.new] {
        declare(bus, data, 10_000).await;
    }
    fill(&buses.old, data, 0..600).await;
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
        assert!(buses.old.stats(data).await.unwrap().ready > 0, "{signal} came in time");
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
    let Some(buses) = Buses::find(Pair::RabbitMqs).await else { return };
    let data = &*buses.queue("data");
    declare(&buses.old, data, 1000).await;
    declare(&buses.new, data, 50).await;
    fill(&buses.old, data, 0..200).await;
    let mut command = buses.program(&[data, "--window", "8", "--json"]);
    command.env("AGENTBUS_PUBLISH_TIMEOUT", "1s");
    let said = run(command).await.with_code(1);
    let row = &said.json()[0];
    let (moved, left) = (row["moved"].as_u64().unwrap(), row["left"].as_u64().unwrap());
    assert!(moved >= 50 && moved + left >= 200, "{row}");
    assert!(row["error"].as_str().unwrap().contains("full"), "{row}");
    let mut numbers: Vec<u32> = Vec::new();
    for (bus, queue) in [(&buses.old, data), (&buses.new, data)] {
        numbers.extend(take(bus, queue).await.iter().map(|(number, _)| *number));
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert!(numbers.into_iter().eq(0..200));
}

#[tokio::test]
async fn each_message_finds_its_lane() {
    for pair in [Pair::RabbitMqs, Pair::ToRedis, Pair::FromRedis] {
        let Some(buses) = Buses::find(pair).await else { return };
        move_lanes(&buses, pair).await;
    }
}

async fn move_lanes(buses: &Buses, pair: Pair) {
    let laned = &*buses.queue("laned");
    let [urgent_lane, ..] =
        &["urgent", "high", "low"].map(|lane| buses.queue(&format!("laned.{lane}")));
    for bus in [&buses.old, &buses.new] {
        for spec in specs(laned, 1000) {
            let lanes = spec.name.ends_with(".dlq").then_some(Priorities::Off);
            bus.declare(&spec.priorities(lanes.unwrap_or(Priorities::Lanes))).await.unwrap();
        }
    }
    let mut urgent = message(1);
    urgent.metadata.priority = Some(Priority::URGENT);
    buses.old.publish(Destination::Queue(laned), urgent).await.unwrap();
    fill(&buses.old, laned, 2..4).await;
    let said = run(buses.program(&["--agent", "laned", "--json"])).await.with_code(0);
    let rows = said.json();
    let moved = |queue: &str| {
        let row = rows.iter().find(|row| row["queue"] == queue);
        row.map_or(0, |row| row["moved"].as_u64().unwrap())
    };
    // On Redis, lanes are within their queue.
    let of_lane = u64::from(pair != Pair::FromRedis);
    assert_eq!((moved(laned), moved(urgent_lane)), (3 - of_lane, of_lane), "{pair:?}");
    assert_eq!(buses.new.stats(laned).await.unwrap().ready, 3);
    let queue = if pair == Pair::ToRedis { laned } else { urgent_lane };
    let first = take(&buses.new, queue).await.remove(0);
    assert_eq!(first.0, 1, "{pair:?}: the urgent one comes first");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let Some(buses) = Buses::find(Pair::RabbitMqs).await else { return };
    let data = &*buses.queue("data");
    declare(&buses.old, data, 10).await;
    let mut command = bare(&["move", "--from", &buses.from, "--to", &buses.from, data]);
    command.env("AGENTBUS_EXCHANGE", &buses.rabbitmq.config.exchange);
    let said = run(command).await.with_code(2);
    assert!(said.err.contains("the same bus"), "{}", said.err);
    let said = run(buses.program(&[])).await.with_code(2);
    assert!(said.err.contains("--agent"), "{}", said.err);
    let said = run(buses.program(&["nowhere"])).await.with_code(1);
    assert!(said.err.contains("no queue `nowhere`"), "{}", said.err);
    let said = run(bare(&["move", "--from", "memory:", "--to", &buses.to, data])).await;
    assert!(said.with_code(2).err.contains("embedded bus"));
}
