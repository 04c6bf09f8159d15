//! What the Redis backend does when something breaks: processes, connections, the server, its keys.

#![cfg(feature = "redis")]

mod support;

use std::{
    collections::HashSet,
    env,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use agentbus::{
    Envelope, Name, Pattern,
    broker::{
        Broker, DeadLetterLimits, Deliveries, Delivery, Destination, PublishError, QueueError,
        QueueRole, QueueSpec, QueueStats, Stage, TopologyError,
        redis::{Redis, RedisOptions},
    },
    message::{FailureKind, Id, Metadata, Timestamp},
};
use support::{
    eventually,
    redis_server::RedisServer,
    relay::{Cut, Relay},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::{sleep, timeout},
};

/// How long something that must happen may take; less than a lease.
const DEADLINE: Duration = Duration::from_secs(25);

/// How long is listened for what must not happen.
const SILENCE: Duration = Duration::from_millis(200);

const SHORT: Duration = Duration::from_secs(1);

/// Tells the other process where the bus is.
const CHILD: &str = "AGENTBUS_TEST_REDIS_CHILD";

fn options(url: &str) -> RedisOptions {
    RedisOptions::from_url(url).expect("an address")
}

async fn connect(options: RedisOptions) -> Redis {
    Redis::connect(options).await.expect("the server is there")
}

fn work(max_length: u64) -> QueueSpec {
    let role = QueueRole::Work { dead_letters: "q.dlq".into(), max_length };
    QueueSpec::new("q", role).bind(Pattern::parse("t").unwrap())
}

async fn declare(broker: &Redis) {
    let letters = QueueRole::DeadLetters(DeadLetterLimits::default());
    broker.declare(&QueueSpec::new("q.dlq", letters)).await.expect("it is declared");
    broker.declare(&work(1_000_000)).await.expect("it is declared");
}

fn numbered(number: u32) -> Envelope {
    let metadata = Metadata { message_id: Some(Id::new()), ..Metadata::default() };
    Envelope { topic: None, metadata, payload: number.to_be_bytes().to_vec().into() }
}

fn number(delivery: &Delivery) -> u32 {
    u32::from_be_bytes(delivery.envelope().payload[..].try_into().expect("a number"))
}

async fn publish(broker: &Redis, envelope: Envelope) -> Result<(), PublishError> {
    let topic = Name::from_static("t");
    timeout(DEADLINE, broker.publish(Destination::Topic(&topic), envelope)).await.expect("it ends")
}

/// Publishes until it is taken, as whoever may not lose anything does.
async fn publish_surely(broker: &Redis, number: u32) {
    let mut envelope = numbered(number);
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while let Err(error) = publish(broker, envelope).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
        assert!(error.is_transient(), "{error}");
        envelope = error.into_envelope();
        sleep(Duration::from_millis(5)).await;
    }
}

async fn next(deliveries: &mut Deliveries) -> Delivery {
    let next = timeout(DEADLINE, deliveries.next()).await;
    next.expect("a delivery comes").expect("the stream goes on")
}

async fn silent(deliveries: &mut Deliveries) {
    if let Ok(delivery) = timeout(SILENCE, deliveries.next()).await {
        panic!("nothing was expected, got {delivery:?}");
    }
}

async fn counts(broker: &Redis, right: impl Fn(QueueStats) -> bool) {
    let is_right = async || broker.stats("q").await.is_ok_and(&right).then_some(());
    eventually("the right counts", is_right).await;
}

async fn stage(broker: &Redis, stage: Stage) -> String {
    let mut health = broker.health();
    let reached = async || {
        let health = health.borrow_and_update().clone();
        (health.stage == stage).then_some(health.detail)
    };
    eventually(&format!("the stage {stage}"), reached).await
}

/// Takes and acks all numbers up to `count`, each at least once.
async fn take_all(deliveries: &mut Deliveries, count: u32) {
    let mut seen = HashSet::new();
    while seen.len() < count as usize {
        let delivery = next(deliveries).await;
        seen.insert(number(&delivery));
        delivery.ack();
    }
}

// --- processes that die

