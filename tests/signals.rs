//! What becomes of a message when the process that handles it is told to stop, twice, or killed.

#![cfg(all(unix, feature = "rabbitmq"))]

mod support;

use std::{
    env,
    io::Write as _,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use agentbus::{
    Agent, BoxError, Client, Config, Context, Envelope, HandlerError, Routes, Runtime,
    agent::Signals,
};
use support::{
    bus::Bus,
    eventually,
    messages::{Event, HAPPENED},
    rabbitmq,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Mutex, mpsc},
    time::timeout,
};

/// For a process that hangs.
const LIMIT: Duration = Duration::from_mins(1);

/// What its handlers never end on.
const ENDLESS: u32 = 1;
/// What its handlers end when they are told to, over standard input.
const UNTIL_TOLD: u32 = 2;

const MARK: &str = "agent: ";

/// Set for the other process, which nobody else is to become.
const CHILD: &str = "AGENTBUS_TEST_AGENT_PROCESS";

/// The agent in the other process.
#[derive(Default)]
struct Worker {
    stdin: Mutex<Option<tokio::io::Stdin>>,
}

impl Agent for Worker {
    fn name(&self) -> &'static str {
        "worker"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened)
    }

    async fn on_stop(&self) {
        say("on_stop");
    }
}

impl Worker {
    async fn happened(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        say(&format!("begun, attempt {}", ctx.attempt()));
        match event.number {
            ENDLESS => std::future::pending().await,
            UNTIL_TOLD => {
                let mut stdin = self.stdin.lock().await;
                stdin.get_or_insert_with(tokio::io::stdin).read_u8().await?;
            }
            _ => {}
        }
        say("done");
        Ok(())
    }
}

/// Past the test harness, which holds what `println!` prints.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{MARK}{text}").and_then(|()| stdout.flush()).expect("somebody listens");
}

#[test]
#[ignore = "the process that the other tests start"]
fn the_agent_process() -> Result<(), BoxError> {
    if env::var_os(CHILD).is_none() {
        return Ok(());
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime?.block_on(async {
        let signals = Signals::listen()?;
        let client = Client::connect(Config::load()?).await?;
        let agents = Runtime::new(client).agent(Worker::default()).start().await?;
        say("ready");
        let ended = agents.run_with(signals).await;
        say(&format!("{ended:?}"));
        Ok(())
    })
}

/// A process with the agent in it.
struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    async fn start(bus: &Bus, grace: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "the_agent_process", "--nocapture"])
            .env("AGENTBUS_URL", rabbitmq::address(&bus.config))
            .env("AGENTBUS_EXCHANGE", &bus.config.exchange)
            .env("AGENTBUS_QUEUE_PREFIX", &bus.config.queue_prefix)
            .env("AGENTBUS_SHUTDOWN_GRACE", grace)
            .env(CHILD, "1")
            .env_remove("RABBITMQ_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Self { child, stdin, lines };
        process.says("ready").await;
        process
    }

    /// Reads the next thing it says.
    async fn says(&mut self, expected: &str) {
        let next = async {
            loop {
                let line = self.lines.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("ended before it said `{expected}`"));
                // The harness leaves its own line unfinished.
                if let Some((_, said)) = line.split_once(MARK) {
                    return said.to_owned();
                }
            }
        };
        let said = timeout(LIMIT, next).await;
        assert_eq!(said.unwrap_or_else(|_| panic!("`{expected}` is still to come")), expected);
    }

    async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([signal, &id]).status().await.unwrap();
        assert!(sent.success(), "{signal}");
    }

    /// Waits for its end; nothing more may be said.
    async fn ended(mut self) -> ExitStatus {
        let status = timeout(LIMIT, self.child.wait()).await.expect("it ends").unwrap();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            assert!(!line.contains(MARK), "{line}");
        }
        status
    }
}

/// The number of the attempt at a message, and whether it was marked as redelivered.
type Handled = (u32, bool);

