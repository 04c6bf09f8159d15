//! What is known while it goes on: the history so far, and what the nemesis and the drain ask of it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard},
};

use super::{
    history::{DeadLetter, History, Outcome, Read, Request, Run, Write},
    log::What,
    messages::{JOB, Kind},
};

/// The history as it grows; shared by all who add to it.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    history: History,
    /// When jobs were first published, and what they are.
    begun: HashMap<u64, (u64, Kind)>,
    /// Taken, and not yet what they are to become.
    unfinished: HashSet<u64>,
    finished: HashSet<u64>,
    /// Asked by a process, and not yet followed.
    unanswered: HashMap<String, Run>,
    followed: HashSet<String>,
    /// How many handlers are at work.
    at_work: HashMap<Run, i64>,
    /// By reader: when the newest job that it began was published.
    newest: HashMap<usize, u64>,
    ready: HashSet<Run>,
    pulses: Vec<Pulse>,
}

/// A message that every replica gets, published again and again.
#[derive(Debug, Default)]
struct Pulse {
    begun: u64,
    confirmed: Option<u64>,
    seen: HashMap<usize, u64>,
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect("nobody panics with the ledger in hand")
    }

    /// Notes that a job is about to be published.
    pub fn begin(&self, job: u64, kind: Kind, at: u64) {
        self.book().begun.entry(job).or_insert((at, kind));
    }

    pub fn wrote(&self, write: Write) {
        let mut book = self.book();
        let wanted = write.outcome == Outcome::Taken && write.kind != Kind::Unroutable;
        if wanted && !book.finished.contains(&write.job) {
            book.unfinished.insert(write.job);
        }
        book.history.writes.push(write);
    }

    pub fn requested(&self, request: Request) {
        self.book().history.requests.push(request);
    }

    pub fn buried(&self, dead: DeadLetter) {
        let mut book = self.book();
        if dead.topic == JOB.name().as_str() {
            book.finish(dead.job);
        }
        book.history.dead.push(dead);
    }

    pub fn killed(&self, run: Run) {
        self.book().history.killed.push(run);
    }

    pub fn stopped(&self, run: Run) {
        self.book().history.stopped.push(run);
    }

    pub fn left(&self, queue: String, messages: u64) {
        self.book().history.left.push((queue, messages));
    }

    pub fn read(&self, reads: Vec<Read>) {
        let mut book = self.book();
        for read in reads {
            book.note(&read);
            // Pulses are many, and say nothing about jobs.
            if read.line.what != What::Pulse {
                book.history.reads.push(read);
            }
        }
    }

    /// Notes a pulse, and returns its number.
    pub fn pulse(&self, begun: u64) -> u64 {
        let mut book = self.book();
        book.pulses.push(Pulse { begun, ..Pulse::default() });
        book.pulses.len() as u64 - 1
    }

    pub fn pulse_confirmed(&self, number: u64, at: u64) {
        let mut book = self.book();
        if let Some(pulse) = usize::try_from(number).ok().and_then(|at| book.pulses.get_mut(at)) {
            pulse.confirmed = Some(at);
        }
    }

    /// Tells when the first pulse that began after `since` was confirmed.
    pub fn publishes_since(&self, since: u64) -> Option<u64> {
        self.book().pulses_since(since).filter_map(|pulse| pulse.confirmed).min()
    }

    /// Tells when a reader had the first pulse that began after `since`.
    pub fn hears_since(&self, reader: usize, since: u64) -> Option<u64> {
        self.book().pulses_since(since).filter_map(|pulse| pulse.seen.get(&reader).copied()).min()
    }

    /// Tells whether a reader has begun a job that was published after `since`.
    pub fn works_since(&self, reader: usize, since: u64) -> bool {
        self.book().newest.get(&reader).is_some_and(|newest| *newest >= since)
    }

    pub fn is_ready(&self, run: Run) -> bool {
        self.book().ready.contains(&run)
    }

    /// Tells how many handlers of a process are at work.
    pub fn at_work(&self, run: Run) -> i64 {
        self.book().at_work.get(&run).copied().unwrap_or(0)
    }

    /// Tells how many jobs there are.
    pub fn jobs(&self) -> usize {
        self.book().begun.len()
    }

    /// Tells how much has not become yet what it is to become.
    pub fn unfinished(&self) -> usize {
        let book = self.book();
        let waits = |run: &&Run| !book.history.ended(**run);
        book.unfinished.len() + book.unanswered.values().filter(waits).count()
    }

    /// Returns some of the jobs that have not become yet what they are to become.
    pub fn some_unfinished(&self) -> Vec<u64> {
        self.book().unfinished.iter().take(5).copied().collect()
    }

    /// Returns the history, once all is over.
    pub fn history(&self) -> History {
        self.book().history.clone()
    }
}

impl Book {
    fn finish(&mut self, job: u64) {
        self.finished.insert(job);
        self.unfinished.remove(&job);
    }

    fn pulses_since(&self, since: u64) -> impl Iterator<Item = &Pulse> {
        let first = self.pulses.partition_point(|pulse| pulse.begun < since);
        self.pulses[first..].iter()
    }

    fn note(&mut self, read: &Read) {
        let (run, line) = (read.run, &read.line);
        match line.what {
            What::Ready => drop(self.ready.insert(run)),
            What::Begun => {
                *self.at_work.entry(run).or_default() += 1;
                if let Some((begun, _)) = self.begun.get(&line.job) {
                    let newest = self.newest.entry(run.reader).or_default();
                    *newest = (*newest).max(*begun);
                }
            }
            What::Failed => *self.at_work.entry(run).or_default() -= 1,
            What::Handled => {
                *self.at_work.entry(run).or_default() -= 1;
                if self.begun.get(&line.job).is_some_and(|(_, kind)| *kind != Kind::Chained) {
                    self.finish(line.job);
                }
            }
            What::Stepped => {
                *self.at_work.entry(run).or_default() -= 1;
                self.finish(line.job);
            }
            // The answer may be there before whoever asked has said so.
            What::Asked if self.followed.contains(&line.message_id) => {}
            What::Asked => {
                self.unanswered.insert(line.message_id.clone(), run);
            }
            What::Followed => {
                self.unanswered.remove(&line.message_id);
                self.followed.insert(line.message_id.clone());
            }
            What::Pulse => {
                let number = usize::try_from(line.job).ok();
                if let Some(pulse) = number.and_then(|at| self.pulses.get_mut(at)) {
                    pulse.seen.entry(run.reader).or_insert(line.at);
                }
            }
            What::Answered | What::Stopped => {}
        }
    }
}
