//! `agentbus doctor`.

use agentbus::{Envelope, broker::Destination};
use serde_json::json;

use crate::{
    management::{Management, vhost},
    program::{PROTO, Said, bare, on, run},
    queues::{filled, worked},
    support::{bus::Bus, redis_server::RedisServer},
};

/// Examines a bus on a Redis of the test's own.
async fn examined(server: &RedisServer, more: &[&str]) -> Said {
    let mut command = bare(&[&["doctor", "--json", "--interval", "100ms"], more].concat());
    command.env("AGENTBUS_URL", server.url());
    run(command).await
}

#[tokio::test]
async fn a_redis_that_keeps_everything_is_well() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let said = examined(&server, &["--strict"]).await.with_code(0);
    for check in ["version", "persistence", "eviction", "memory", "replicas"] {
        let (status, detail) = verdict(&said, check);
        assert!(status == "ok" && !detail.is_empty(), "{check}: {status}: {detail}");
    }
    let checks = said.json();
    assert!(checks.iter().all(|it| it["check"] != "consumer time-out"), "{}", said.out);
    // What RabbitMQ would tell is no advice here.
    assert!(!said.out.contains("MANAGEMENT") && !said.out.contains("RabbitMQ"), "{}", said.out);
}

#[tokio::test]
async fn a_redis_that_may_lose_messages_is_told_on() {
    let options = ["--appendfsync", "everysec", "--maxmemory", "512mb"];
    let policy = ["--maxmemory-policy", "allkeys-lru"];
    let Some(server) = RedisServer::start(&[&options[..], &policy[..]].concat()).await else {
        return;
    };
    let said = examined(&server, &["--strict"]).await.with_code(1);
    let (status, detail) = verdict(&said, "persistence");
    assert!(status == "warning" && detail.contains("last second"), "{status}: {detail}");
    let (status, detail) = verdict(&said, "eviction");
    assert!(status == "warning" && detail.contains("`allkeys-lru`"), "{status}: {detail}");
    server.tell(&["CONFIG", "SET", "appendonly", "no"]).await;
    let said = examined(&server, &[]).await.with_code(0);
    let (status, detail) = verdict(&said, "persistence");
    assert!(status == "warning" && detail.contains("appendonly yes"), "{status}: {detail}");
    server.tell(&["ACL", "SETUSER", "default", "-config", "-info"]).await;
    let said = examined(&server, &[]).await.with_code(0);
    for check in ["version", "persistence", "eviction", "memory", "replicas"] {
        assert_eq!(verdict(&said, check).0, "cannot be checked", "{}", said.out);
    }
}

/// Finds what came of a check.
#[track_caller]
fn verdict(said: &Said, check: &str) -> (String, String) {
    let checks = said.json();
    let found = checks.iter().find(|it| it["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no `{check}`: {}", said.out));
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    (text("status"), text("detail"))
}

#[tokio::test]
async fn what_cannot_be_known_is_said_so() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let arguments = ["doctor", "--proto", PROTO, "--json", "--strict"];
    let said = run(on(&bus.config, &arguments)).await.with_code(0);
    let (status, version) = verdict(&said, "version");
    assert!(status == "ok" && version.starts_with("RabbitMQ "), "{status}: {version}");
    for check in ["alarms", "file handles", "topics", "queues", "consumer time-out"] {
        let (status, why) = verdict(&said, check);
        assert!(status == "cannot be checked" && !why.is_empty(), "{check}: {status}: {why}");
    }
    assert_eq!(verdict(&said, "undeliverable delays").0, "ok");
    let said = run(on(&bus.config, &["doctor"])).await.with_code(0);
    assert!(said.out.contains("topics: cannot be checked: no contract"), "{}", said.out);
}