/// Not a test of its own: the other process, which is killed.
#[tokio::test]
async fn other_process() {
    let Ok(url) = env::var(CHILD) else { return };
    let broker = connect(RedisOptions { lease: SHORT, ..options(&url) }).await;
    let expires = SHORT;
    let role = QueueRole::Replica { dead_letters: "q.dlq".into(), max_length: 10, expires };
    broker.declare(&QueueSpec::new("q.replica", role)).await.unwrap();
    let _replica = broker.consume("q.replica", 1).await.unwrap();
    let mut deliveries = broker.consume("q", 3).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut deliveries).await);
    }
    println!("\nheld");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn what_a_killed_process_held_comes_again_and_its_own_queue_goes() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let broker = connect(RedisOptions { lease: SHORT, ..options(&server.url()) }).await;
    declare(&broker).await;
    for number in 0..3 {
        let mut envelope = numbered(number);
        envelope.metadata.attempt = Some(7);
        publish(&broker, envelope).await.unwrap();
    }
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "other_process", "--nocapture"])
        .env(CHILD, server.url())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while lines.next_line().await.unwrap().expect("it goes on") != "held" {}
    assert_eq!(broker.stats("q").await.unwrap().unsettled, Some(3));
    assert_eq!(broker.stats("q.replica").await.unwrap().consumers, 1);
    child.kill().await.unwrap();

    let mut deliveries = broker.consume("q", 10).await.unwrap();
    for expected in 0..3 {
        let delivery = next(&mut deliveries).await;
        assert_eq!((number(&delivery), delivery.is_redelivered()), (expected, true));
        assert_eq!(delivery.returns(), Some(1));
        assert_eq!(delivery.envelope().metadata.attempt, Some(7), "no handler has failed");
        delivery.ack();
    }
    counts(&broker, |stats| stats.ready == 0 && stats.unsettled == Some(0)).await;
    let is_gone = async || broker.stats("q.replica").await.is_err().then_some(());
    eventually("the end of the replica's queue", is_gone).await;
    broker.close().await;
}

#[tokio::test]
async fn what_is_held_for_many_leases_stays_with_who_handles_it() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let short = || RedisOptions { lease: SHORT, ..options(&server.url()) };
    let (one, other) = (connect(short()).await, connect(short()).await);
    declare(&one).await;
    publish(&one, numbered(1)).await.unwrap();
    let mut deliveries = one.consume("q", 1).await.unwrap();
    let held = next(&mut deliveries).await;
    // Also where nobody consumes there any more.
    drop(deliveries);
    let mut others = other.consume("q", 1).await.unwrap();
    if let Ok(early) = timeout(4 * SHORT, others.next()).await {
        panic!("it came to two: {early:?}");
    }
    held.ack();
    counts(&one, |stats| stats.unsettled == Some(0)).await;
    silent(&mut others).await;
}

#[tokio::test]
async fn who_lost_its_lease_settles_nothing() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let relay = Relay::to(server.address()).await;
    let short = |url: String| RedisOptions { lease: SHORT, ..options(&url) };
    let slow = connect(short(server.url_through(relay.address()))).await;
    let other = connect(short(server.url())).await;
    declare(&other).await;
    publish(&other, numbered(1)).await.unwrap();
    let mut first = slow.consume("q", 1).await.unwrap();
    let held = next(&mut first).await;
    relay.refuse(true).await;
    relay.cut(Cut::Reset);
    let mut second = other.consume("q", 1).await.unwrap();
    let again = next(&mut second).await;
    assert!(again.is_redelivered());
    // The ack of the first reaches Redis, and is for a hand-out that is over.
    held.ack();
    relay.refuse(false).await;
    publish(&slow, numbered(2)).await.unwrap();
    let delivery = next(&mut first).await;
    assert_eq!(number(&delivery), 2);
    delivery.ack();
    counts(&other, |stats| stats.unsettled == Some(1)).await;
    again.release();
    let third = next(&mut second).await;
    assert_eq!((number(&third), third.returns()), (1, Some(2)));
    third.ack();
    counts(&other, |stats| stats.ready == 0 && stats.unsettled == Some(0)).await;
}

// --- connections that break

/// Within less than a lease: what was claimed when a connection broke is told again, not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_and_delay_nothing() {
    const MESSAGES: u32 = 2000;
    let Some(server) = RedisServer::start(&["--appendfsync", "no"]).await else { return };
    let relay = Arc::new(Relay::to(server.address()).await);
    let publisher = Arc::new(connect(options(&server.url_through(relay.address()))).await);
    let consumer = connect(options(&server.url_through(relay.address()))).await;
    declare(&consumer).await;
    let mut deliveries = consumer.consume("q", 50).await.unwrap();
    let publishing = {
        let publisher = publisher.clone();
        tokio::spawn(async move {
            for number in 0..MESSAGES {
                publish_surely(&publisher, number).await;
            }
        })
    };
    let cutting = {
        let relay = relay.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                sleep(Duration::from_millis(150)).await;
                relay.cut(if fastrand::bool() { Cut::Reset } else { Cut::Finish });
            }
        })
    };
    take_all(&mut deliveries, MESSAGES).await;
    publishing.await.unwrap();
    cutting.await.unwrap();
    counts(&consumer, |stats| stats.ready == 0 && stats.unsettled == Some(0)).await;
    stage(&consumer, Stage::Consuming).await;
}

