//! A checker in the manner of Jepsen's queue test.
//!
//! Writers publish jobs and log how each publish ended: taken, refused, or not known. Readers are
//! processes of their own, which log what they handle. Meanwhile a nemesis breaks one thing after
//! another, on a RabbitMQ node or a Redis server that belongs to this run alone. Then all is drained, and the
//! verdict says what the history proves: nothing that was taken is lost, nothing is made up.
//!
//! `docs/testing.md` tells how to run it for longer.

#![cfg(feature = "rabbitmq")]
#![allow(missing_docs, unreachable_pub)] // its parts are for each other

mod dead_letters;
mod engine;
mod history;
mod ledger;
mod log;
mod messages;
mod nemesis;
mod plan;
mod reader;
mod readers;
mod report;
mod slow;
#[path = "../support/mod.rs"]
mod support;
mod tools;
mod verdict;
mod world;
mod writers;

use std::{
    env,
    fs::File,
    io::{self, Write as _},
    time::Instant,
};

use tokio::sync::Mutex;

#[cfg(feature = "redis")]
use self::support::redis_server::RedisServer;
use self::{
    engine::Engine,
    nemesis::Fault,
    plan::Plan,
    report::Report,
    support::rabbitmq::{node::Node, skipped},
    verdict::{Complaint, Verdict},
    world::World,
};

/// Only one run at a time: each takes what the machine has.
static ONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost() {
    if let Err(reason) = Node::installed() {
        let reason = format!("{reason}, and the checker breaks only a node of its own");
        // Whoever names a broker elsewhere has said where there is one: this test has none to fail on.
        if env::var_os("RABBITMQ_URL").is_some() {
            return drop(writeln!(io::stderr(), "skipped on RabbitMQ: {reason}"));
        }
        return skipped(&reason);
    }
    let _one = ONE.lock().await;
    check(Engine::RabbitMq(Node::start().await.expect("a node starts"))).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_on_redis() {
    let _one = ONE.lock().await;
    let Some(server) = RedisServer::start(&[]).await else { return };
    check(Engine::Redis(server)).await;
}

async fn check(engine: Engine) {
    let (plan, name) = (Plan::from_env(), engine.name());
    let began = Instant::now();
    let say = |text: &str| {
        let after = began.elapsed().as_secs_f64();
        // Past the test harness, which keeps what is printed to itself.
        drop(writeln!(io::stderr(), "checker: {name}, {after:>5.1} s  {text}"));
    };
    say(&format!("seed {} (AGENTBUS_CHECKER_SEED repeats its schedule)", plan.seed));
    let careless = world::careless(&engine, &plan).await;
    let found = Verdict::of(&careless);
    assert!(
        found.summary().contains_key(&Complaint::Lost),
        "a reader that acks before it works loses messages, and nobody noticed: {:?}",
        found.summary()
    );

    say("a careless reader was found out");
    let mut world = World::start(engine, &plan).await;
    let blows = world.suffer(&plan, say).await;
    let (history, took, folder) = world.drain(&plan, say).await;
    let verdict = Verdict::of(&history);
    let report = Report {
        engine: name,
        plan: &plan,
        took,
        jobs: history.jobs(),
        blows: &blows,
        verdict: &verdict,
    };
    say(&report.to_string());
    if let Some(path) = env::var_os("AGENTBUS_CHECKER_JSON").filter(|path| !path.is_empty()) {
        let file = File::options().create(true).append(true).open(path);
        let written = file.and_then(|mut file| file.write_all(report.json().as_bytes()));
        written.expect("AGENTBUS_CHECKER_JSON is a file to write");
    }

    let wrong = report.wrong(&history);
    // Where somebody took long to be back, the logs may say why.
    if wrong.is_empty() && report.recovery().max < 5000 {
        drop(std::fs::remove_dir_all(&folder));
    }
    let (seed, folder) = (plan.seed, folder.display());
    assert!(wrong.is_empty(), "{name}, seed {seed}, logs in {folder}:\n{}", wrong.join("\n"));
    assert!(verdict.taken > 1000, "there was something to lose");
    let killed = plan.faults.contains(&Fault::KillReader);
    assert!(verdict.interrupted > 0 || !killed, "somebody was killed at work");
}

/// What a reader process runs; nothing where nobody has given orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the checker starts it, in processes of its own"]
async fn a_reader_process() {
    if let Some(orders) = reader::orders() {
        log::tell(io::stderr());
        reader::run(orders).await;
    }
}