#[tokio::test]
async fn other_arguments_are_named_with_both_values() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let queue = worked(&bus, "data", 2).await;
    let arguments =
        ["doctor", "--agent", "data", "--agent", "absent", "--json", "--interval", "100ms"];
    let said = run(on(&bus.config, &arguments)).await.with_code(0);
    let (status, detail) = verdict(&said, &format!("arguments of `{queue}`"));
    assert_eq!(status, "warning");
    for part in ["x-max-length", "`1000`", "`1000000`", "passive"] {
        assert!(detail.contains(part), "{detail}");
    }
    assert_eq!(verdict(&said, &format!("arguments of `{queue}.dlq`")).0, "ok");
    let (status, detail) = verdict(&said, &format!("consumers of `{queue}`"));
    assert!(status == "warning" && detail.contains("2 messages wait"), "{status}: {detail}");
    assert_eq!(verdict(&said, &format!("dead letters in `{queue}.dlq`")).0, "ok");
    let absent = bus.queue("absent");
    assert_eq!(verdict(&said, &format!("arguments of `{absent}`")).0, "warning");
    assert!(bus.broker().stats(&absent).await.is_err(), "a check made the queue");
    // The same as the agent was configured with.
    let mut command = on(&bus.config, &arguments);
    command.env("AGENTBUS_MAX_QUEUE_LENGTH", "1000");
    let said = run(command).await.with_code(0);
    assert_eq!(verdict(&said, &format!("arguments of `{queue}`")).0, "ok");
}

#[tokio::test]
async fn dead_letters_that_become_more_are_seen() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let queue = worked(&bus, "data", 0).await;
    let dead_letters = format!("{queue}.dlq");
    let undeliverable = format!("{}.delay.v1.undeliverable", bus.config.exchange);
    let letter = Envelope::encode(&());
    bus.broker().publish(Destination::Queue(&undeliverable), letter.clone()).await.unwrap();
    let arguments = ["doctor", "--agent", "data", "--json", "--interval", "2s", "--strict"];
    let examined = run(on(&bus.config, &arguments));
    tokio::pin!(examined);
    // As long as it looks, they grow.
    let said = loop {
        tokio::select! {
            said = &mut examined => break said,
            sent = bus.broker().publish(Destination::Queue(&dead_letters), letter.clone()) => {
                sent.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    };
    let said = said.with_code(1);
    let (status, detail) = verdict(&said, &format!("dead letters in `{dead_letters}`"));
    assert!(status == "warning" && detail.contains("grew from"), "{status}: {detail}");
    let (status, detail) = verdict(&said, "undeliverable delays");
    assert!(status == "warning" && detail.contains("queues peek"), "{status}: {detail}");
}

#[tokio::test]
async fn the_management_api_tells_the_rest() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    filled(&bus, "data.dlq", 0).await;
    let (vhost, prefix) = (vhost(&bus.config), &bus.config.queue_prefix);
    let binding = |queue: &str, key: &str| {
        json!({ "source": "e", "vhost": "v", "destination": format!("{prefix}{queue}"),
            "destination_type": "queue", "routing_key": key, "arguments": {},
            "properties_key": key })
    };
    let queue = |name: &str| json!({ "name": format!("{prefix}{name}"), "vhost": "v" });
    let api = Management::serve([
        (format!("/api/queues/{vhost}"), json!([queue("data"), queue("data.dlq")])),
        (
            format!("/api/exchanges/{vhost}/{}/bindings/source", bus.config.exchange),
            json!([
                binding("data", "test.a*k"),
                binding("data", "test.ask"),
                binding("tail.1", "#")
            ]),
        ),
        (
            "/api/nodes".to_owned(),
            json!([{ "name": "rabbit@a", "running": true, "fd_used": 900, "fd_total": 1000,
                "mem_alarm": true, "disk_free_alarm": false, "mem_used": 1, "mem_limit": 1 }]),
        ),
    ]);
    let arguments = ["doctor", "--proto", PROTO, "--json", "--interval", "100ms"];
    let mut command = on(&bus.config, &arguments);
    command.env("AGENTBUS_MANAGEMENT_URL", api.url("s3cret"));
    let said = run(command).await.with_code(0);
    assert_eq!(verdict(&said, "topic `test.ask`").0, "ok");
    // Who watches does not answer.
    assert_eq!(verdict(&said, "topic `test.happened`").0, "warning");
    let (status, detail) = verdict(&said, "alarms");
    assert!(status == "warning" && detail.contains("out of memory"), "{status}: {detail}");
    let (status, detail) = verdict(&said, "file handles");
    assert!(status == "warning" && detail.contains("900 of 1000"), "{status}: {detail}");
    // The agent was found by its dead letters; its own queue is not there.
    let (status, detail) = verdict(&said, &format!("consumers of `{prefix}data`"));
    assert!(status == "warning" && detail.contains("there is no queue"), "{status}: {detail}");
    assert_eq!(verdict(&said, &format!("dead letters in `{prefix}data.dlq`")).0, "ok");
}