#[tokio::test]
async fn a_stalled_connection_is_used_again_and_nothing_is_lost() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let relay = Relay::to(server.address()).await;
    let broker = connect(options(&server.url_through(relay.address()))).await;
    let direct = connect(options(&server.url())).await;
    declare(&broker).await;
    let mut deliveries = broker.consume("q", 5).await.unwrap();
    publish(&direct, numbered(0)).await.unwrap();
    let held = next(&mut deliveries).await;
    relay.stall();
    for number in 1..5 {
        publish(&direct, numbered(number)).await.unwrap();
    }
    held.ack();
    sleep(SILENCE).await;
    relay.resume();
    for expected in 1..5 {
        let delivery = next(&mut deliveries).await;
        assert_eq!((number(&delivery), delivery.is_redelivered()), (expected, false));
        delivery.ack();
    }
    counts(&direct, |stats| stats.ready == 0 && stats.unsettled == Some(0)).await;
}

#[tokio::test]
async fn wake_ups_that_were_lost_are_made_up_for() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (broker, other) =
        (connect(options(&server.url())).await, connect(options(&server.url())).await);
    declare(&broker).await;
    let mut deliveries = broker.consume("q", 5).await.unwrap();
    for round in 0..3 {
        server.tell(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        publish(&other, numbered(round)).await.unwrap();
        let delivery = next(&mut deliveries).await;
        assert_eq!(number(&delivery), round);
        delivery.ack();
    }
}

// --- a server that stops, loses its data, or has no room

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_comes_back_with_all_that_was_confirmed() {
    const MESSAGES: u32 = 600;
    let Some(mut server) = RedisServer::start(&[]).await else { return };
    let broker = Arc::new(connect(options(&server.url())).await);
    declare(&broker).await;
    // Also what is held until it is due.
    let mut later = numbered(MESSAGES);
    later.metadata.due_at = Some(Timestamp::now().after(Duration::from_secs(2)));
    publish(&broker, later).await.unwrap();
    let mut deliveries = broker.consume("q", 20).await.unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let publishing = {
        let (broker, sent) = (broker.clone(), sent.clone());
        tokio::spawn(async move {
            for number in 0..MESSAGES {
                publish_surely(&broker, number).await;
                sent.fetch_add(1, Relaxed);
            }
        })
    };
    let taking = tokio::spawn(async move {
        take_all(&mut deliveries, MESSAGES + 1).await;
        deliveries
    });
    for round in 1..=2 {
        let enough = async || (sent.load(Relaxed) >= round * 200).then_some(());
        eventually("some messages", enough).await;
        server.kill();
        sleep(Duration::from_millis(100)).await;
        server.boot().await;
    }
    publishing.await.unwrap();
    let _deliveries = timeout(DEADLINE, taking).await.expect("all arrive").unwrap();
    counts(&broker, |stats| stats.ready == 0 && stats.unsettled == Some(0)).await;
}

#[tokio::test]
async fn a_server_that_has_lost_everything_is_set_up_again() {
    let Some(mut server) = RedisServer::start(&["--appendonly", "no"]).await else { return };
    let broker = connect(options(&server.url())).await;
    declare(&broker).await;
    let mut deliveries = broker.consume("q", 5).await.unwrap();
    let inbox = broker.inbox(Arc::new(|_| {})).await.unwrap();
    let mut losses = inbox.losses();
    publish(&broker, numbered(1)).await.unwrap();
    let held = next(&mut deliveries).await;
    server.kill();
    server.boot().await;
    timeout(DEADLINE, losses.wait_for(|losses| *losses > 0)).await.expect("it is told").unwrap();
    // It is for a message that is no more.
    held.ack();
    publish_surely(&broker, 2).await;
    assert_eq!(number(&next(&mut deliveries).await), 2);
    stage(&broker, Stage::Consuming).await;
}

#[tokio::test]
async fn passive_declaration_makes_nothing_but_bindings() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let passive = RedisOptions { passive: true, ..options(&server.url()) };
    let observer = connect(passive).await;
    let missing = observer.declare(&work(9)).await.unwrap_err();
    assert!(matches!(missing, TopologyError::Missing { .. }), "{missing}");
    assert_eq!(server.say::<Vec<String>>(&["KEYS", "*"]).await.unwrap(), Vec::<String>::new());
    let broker = connect(options(&server.url())).await;
    declare(&broker).await;
    let more = work(5).bind(Pattern::parse("more").unwrap());
    observer.declare(&more).await.expect("whatever it is");
    let topic = Name::from_static("more");
    observer.publish(Destination::Topic(&topic), numbered(1)).await.expect("it is bound");
    assert_eq!(broker.stats("q").await.unwrap().ready, 1);
}

