//! All that happened: what was published and how that ended, what was handled, what is left.

use std::collections::HashSet;

use super::{
    log::{Line, What},
    messages::Kind,
};

/// All that happened.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
    pub dead: Vec<DeadLetter>,
    pub requests: Vec<Request>,
    /// Processes that ended by `kill -9`.
    pub killed: Vec<Run>,
    /// Processes that were told to stop while others went on.
    pub stopped: Vec<Run>,
    /// Messages left in queues where none should be.
    pub left: Vec<(String, u64)>,
}

/// One attempt to publish a job.
#[derive(Clone, Debug)]
pub struct Write {
    pub job: u64,
    pub kind: Kind,
    pub failures: u32,
    /// When it is due, in milliseconds since the epoch, if it is delayed.
    pub due: Option<u64>,
    /// In microseconds since the epoch, as all times without a unit.
    pub begun: u64,
    pub outcome: Outcome,
}

/// How a publish ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The bus has it.
    Taken,
    /// Nobody is bound: certainly nowhere.
    Unroutable,
    /// A queue refused it.
    Refused(String),
    /// Not known.
    Unknown(String),
}

/// A process of a reader, from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    pub reader: usize,
    pub number: u32,
}

/// What a reader has written in its log.
#[derive(Clone, Debug)]
pub struct Read {
    pub run: Run,
    pub line: Line,
}

/// A message in the dead letters.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub job: u64,
    /// The topic it was published under.
    pub topic: String,
    pub kind: String,
    pub attempts: u32,
}

/// A request, from its sending to its end.
#[derive(Clone, Debug)]
pub struct Request {
    pub job: u64,
    /// How long it was allowed to take, and took, in milliseconds.
    pub limit: u64,
    pub took: u64,
    pub end: RequestEnd,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestEnd {
    /// With the reply, which belongs to this job.
    Reply(u64),
    /// With an error or at its deadline.
    Error(String),
    /// Not at all, as long as anybody looked.
    Never,
}

impl History {
    /// Goes through what readers did to jobs.
    pub fn did(&self, what: What) -> impl Iterator<Item = &Read> {
        self.reads.iter().filter(move |read| read.line.what == what)
    }

    /// Counts the jobs, requests included.
    pub fn jobs(&self) -> usize {
        let written = self.writes.iter().map(|write| write.job);
        let asked = self.requests.iter().map(|request| request.job);
        written.chain(asked).collect::<HashSet<_>>().len()
    }

    /// Tells whether a process ended before the others.
    pub fn ended(&self, run: Run) -> bool {
        self.killed.contains(&run) || self.stopped.contains(&run)
    }

    /// Writes out all that happened to a job.
    pub fn of_job(&self, job: u64) -> String {
        let mut events: Vec<(u64, String)> = Vec::new();
        for write in self.writes.iter().filter(|write| write.job == job) {
            events.push((write.begun, format!("published: {write:?}")));
        }
        for read in self.reads.iter().filter(|read| read.line.job == job) {
            events.push((read.line.at, format!("{:?}: {:?}", read.run, read.line)));
        }
        for dead in self.dead.iter().filter(|dead| dead.job == job) {
            events.push((u64::MAX, format!("{dead:?}")));
        }
        for request in self.requests.iter().filter(|request| request.job == job) {
            events.push((u64::MAX, format!("{request:?}")));
        }
        events.sort();
        let events: Vec<_> = events.into_iter().map(|(_, event)| event).collect();
        events.join("\n    ")
    }
}
