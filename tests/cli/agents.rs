//! `agentbus agents`, and contracts that running agents tell.

use std::{env, process::Stdio, time::Duration};

use agentbus::{
    Agent, BoxError, Client, Config, Context, HandlerError, Routes, Running, Runtime,
    contract::Contract,
};
use protox::file::{
    ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    program::{PROTO, ended, interrupt, on, run, start},
    support::{
        bus::Bus,
        eventually,
        messages::{ASK, Answer, Event, HAPPENED, Question},
        rabbitmq,
    },
};

/// For what hangs.
const LIMIT: Duration = Duration::from_mins(1);

/// Set for the other process, which nobody else is to become.
const CHILD: &str = "AGENTBUS_TEST_AGENT_PROCESS";

/// Answers, and is built with a contract.
struct Oracle {
    name: &'static str,
    contract: &'static Contract,
}

impl Agent for Oracle {
    fn name(&self) -> &str {
        self.name
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new()
            .on(ASK.with_contract(self.contract), Self::ask)
            .on(HAPPENED.with_contract(self.contract), Self::happened)
    }
}

impl Oracle {
    async fn ask(&self, question: Question, _: &Context) -> Result<Answer, HandlerError> {
        Ok(Answer { text: format!("{}?", question.text) })
    }

    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// Has no routes, and so no contract.
struct Bare;

impl Agent for Bare {
    fn name(&self) -> &'static str {
        "test.bare"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new()
    }
}

/// The tests' contract, as changed.
struct Source(String);

