//! A question asked before every process was restarted is answered after it, once.

#![cfg(any(feature = "redis", feature = "sqlite"))]

mod support;

use std::sync::Arc;

use agentbus::{Client, Runtime, broker::connect, store::Conversations};
use support::{
    curious::{Curious, Oracle, PATIENT, dead_letters, expected},
    eventually,
    messages::{Event, HAPPENED},
};

/// Asks, restarts everything, and waits for the answers.
async fn answered_after_a_restart<S: Conversations>(
    bus: &support::bus::Bus,
    mut open: impl AsyncFnMut() -> S,
) {
    let mut store = async || Arc::new(open().await);
    // A client of its own each time, as a new process has one.
    let client = async || {
        let remote = bus.broker().kind() != "memory";
        let broker = Arc::clone(bus.broker());
        let broker = if remote { connect(&bus.config).await.unwrap() } else { broker };
        Client::with_config(broker, bus.config.clone())
    };
    for queue in ["curious", "oracle"] {
        bus.queue(queue);
        bus.queue(&format!("{queue}.dlq"));
    }
    let first = client().await;
    // Its queue is there, so that it can be asked; it is not.
    Runtime::new(first.clone()).agent(Oracle).start().await.unwrap().stop().await;
    let asking = Curious::default();
    let kept = store().await;
    let runtime = Runtime::new(first.clone()).conversations(kept.clone());
    let agents = runtime.agent(asking.clone()).start().await.unwrap();
    // Of those that wait for minutes; one is answered with an error.
    let numbers = [PATIENT + 1, PATIENT + 998];
    for number in numbers {
        first.publish(HAPPENED, &Event { number }).await.unwrap();
    }
    eventually("the questions", async || (kept.count().await.unwrap() == 2).then_some(())).await;
    agents.stop().await;
    if bus.broker().kind() != "memory" {
        first.close().await;
    }
    drop((kept, first));
    assert!(asking.outcomes.lock().unwrap().is_empty());

    let second = client().await;
    let curious = Curious::default();
    let kept = store().await;
    let runtime = Runtime::new(second.clone()).conversations(kept.clone());
    let agents = runtime.agent(curious.clone()).agent(Oracle).start().await.unwrap();
    eventually("the answers", async || (curious.outcomes.lock().unwrap().len() == 2).then_some(()))
        .await;
    eventually("the end", async || (kept.count().await.unwrap() == 0).then_some(())).await;
    agents.stop().await;
    for number in numbers {
        assert_eq!(curious.outcomes.lock().unwrap()[&number], [expected(number)]);
    }
    assert_eq!(dead_letters(bus, "curious").await, 0);
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::*;
    on_each_bus! {
        async fn a_file_keeps_what_was_asked(bus: Bus) {
            let name = format!("agentbus-durable-{:016x}.db", fastrand::u64(..));
            let path = std::env::temp_dir().join(name);
            answered_after_a_restart(&bus, async || {
                let file = agentbus::store::sqlite::Sqlite::open(&path).await.unwrap();
                file.conversations()
            }).await;
            for end in ["", "-wal", "-shm"] {
                drop(std::fs::remove_file(format!("{}{end}", path.display())));
            }
        }
    }
}

#[cfg(feature = "redis")]
mod redis {
    use super::*;

    on_each_bus! {
        async fn redis_keeps_what_was_asked(bus: Bus) {
            let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
            let name = format!("test-{:016x}", fastrand::u64(..));
            let redis = || agentbus::store::redis::Redis::open(&url).unwrap().named(&name);
            if let Err(error) = redis().conversations().count().await {
                let required = std::env::var_os("AGENTBUS_REQUIRE_REDIS").is_some_and(|set| set != "0");
                assert!(!required, "no Redis, and AGENTBUS_REQUIRE_REDIS requires it: {error}");
                eprintln!("skipped: {error}");
                return;
            }
            answered_after_a_restart(&bus, async || {
                // What is left of it goes after an hour or two.
                redis().conversations()
            }).await;
        }
    }
}
