//! Runs the program on the bus of a test.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use agentbus::Config;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use crate::support::rabbitmq;

/// The lines of what a program writes.
pub(crate) type Lines<T> = tokio::io::Lines<BufReader<T>>;

/// Much longer than anything takes; what hangs is to fail, not to stand still.
const LIMIT: Duration = Duration::from_mins(1);

/// The contract that the tests' messages are written and read by.
pub(crate) const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/test.proto");

/// What the program has said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Checks the exit code; what was said is shown where it is another.
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Reads the lines of standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        let read = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{self:?}"));
        self.out.lines().map(read).collect()
    }
}

/// Prepares the program with nothing of this process's settings.
pub(crate) fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["AGENTBUS_", "RABBITMQ_", "QUEUE_PROVIDER", "MESSAGE_QUEUE", "RUST_LOG", "REDIS_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(&*name);
        }
    }
    command.args(arguments).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Prepares the program for the bus of a test.
pub(crate) fn on(config: &Config, arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command
        .env("AGENTBUS_URL", rabbitmq::address(config))
        .env("AGENTBUS_EXCHANGE", &config.exchange)
        .env("AGENTBUS_QUEUE_PREFIX", &config.queue_prefix);
    command
}

/// Runs a prepared program to its end.
pub(crate) async fn run(mut command: Command) -> Said {
    ended(command.spawn().expect("the program starts")).await
}

/// Runs a prepared program to its end, with something to read.
pub(crate) async fn run_with(mut command: Command, input: &str) -> Said {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("it was piped");
    // The program may end before it has read all.
    drop(stdin.write_all(input.as_bytes()).await);
    drop(stdin);
    ended(child).await
}

/// Starts a prepared program, and waits until it says something on standard error.
pub(crate) async fn start(mut command: Command, until: &str) -> (Child, Lines<ChildStderr>) {
    let mut child = command.spawn().expect("the program starts");
    let mut err = BufReader::new(child.stderr.take().expect("it was piped")).lines();
    loop {
        let line = timeout(LIMIT, err.next_line()).await.expect("the program says nothing");
        let line = line.expect("it can be read").expect("the program has ended");
        if line.contains(until) {
            return (child, err);
        }
    }
}

/// Presses Ctrl-C.
pub(crate) async fn interrupt(child: &Child) {
    let id = child.id().expect("the program runs").to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().await;
    assert!(sent.expect("`kill` is there").success());
}

/// Waits for the end of a running program.
pub(crate) async fn ended(child: Child) -> Said {
    let output = timeout(LIMIT, child.wait_with_output()).await;
    let Output { status, stdout, stderr } =
        output.expect("the program hangs").expect("the program can be waited for");
    let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
    Said { code: status.code(), out: text(stdout), err: text(stderr) }
}