#[tokio::test]
async fn a_queue_that_vanishes_is_kept_up_for_as_long_as_it_is_consumed_from() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let broker = connect(options(&server.url())).await;
    let role = QueueRole::Private { max_length: 9, expires: Duration::from_mins(1) };
    let mut consumers = Vec::new();
    for name in ["left", "kept"] {
        broker.declare(&QueueSpec::new(name, role.clone())).await.unwrap();
        consumers.push(broker.consume(name, 1).await.unwrap());
    }
    consumers.remove(0);
    eventually("nobody consumes", async || {
        (broker.stats("left").await.unwrap().consumers == 0).then_some(())
    })
    .await;
    server.tell(&["FLUSHALL"]).await;
    server.tell(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    eventually("a queue that is made again", async || {
        broker.stats("kept").await.is_ok_and(|stats| stats.consumers == 1).then_some(())
    })
    .await;
    assert!(matches!(broker.stats("left").await, Err(QueueError::NotFound { .. })));
}

#[tokio::test]
async fn what_has_nowhere_to_go_waits_for_the_place_that_keeps_it() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let broker = connect(options(&server.url())).await;
    let aside = "agentbus.events.delay.v1.undeliverable";
    for to in [Destination::Topic(&Name::from_static("nobody")), Destination::Queue("nowhere")] {
        broker.delete(aside).await.unwrap();
        let mut delayed = numbered(1);
        let due = Timestamp::now().as_millis() + 300;
        delayed.metadata.due_at = Some(Timestamp::from_millis(due));
        broker.publish(to, delayed).await.unwrap();
        sleep(SHORT).await;
        let held: u64 = server.say(&["HLEN", "agentbus:{agentbus.events}:held"]).await.unwrap();
        assert_eq!(held, 1, "{to}");
        server.tell(&["FLUSHALL"]).await;
    }
}

