//! Agents answer over RabbitMQ and Redis as they do on the embedded bus.

mod support;

use support::{Files, README, README_ANSWER, ask_json, json, shared_bus::SharedBus};

/// What a question is answered by the agents on `bus`.
fn asked(bus: &SharedBus, question: &str) -> serde_json::Value {
    json(&bus.ask(&["--json", question]).answered())
}

#[test]
fn one_process_answers_as_on_the_embedded_bus() {
    for bus in SharedBus::all() {
        let printed = bus.ask(&["--all", "--json", README]).answered();
        assert_eq!(json(&printed), ask_json(&[README]));
    }
}

#[test]
fn four_processes_answer_as_one() {
    for bus in SharedBus::all() {
        let served = ["query", "data", "analysis"].map(|agent| bus.serve(&[agent]));
        assert_eq!(asked(&bus, README), ask_json(&[README]));
        let text = bus.ask(&[README]).answered();
        assert!(
            text.starts_with(&format!("{README_ANSWER}\nThese prices are synthetic")),
            "{text}"
        );
        for process in served {
            assert!(process.stop().success());
        }
    }
}

#[test]
fn replicas_share_the_work_and_one_that_restarts_is_found_again() {
    for bus in SharedBus::all() {
        let files = Files::new();
        let file = files.file("aaa.csv", "date,close\n2024-01-01,1\n2024-01-02,3\n");
        let data = || bus.serve(&["data", "--prices", &file]);
        let _others = ["query", "analysis"].map(|agent| bus.serve(&[agent]));
        let expected = ask_json(&["AAA", "--prices", &file]);
        let mut replicas = vec![data(), data(), data()];
        for _ in 0..3 {
            assert_eq!(asked(&bus, "AAA"), expected);
        }
        // One by one they go, and the last of them comes back.
        while let Some(replica) = replicas.pop() {
            assert!(replica.stop().success());
            if replicas.is_empty() {
                break;
            }
            assert_eq!(asked(&bus, "AAA"), expected);
        }
        let error = bus.ask(&["AAA"]).failed();
        assert!(error.contains("the agent `data` does not run there"), "{error}");
        let _again = data();
        assert_eq!(asked(&bus, "AAA"), expected);
    }
}

#[test]
fn where_nobody_answers_it_is_said_at_once_and_what_to_do() {
    for bus in SharedBus::all() {
        let error = bus.ask(&[README]).failed();
        for part in
            ["`query`, `data`, `analysis` do not run there", "`market serve all --bus …`", "--all"]
        {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("no reply"), "{error}");
    }
}

#[test]
fn what_an_agent_refuses_is_told_the_asker() {
    for bus in SharedBus::all() {
        let _served = bus.serve(&["all"]);
        let error = bus.ask(&[&"ZEC ".repeat(1000)]).failed();
        assert!(error.contains("`text` is longer than 1000 bytes"), "{error}");
        let back = bus.ask(&["DOGE"]);
        assert_eq!(back.code, Some(3), "{back:?}");
    }
}