/// Takes what was left, in this process.
struct Heir(mpsc::UnboundedSender<Handled>);

impl Agent for Heir {
    fn name(&self) -> &'static str {
        "worker"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(HAPPENED, Self::happened)
    }
}

impl Heir {
    async fn happened(&self, _: Event, ctx: &Context) -> Result<(), HandlerError> {
        self.0.send((ctx.attempt(), ctx.is_redelivered()))?;
        Ok(())
    }
}

/// Waits for what another process has left, and looks whether it is handled as it should be.
async fn inherit(bus: &Bus) {
    let (sender, mut handled) = mpsc::unbounded_channel();
    let agents = Runtime::new(bus.client()).agent(Heir(sender)).start().await.unwrap();
    let first = timeout(LIMIT, handled.recv()).await.expect("it comes back").unwrap();
    assert_eq!(first, (ATTEMPT, true), "being given back is no attempt, and shows");
    agents.stop().await;
    assert!(handled.recv().await.is_none(), "it came back once");
    empty(bus).await;
}

async fn empty(bus: &Bus) {
    for queue in ["worker", "worker.dlq"] {
        let queue = bus.queue(queue);
        eventually("an empty queue", async || {
            let stats = bus.broker().stats(&queue).await.unwrap();
            (stats.ready == 0 && stats.consumers == 0).then_some(())
        })
        .await;
    }
}

/// The number of the attempt that the message is at.
const ATTEMPT: u32 = 3;

async fn publish(bus: &Bus, number: u32) {
    let mut event = Envelope::encode(&Event { number });
    event.topic = Some(HAPPENED.name().clone());
    event.metadata.attempt = Some(ATTEMPT);
    bus.client().publish_envelope(event).await.unwrap();
}

/// A bus for a test, whose queues another process declares.
async fn found() -> Option<Arc<Bus>> {
    Bus::rabbitmq().await.map(Arc::new)
}

#[tokio::test]
async fn told_to_stop_in_mid_handler_it_finishes_and_acks() {
    let Some(bus) = found().await else { return };
    for signal in ["-TERM", "-INT"] {
        let mut process = Process::start(&bus, "60s").await;
        publish(&bus, UNTIL_TOLD).await;
        process.says("begun, attempt 3").await;
        process.signal(signal).await;
        // So that it is stopping, or else it is told in time.
        tokio::time::sleep(Duration::from_millis(200)).await;
        process.stdin.write_all(b"!").await.unwrap();
        process.says("done").await;
        process.says("on_stop").await;
        process.says("InOrder").await;
        assert!(process.ended().await.success());
        empty(&bus).await;
    }
}

#[tokio::test]
async fn a_handler_that_never_ends_is_given_back_within_the_grace_period() {
    let Some(bus) = found().await else { return };
    let mut process = Process::start(&bus, "1s").await;
    publish(&bus, ENDLESS).await;
    process.says("begun, attempt 3").await;
    process.signal("-TERM").await;
    process.says("on_stop").await;
    process.says("InOrder").await;
    assert!(process.ended().await.success());
    inherit(&bus).await;
}

#[tokio::test]
async fn told_twice_it_ends_at_once() {
    let Some(bus) = found().await else { return };
    let mut process = Process::start(&bus, "1h").await;
    publish(&bus, ENDLESS).await;
    process.says("begun, attempt 3").await;
    process.signal("-TERM").await;
    // Two that come together count as one.
    tokio::time::sleep(Duration::from_millis(300)).await;
    process.signal("-INT").await;
    process.says("AtOnce").await;
    assert!(process.ended().await.success());
    inherit(&bus).await;
}

#[tokio::test]
async fn killed_in_mid_handler_its_message_comes_back_as_the_same_attempt() {
    let Some(bus) = found().await else { return };
    let mut process = Process::start(&bus, "1s").await;
    publish(&bus, ENDLESS).await;
    process.says("begun, attempt 3").await;
    process.signal("-KILL").await;
    assert!(!process.ended().await.success());
    inherit(&bus).await;
}
