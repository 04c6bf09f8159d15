//! Runs the program as a user does.
#![allow(dead_code, unreachable_pub)] // each test binary uses a part of it

pub mod shared_bus;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// The question of the README.
pub const README: &str = "How did ZEC move against BTC in the last 90 days?";

/// What it is answered, from the sample.
pub const README_ANSWER: &str = "ZEC rose 32.1 % from 2025-10-02 to 2025-12-31, while BTC fell \
    6.9 %; their daily returns correlate at 0.63 (p < 0.001, n = 90).";

/// The program, with nothing in its environment that names a bus.
pub fn market(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_market"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let named = name.to_string_lossy();
        let prefixes = ["AGENTBUS_", "RABBITMQ", "QUEUE_PROVIDER", "MESSAGE_QUEUE", "RUST_LOG"];
        if prefixes.iter().any(|prefix| named.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// What a run of the program printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(mut command: Command) -> Self {
        let output = command.output().expect("the program runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Returns what was printed by a run that answered.
    pub fn answered(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.stderr, "");
        self.stdout
    }

    /// Returns the error of a run that failed, and that printed nothing else.
    pub fn failed(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.stdout, "");
        self.stderr
    }
}

/// Asks on the embedded bus.
pub fn ask(arguments: &[&str]) -> Ran {
    Ran::of(market(&[&["ask"], arguments].concat()))
}

/// Asks on the embedded bus, for JSON.
pub fn ask_json(arguments: &[&str]) -> Value {
    json(&ask(&[&["--json"], arguments].concat()).answered())
}

/// Reads an answer, and leaves out what differs from one time to the next.
pub fn json(printed: &str) -> Value {
    let mut answer: Value = serde_json::from_str(printed).expect("JSON and nothing else");
    let fields = answer.as_object_mut().expect("an object");
    assert!(fields.remove("conversationId").is_some_and(|id| id != ""));
    let timings = fields.remove("timings").expect("timings");
    assert!(timings[0]["milliseconds"].as_f64().is_some_and(|took| took > 0.0), "{timings}");
    answer
}

/// Price files in a directory of their own.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path: PathBuf = self.0.path().join(name);
        fs::write(&path, text).expect("a writable directory");
        path.to_str().expect("UTF-8").to_owned()
    }
}

/// A process that serves agents; killed where a test forgets it.
pub struct Served(Child);

impl Served {
    /// Starts the process, and waits until its agents are ready.
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut served = Self(command.spawn().expect("the program runs"));
        let mut line = String::new();
        let stdout = served.0.stdout.take().expect("is piped");
        BufReader::new(stdout).read_line(&mut line).expect("UTF-8");
        assert!(line.starts_with("ready on "), "{line:?} {}", served.complaint());
        served
    }

    /// Tells the process to stop, and waits until it has.
    pub fn stop(mut self) -> ExitStatus {
        let killed = Command::new("kill").arg(self.0.id().to_string()).status();
        assert!(killed.is_ok_and(|status| status.success()));
        self.0.wait().expect("it is a child")
    }

    /// Returns what a process that has ended said of it.
    fn complaint(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut text).expect("UTF-8");
        }
        text
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Fails where it has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
