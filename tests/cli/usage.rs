//! What is said where the command line or the configuration is wrong.

use crate::program::{PROTO, bare, run};

#[tokio::test]
async fn help_names_every_command_and_the_exit_codes() {
    let said = run(bare(&["--help"])).await.with_code(0);
    for part in ["publish", "request", "queues", "Exit codes:", "--bus", "Examples:"] {
        assert!(said.out.contains(part), "{}", said.out);
    }
}

#[tokio::test]
async fn a_wrong_command_line_ends_with_2() {
    for arguments in [&["publsh"][..], &["publish"], &["publish", "a.b", "--priority", "11"]] {
        let said = run(bare(arguments)).await.with_code(2);
        assert!(said.out.is_empty() && !said.err.is_empty(), "{said:?}");
    }
}

#[tokio::test]
async fn a_bus_within_another_process_cannot_be_reached() {
    let said = run(bare(&["queues", "list", "data"])).await.with_code(2);
    assert!(said.err.contains("--bus") && said.err.contains("AGENTBUS_URL"), "{}", said.err);
}

#[tokio::test]
async fn an_address_that_is_none_is_not_shown() {
    let said = run(bare(&["queues", "list", "q", "--bus", "amqp//me:SECRET@host"])).await;
    let said = said.with_code(2);
    assert!(said.err.contains("`--bus`") && !said.err.contains("SECRET"), "{}", said.err);
}

#[tokio::test]
async fn a_broker_that_cannot_be_reached_is_named_without_the_password() {
    // Nobody listens at the port of `tcpmux`.
    let bus = "amqp://me:SECRET@127.0.0.1:1/v";
    let said = run(bare(&["queues", "list", "q", "--bus", bus])).await.with_code(1);
    assert!(
        said.err.contains("127.0.0.1:1") && said.err.contains("is it running?"),
        "{}",
        said.err
    );
    assert!(!said.err.contains("SECRET"), "{}", said.err);
}

#[tokio::test]
async fn a_file_of_the_configuration_is_read_and_its_faults_are_placed() {
    let path = std::env::temp_dir().join(format!("agentbus-cli-{}.toml", std::process::id()));
    std::fs::write(&path, "prefetch = 1\n").unwrap();
    let file = path.to_str().unwrap();
    let said = run(bare(&["queues", "list", "q", "--config", file])).await;
    std::fs::remove_file(&path).unwrap();
    let said = said.with_code(2);
    assert!(said.err.contains("prefetch") && said.err.contains(":1)"), "{}", said.err);
}

#[tokio::test]
async fn faults_of_a_contract_have_their_place() {
    let path = std::env::temp_dir().join(format!("agentbus-cli-{}.proto", std::process::id()));
    std::fs::write(&path, "syntax = \"proto3\";\nmessage M {\n  string = 1;\n}\n").unwrap();
    let file = path.to_str().unwrap();
    let folder = std::env::temp_dir();
    let folder = folder.to_str().unwrap();
    let said = run(bare(&["publish", "a.b", "--data", "{}", "--proto", file, "-I", folder])).await;
    std::fs::remove_file(&path).unwrap();
    let said = said.with_code(2);
    assert!(said.err.contains(".proto:3:10"), "{}", said.err);
}

#[tokio::test]
async fn what_the_contract_lacks_is_told_before_anything_is_sent() {
    // No bus is named: none is needed to find out.
    let cases: [(&[&str], &str); 5] = [
        (&["--type", "test.v1.Qestion", "--data", "{}"], "did you mean `test.v1.Question`?"),
        (&["--data", r#"{"number": "many"}"#], "at `number`"),
        (&["--data", r#"{"numbr": 1}"#], "`number`"),
        (&["--data", "{"], "EOF"),
        (&["--data", "{}", "--header", "agentbus-attempt=3"], "agentbus-attempt"),
    ];
    for (arguments, part) in cases {
        let arguments = [&["publish", "test.ask", "--proto", PROTO], arguments].concat();
        let said = run(bare(&arguments)).await.with_code(2);
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    let said = run(bare(&["publish", "a.b", "--proto", PROTO, "--data", "{}"])).await;
    assert!(said.with_code(2).err.contains("--type"));
}