impl FileResolver for Source {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            "test.proto" => File::from_source(name, &self.0),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// Compiles the tests' contract, as a program has it built in.
fn contract(hash: &'static str, change: fn(String) -> String) -> &'static Contract {
    let mut files = ChainFileResolver::new();
    files.add(Source(change(std::fs::read_to_string(PROTO).unwrap())));
    files.add(IncludeFileResolver::new(concat!(env!("CARGO_MANIFEST_DIR"), "/proto").into()));
    files.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(files);
    compiler.include_imports(true).include_source_info(true).open_file("test.proto").unwrap();
    let set = compiler.encode_file_descriptor_set();
    Box::leak(Box::new(Contract::new(set.leak(), hash)))
}

async fn running(bus: &Bus, version: &'static str, oracle: Oracle) -> Running {
    let runtime = Runtime::new(bus.client()).discovery(true).version(version);
    runtime.agent(oracle).start().await.unwrap()
}

/// Runs `agentbus agents` until it has as many lines of JSON.
async fn listed(bus: &Bus, more: &[&str], count: usize) -> Vec<serde_json::Value> {
    eventually("the agents to be listed", async || {
        let arguments = [&["agents", "--json"], more].concat();
        let said = run(on(&bus.config, &arguments)).await;
        let cards = said.json();
        (cards.len() == count).then_some(cards)
    })
    .await
}

#[tokio::test]
async fn agents_are_listed_with_what_they_answer() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let v1 = contract("0123456789abcdef", |source| source);
    let agents = running(&bus, "1.2.3", Oracle { name: "test.oracle", contract: v1 }).await;
    let card = listed(&bus, &[], 1).await.remove(0);
    assert_eq!(card["agent"], "test.oracle");
    assert_eq!(card["version"], "1.2.3");
    assert_eq!(card["contracts"], serde_json::json!(["0123456789abcdef"]));
    assert_eq!(card["routes"][0]["topic"], "test.ask");
    assert_eq!(card["routes"][0]["replyType"], "test.v1.Answer");
    let said = eventually("the agent to be listed", async || {
        let said = run(on(&bus.config, &["agents", "test.*", "--wait", "2s", "--strict"])).await;
        (!said.out.is_empty()).then_some(said.with_code(0))
    })
    .await;
    for shown in ["test.oracle", "1.2.3", "01234567", "test.ask", "answers", "test.v1.Question"] {
        assert!(said.out.contains(shown), "{shown}: {}", said.out);
    }
    assert_eq!(said.err, "");
    agents.stop().await;
    let said = run(on(&bus.config, &["agents", "other.#", "--wait", "300ms"])).await.with_code(1);
    assert!(said.err.contains("no agent has answered"), "{}", said.err);
}

#[tokio::test]
async fn an_old_instance_with_another_contract_is_warned_about() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let v1 = contract("1111111111111111", |source| source);
    let v2 = contract("2222222222222222", |source| {
        source.replace("uint32 number = 2;", "string number = 2;")
    });
    let old = running(&bus, "1.0", Oracle { name: "test.oracle", contract: v1 }).await;
    let new = running(&bus, "2.0", Oracle { name: "test.oracle", contract: v2 }).await;
    let other = running(&bus, "1.0", Oracle { name: "test.other", contract: v1 }).await;
    listed(&bus, &[], 3).await;
    let said = eventually("all to answer", async || {
        let said = run(on(&bus.config, &["agents", "--strict", "--wait", "2s"])).await;
        (said.err.lines().count() == 2).then_some(said)
    })
    .await
    .with_code(1);
    assert!(said.err.contains("replicas of `test.oracle` speak different contracts"), "{said:?}");
    assert!(said.err.contains("(contract 11111111, version 1.0)"), "{said:?}");
    assert!(said.err.contains("(contract 22222222, version 2.0); "), "{said:?}");
    assert!(said.err.contains("test.proto"), "the file that differs: {said:?}");
    assert!(said.err.contains("`test.other`, which share `test.ask`"), "{said:?}");
    old.stop().await;
    let said = eventually("the old one to be gone", async || {
        let said = run(on(&bus.config, &["agents", "test.oracle", "--wait", "2s"])).await;
        (said.code == Some(0)).then_some(said)
    })
    .await;
    assert_eq!(said.err, "", "there is one of them only");
    new.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn messages_are_written_and_read_by_a_running_agents_contract() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let v1 = contract("0123456789abcdef", |source| source);
    let agents = running(&bus, "1.0", Oracle { name: "test.oracle", contract: v1 }).await;
    listed(&bus, &[], 1).await;
    let from = ["--from-agent", "test.oracle"];
    let asked = [&["request", "test.ask", "--data", r#"{"text": "why"}"#][..], &from].concat();
    let said = run(on(&bus.config, &asked)).await.with_code(0);
    assert!(said.out.contains("why?"), "{}", said.out);

    let tail = [&["tail", "test.happened", "--json", "--limit", "1"][..], &from].concat();
    let (child, _err) = start(on(&bus.config, &tail), "watching").await;
    let publish = [&["publish", "test.happened", "--data", r#"{"number": 7}"#][..], &from].concat();
    run(on(&bus.config, &publish)).await.with_code(0);
    let shown = ended(child).await.with_code(0).json();
    assert_eq!(shown[0]["body"], serde_json::json!({ "number": 7 }));

    let wrong = [&["publish", "test.happened", "--data", r#"{"no": 7}"#][..], &from].concat();
    run(on(&bus.config, &wrong)).await.with_code(2);
    agents.stop().await;
}

#[tokio::test]
async fn a_running_agents_contract_is_shown_documented_and_checked() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let v1 = contract("0123456789abcdef", |source| source);
    let agents = running(&bus, "1.0", Oracle { name: "test.oracle", contract: v1 }).await;
    listed(&bus, &[], 1).await;
    let from = ["--from-agent", "test.oracle"];
    let show = [&["contract", "show", "Question"][..], &from].concat();
    let said = run(on(&bus.config, &show)).await.with_code(0);
    assert!(said.out.contains("carried by test.ask: request of "), "{}", said.out);
    let docs = [&["contract", "docs", "--json"][..], &from].concat();
    let document = run(on(&bus.config, &docs)).await.with_code(0).json();
    assert_eq!(document[0]["channels"]["test.ask"]["address"], "test.ask");

    let check = ["contract", "check", "--level", "source", "agent:test.oracle", PROTO];
    let said = run(on(&bus.config, &check)).await.with_code(0);
    assert_eq!(said.out, "nothing breaks\n");
    let said = run(on(&bus.config, &["contract", "check", "agent:no one", PROTO])).await;
    assert!(said.with_code(2).err.contains("is not the name of an agent"));
    agents.stop().await;
}

#[tokio::test]
async fn an_agent_without_a_contract_says_so_and_one_that_is_not_there_too() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let agents = Runtime::new(bus.client()).discovery(true).agent(Bare).start().await.unwrap();
    listed(&bus, &[], 1).await;
    let asked = |agent| ["request", "test.ask", "--data", "{}", "--from-agent", agent];
    let said = run(on(&bus.config, &asked("test.bare"))).await.with_code(1);
    assert!(said.err.contains("`Runtime::contract`"), "{}", said.err);
    let mut impatient = on(&bus.config, &asked("test.nobody"));
    impatient.env("AGENTBUS_REQUEST_TIMEOUT", "300ms");
    let said = run(impatient).await.with_code(1);
    assert!(said.err.contains("no agent `test.nobody`"), "{}", said.err);
    run(on(&bus.config, &asked("test.*"))).await.with_code(2);
    agents.stop().await;
}

#[tokio::test]
async fn replicas_that_speak_different_contracts_have_none_to_tell() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let v1 = contract("1111111111111111", |source| source);
    let v2 = contract("2222222222222222", |source| {
        source.replace("uint32 number = 2;", "string number = 2;")
    });
    let old = running(&bus, "1.0", Oracle { name: "test.oracle", contract: v1 }).await;
    let new = running(&bus, "2.0", Oracle { name: "test.oracle", contract: v2 }).await;
    let cards = listed(&bus, &["--wait", "2s"], 2).await;
    let check = ["contract", "check", "agent:test.oracle", PROTO];
    let show = ["contract", "show", "--from-agent", "test.oracle"];
    for arguments in [&check[..], &show] {
        // On a busy machine one may answer so late that the other is alone.
        let said = eventually("both to be heard", async || {
            let said = run(on(&bus.config, arguments)).await;
            (said.code == Some(2)).then_some(said)
        })
        .await;
        assert_eq!(said.out, "");
        assert!(
            said.err.contains("replicas of `test.oracle` speak different contracts"),
            "{said:?}"
        );
        for card in &cards {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            let (hash, instance) = (text(&card["contracts"][0]), text(&card["instance"]));
            let told = format!("contract {hash} (instance {instance})");
            assert!(said.err.contains(&told), "{told}: {said:?}");
        }
    }
    old.stop().await;
    eventually("the new one to be alone", async || {
        let said = run(on(&bus.config, &check)).await;
        (said.code == Some(1) && said.out.contains("FIELD_TYPE")).then_some(())
    })
    .await;
    new.stop().await;
}

/// A process with an agent in it, which says when it is ready.
async fn process(bus: &Bus, name: &str) -> Child {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "agents::the_agent_process", "--nocapture"])
        .env("AGENTBUS_URL", rabbitmq::address(&bus.config))
        .env("AGENTBUS_EXCHANGE", &bus.config.exchange)
        .env("AGENTBUS_QUEUE_PREFIX", &bus.config.queue_prefix)
        .env(CHILD, name)
        .env_remove("RABBITMQ_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    bus.queue(name);
    bus.queue(&format!("{name}.dlq"));
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    loop {
        let line = timeout(LIMIT, lines.next_line()).await.expect("it hangs").unwrap();
        if line.expect("it ends too early").contains("the agent is ready") {
            return child;
        }
    }
}

#[test]
#[ignore = "the process that the other tests start"]
fn the_agent_process() -> Result<(), BoxError> {
    let Ok(name) = env::var(CHILD) else { return Ok(()) };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime?.block_on(async {
        let client = Client::connect(Config::load()?).await?;
        let contract = contract("0123456789abcdef", |source| source);
        let oracle = Oracle { name: name.leak(), contract };
        let signals = agentbus::agent::Signals::listen()?;
        let agents = Runtime::new(client).version("9").agent(oracle).start().await?;
        println!("the agent is ready");
        agents.run_with(signals).await;
        Ok(())
    })
}

#[tokio::test]
async fn who_starts_and_stops_is_told_and_who_is_killed_is_missing() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let arguments = ["agents", "--watch", "--json"];
    let (mut watch, mut err) = start(on(&bus.config, &arguments), "watching").await;
    let mut told = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = timeout(LIMIT, told.next_line()).await.unwrap().unwrap().unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        event
    };
    let mut first = process(&bus, "test.first").await;
    let mut second = process(&bus, "test.second").await;
    let mut started = [next().await, next().await];
    started.sort_by_key(|event| event["agent"]["agent"].to_string());
    for (event, (name, process)) in
        started.iter().zip([("test.first", &first), ("test.second", &second)])
    {
        assert_eq!(event["event"], "started", "{event}");
        assert_eq!(event["agent"]["agent"], name);
        assert_eq!(event["agent"]["version"], "9");
        assert_eq!(event["agent"]["pid"], process.id().unwrap());
    }
    listed(&bus, &[], 2).await;

    first.kill().await.unwrap();
    let left = listed(&bus, &["--wait", "2s"], 1).await;
    assert_eq!(left[0]["agent"], "test.second");

    let id = second.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let event = next().await;
    assert_eq!(event["event"], "stopped", "the one that was killed says nothing: {event}");
    assert_eq!(event["agent"]["agent"], "test.second");
    assert_eq!(event["reason"], "a signal");
    assert!(second.wait().await.unwrap().success());
    interrupt(&watch).await;
    while err.next_line().await.unwrap().is_some() {}
    assert_eq!(watch.wait().await.unwrap().code(), Some(0));
}
