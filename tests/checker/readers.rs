//! The reader processes: started, killed, stopped, and their logs read while they are written.

use std::{
    env,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    history::{Read, Run},
    log::Tail,
    reader::Orders,
};

/// How long a process may take to be ready, or to stop: only a hang takes longer.
const PATIENCE: Duration = Duration::from_mins(2);

/// A reader, in one process after another.
#[derive(Debug)]
pub struct Reader {
    pub run: Run,
    orders: Orders,
    folder: PathBuf,
    child: Child,
}

impl Reader {
    /// Starts a reader, without waiting for it.
    pub fn start(reader: usize, orders: &Orders, folder: &Path) -> Self {
        let run = Run { reader, number: 0 };
        let child = spawn(run, orders, folder);
        Self { run, orders: orders.clone(), folder: folder.to_owned(), child }
    }

    /// Ends the process by `kill -9`.
    pub async fn kill(&mut self) {
        self.child.kill().expect("a process of ours can be killed");
        self.ended().await;
    }

    /// Stops the process in its tracks.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets the process go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|sent| sent.success()), "{:?} has ended by itself", self.run);
    }

    /// Tells the process to stop in good order, and waits until it has.
    pub async fn stop(&mut self) {
        drop(self.child.stdin.take());
        self.ended().await;
    }

    async fn ended(&mut self) {
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            assert!(started.elapsed() < PATIENCE, "{:?} does not end", self.run);
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts it anew after it has ended.
    pub fn again(&mut self) {
        self.run.number += 1;
        self.child = spawn(self.run, &self.orders, &self.folder);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(run: Run, orders: &Orders, folder: &Path) -> Child {
    let orders = Orders { log: log_path(folder, run), ..orders.clone() };
    let errors = File::create(log_path(folder, run).with_extension("errors"));
    let mut command = Command::new(env::current_exe().expect("a test knows where it is"));
    // The test of that name becomes the reader.
    command.args(["a_reader_process", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    let (variable, orders) = orders.variable();
    command.env(variable, orders).env_remove("AGENTBUS_CHECKER_JSON");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command.stderr(errors.expect("the folder takes a file"));
    command.spawn().expect("this program can be started once more")
}

fn log_path(folder: &Path, run: Run) -> PathBuf {
    folder.join(format!("reader-{}-{}.log", run.reader, run.number))
}

/// Reads the logs of all processes, ended ones included.
#[derive(Debug)]
pub struct Logs {
    folder: PathBuf,
    /// By reader: the tails of its processes so far.
    tails: Vec<Vec<Tail>>,
}

impl Logs {
    pub fn new(folder: &Path, readers: usize) -> Self {
        Self { folder: folder.to_owned(), tails: (0..readers).map(|_| Vec::new()).collect() }
    }

    /// Finds what the newest process of a reader has said beside its log.
    pub fn errors_of(folder: &Path, reader: usize) -> PathBuf {
        let path = |number| log_path(folder, Run { reader, number }).with_extension("errors");
        let mut newest = 0;
        while path(newest + 1).exists() {
            newest += 1;
        }
        path(newest)
    }

    /// Reads what is new.
    pub fn read(&mut self) -> Vec<Read> {
        let mut reads = Vec::new();
        for (reader, tails) in self.tails.iter_mut().enumerate() {
            let number = |at: usize| u32::try_from(at).expect("few processes");
            let next = Run { reader, number: number(tails.len()) };
            tails.extend(Tail::open(&log_path(&self.folder, next)));
            for (at, tail) in tails.iter_mut().enumerate() {
                let run = Run { reader, number: number(at) };
                reads.extend(tail.lines().into_iter().map(|line| Read { run, line }));
            }
        }
        reads
    }
}