#[tokio::test]
async fn a_queue_that_somebody_deleted_is_made_again_by_who_declared_it() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (owner, other) =
        (connect(options(&server.url())).await, connect(options(&server.url())).await);
    declare(&owner).await;
    let mut deliveries = owner.consume("q", 5).await.unwrap();
    other.delete("q").await.unwrap();
    publish_surely(&other, 1).await;
    assert_eq!(number(&next(&mut deliveries).await), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_memory_publishers_are_refused_and_consumers_go_on() {
    let Some(server) = RedisServer::start(&["--maxmemory", "12mb"]).await else { return };
    let wait = Duration::from_millis(300);
    let broker = connect(RedisOptions { publish_timeout: wait, ..options(&server.url()) }).await;
    declare(&broker).await;
    let big = |number: u32| {
        let mut envelope = numbered(number);
        envelope.metadata.headers.set("padding", "x".repeat(200)).unwrap();
        envelope.metadata.content_encoding = Some("x".repeat(200_000).into());
        envelope
    };
    let mut taken = 0;
    let reason = loop {
        match publish(&broker, big(taken)).await {
            Ok(()) => taken += 1,
            Err(PublishError::Refused { reason, .. }) => break reason,
            Err(other) => panic!("{other}"),
        }
        assert!(taken < 1000, "there was room for everything");
    };
    assert!(reason.contains("out of memory") && reason.contains("maxmemory"), "{reason}");
    let detail = stage(&broker, Stage::Blocked).await;
    assert!(detail.contains("out of memory"), "{detail}");
    // What is taken out makes room.
    let mut deliveries = broker.consume("q", 5).await.expect("consumers are let in");
    take_all(&mut deliveries, taken).await;
    publish_surely(&broker, 1).await;
    next(&mut deliveries).await.ack();
    stage(&broker, Stage::Consuming).await;
    counts(&broker, |stats| stats.ready == 0 && stats.unsettled == Some(0)).await;
}

// --- keys of somebody else

#[tokio::test]
async fn a_key_of_somebody_else_is_told_and_nothing_is_overwritten() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let broker = connect(options(&server.url())).await;
    declare(&broker).await;
    server.tell(&["SET", "agentbus:{agentbus.events}:w0:q", "mine"]).await;
    match publish(&broker, numbered(1)).await {
        Err(PublishError::Unconfirmed { reason, .. }) => {
            assert!(reason.contains("agentbus did not put there"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(broker.consume("q", 1).await.is_err());
    let key = server.say::<String>(&["GET", "agentbus:{agentbus.events}:w0:q"]).await.unwrap();
    assert_eq!(key, "mine");
    server.tell(&["DEL", "agentbus:{agentbus.events}:w0:q"]).await;
    publish(&broker, numbered(2)).await.unwrap();
    let mut deliveries = broker.consume("q", 1).await.unwrap();
    assert_eq!(number(&next(&mut deliveries).await), 2);
}

/// Keys that are none of ours may lie beside them.
#[tokio::test]
async fn two_buses_of_one_server_know_nothing_of_each_other() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let named = |exchange: &str| RedisOptions {
        exchange: exchange.to_owned().into(),
        ..options(&server.url())
    };
    let (one, other) = (connect(named("one")).await, connect(named("other")).await);
    let database = connect(RedisOptions { database: 1, ..named("one") }).await;
    for broker in [&one, &other, &database] {
        declare(broker).await;
    }
    publish(&one, numbered(1)).await.unwrap();
    for (broker, ready) in [(&one, 1), (&other, 0), (&database, 0)] {
        assert_eq!(broker.stats("q").await.unwrap().ready, ready);
    }
}

// --- what one process does and another must know

#[tokio::test]
async fn a_binding_that_another_process_made_is_known_to_the_next_publish() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (one, other) =
        (connect(options(&server.url())).await, connect(options(&server.url())).await);
    declare(&one).await;
    publish(&one, numbered(1)).await.unwrap();
    let role = QueueRole::Private { max_length: 10, expires: Duration::from_mins(1) };
    let spec = QueueSpec::new("late", role).bind(Pattern::parse("#").unwrap());
    other.declare(&spec).await.unwrap();
    publish(&one, numbered(2)).await.unwrap();
    assert_eq!(other.stats("late").await.unwrap().ready, 1);
    other.delete("late").await.unwrap();
    publish(&one, numbered(3)).await.unwrap();
    assert_eq!(one.stats("q").await.unwrap().ready, 3);
}

#[tokio::test]
async fn a_hundred_idle_queues_cost_next_to_nothing() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let broker = connect(options(&server.url())).await;
    let mut streams = Vec::new();
    for number in 0..100 {
        let role = QueueRole::Work { dead_letters: "q.dlq".into(), max_length: 10 };
        let name = Name::from(format!("q.{number}"));
        broker.declare(&QueueSpec::new(name.clone(), role)).await.unwrap();
        streams.push(broker.consume(&name, 10).await.unwrap());
    }
    let calls = async || {
        let stats = server.say::<String>(&["INFO", "commandstats"]).await.unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        line.unwrap().split(',').next().unwrap().parse::<u64>().unwrap()
    };
    let before = calls().await;
    sleep(Duration::from_secs(10)).await;
    let made = calls().await - before;
    // Each is looked at twice in ten seconds, and told to be there once.
    assert!(made <= 350, "{made} calls in ten seconds in which nothing happened");
}

/// As long as the dead letters have no room, what goes there is neither handed out nor lost.
#[tokio::test]
async fn a_crash_loop_waits_for_room_in_the_dead_letters() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let broker = connect(options(&server.url())).await;
    let limits = DeadLetterLimits { max_length: 1, ..DeadLetterLimits::default() };
    broker.declare(&QueueSpec::new("q.dlq", QueueRole::DeadLetters(limits))).await.unwrap();
    broker.declare(&work(100)).await.unwrap();
    broker.publish(Destination::Queue("q.dlq"), numbered(0)).await.unwrap();
    publish(&broker, numbered(1)).await.unwrap();
    let mut deliveries = broker.consume("q", 1).await.unwrap();
    for _ in 0..=100 {
        next(&mut deliveries).await.release();
    }
    counts(&broker, |stats| stats.ready == 0 && stats.unsettled == Some(1)).await;
    silent(&mut deliveries).await;
    broker.purge("q.dlq").await.unwrap();
    let mut letters = broker.consume("q.dlq", 1).await.unwrap();
    let letter = timeout(2 * DEADLINE, letters.next()).await.expect("it comes").unwrap();
    let failure = letter.envelope().metadata.failure.clone().expect("a reason");
    assert_eq!((failure.kind, &*failure.agent), (FailureKind::CrashLoop, "q"));
    assert_eq!(failure.topic.as_deref(), Some("t"));
    letter.ack();
    counts(&broker, |stats| stats.unsettled == Some(0)).await;
}
