//! Whether a history keeps what is promised.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    history::{History, Outcome, Read, RequestEnd},
    log::What,
    messages::{ASK, JOB, Kind},
};

/// How much longer than its limit a request may take on a machine that is busy elsewhere.
const SLACK: u64 = 30_000;

/// What a history proves.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Jobs by how their publishing ended in the end.
    pub taken: usize,
    pub refused: usize,
    pub unknown: usize,
    /// Not known, and handled all the same: that may be.
    pub recovered: usize,
    pub requests: usize,
    pub replies: usize,
    /// Jobs handled, and how often one was handled once more.
    pub handled: usize,
    pub duplicates: usize,
    /// Of those: marked as redelivered, and under the same message id as before.
    pub redelivered: usize,
    pub same_id: usize,
    pub dead: usize,
    pub followed: usize,
    /// Calls of handlers that `kill -9` ended.
    pub interrupted: usize,
    /// How late delayed jobs were handled, in milliseconds, sorted.
    pub lateness: Vec<u64>,
    /// What is wrong, with the job it is wrong about.
    pub complaints: Vec<(Complaint, u64)>,
}

/// Something that must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Complaint {
    /// Taken and not handled.
    Lost,
    /// Handled and never published.
    Invented,
    /// Handled, and the publisher was told that it is nowhere.
    HandledThoughUnroutable,
    /// Taken, and nobody is bound to its topic.
    TakenByNobody,
    /// Handled before it was due.
    Early,
    /// Handled twice, with another message id and not marked as redelivered.
    UnmarkedDuplicate,
    /// An attempt that no failure of a handler explains.
    AttemptWithoutFailure,
    /// Handled at another attempt than the one that was to succeed.
    WrongAttempt,
    /// In the dead letters, and not meant to be.
    WronglyDead,
    /// A request that did not end in time.
    Endless,
    /// A request with the reply to another.
    WrongReply,
    /// A follow-up that was called twice.
    FollowedTwice,
    /// A follow-up that was never called, though its process lived on.
    NotFollowed,
    /// A follow-up of a request that was never sent.
    FollowedUnasked,
    /// A message left in a queue.
    Left,
}

impl Verdict {
    pub fn of(history: &History) -> Self {
        let mut verdict = Self::default();
        let jobs = Jobs::of(history);
        verdict.look_at_writes(&jobs);
        verdict.look_at_reads(history, &jobs);
        verdict.look_at_attempts(history);
        verdict.look_at_dead(history, &jobs);
        verdict.look_at_requests(history);
        verdict.look_at_follow_ups(history);
        let left = history.left.iter().map(|(_, count)| (Complaint::Left, *count));
        verdict.complaints.extend(left);
        verdict
    }

    fn complain(&mut self, complaint: Complaint, job: u64) {
        self.complaints.push((complaint, job));
    }

    fn look_at_writes(&mut self, jobs: &Jobs) {
        for (&number, job) in &jobs.written {
            match job.outcome {
                Ended::Taken => self.taken += 1,
                Ended::Refused => self.refused += 1,
                Ended::Unknown => self.unknown += 1,
            }
            let finished = jobs.finished.contains(&number);
            match (job.kind, job.outcome) {
                (Kind::Unroutable, Ended::Taken) => self.complain(Complaint::TakenByNobody, number),
                (_, Ended::Taken) if !finished => self.complain(Complaint::Lost, number),
                (_, Ended::Unknown | Ended::Refused) if finished => self.recovered += 1,
                _ => {}
            }
            if finished && job.nowhere {
                self.complain(Complaint::HandledThoughUnroutable, number);
            }
        }
    }

    fn look_at_reads(&mut self, history: &History, jobs: &Jobs) {
        let mut seen: HashMap<(u64, What), &Read> = HashMap::new();
        for read in &history.reads {
            let line = &read.line;
            let done = matches!(line.what, What::Handled | What::Stepped);
            if !done && !matches!(line.what, What::Begun | What::Failed | What::Answered) {
                continue;
            }
            let Some(job) = jobs.known(line.job) else {
                self.complain(Complaint::Invented, line.job);
                continue;
            };
            if let Some(due) = job.due {
                match line.at.checked_sub(due * 1000) {
                    None => self.complain(Complaint::Early, line.job),
                    Some(late) if done => self.lateness.push(late / 1000),
                    Some(_) => {}
                }
            }
            if !done {
                continue;
            }
            if job.kind == Kind::Flaky && line.attempt != job.failures + 1 {
                self.complain(Complaint::WrongAttempt, line.job);
            }
            self.handled += 1;
            // The second agent's share of a chained job is a message of its own.
            if let Some(first) = seen.get(&(line.job, line.what)) {
                self.duplicates += 1;
                let same_id = first.line.message_id == line.message_id;
                self.redelivered += usize::from(line.redelivered);
                self.same_id += usize::from(same_id);
                // What a chained job publishes has a new id each time: its cause was redelivered.
                if !line.redelivered && !same_id && line.what == What::Handled {
                    self.complain(Complaint::UnmarkedDuplicate, line.job);
                }
            } else {
                seen.insert((line.job, line.what), read);
            }
        }
        self.lateness.sort_unstable();
    }

    /// Each attempt after the first follows from a failure of the one before.
    fn look_at_attempts(&mut self, history: &History) {
        let mut failed: HashSet<(&str, u32)> = HashSet::new();
        for read in history.did(What::Failed) {
            failed.insert((&read.line.message_id, read.line.attempt));
        }
        let mut begun: BTreeMap<_, usize> = BTreeMap::new();
        for read in history.did(What::Begun) {
            let line = &read.line;
            if line.attempt != 1 && !failed.contains(&(&*line.message_id, line.attempt - 1)) {
                self.complain(Complaint::AttemptWithoutFailure, line.job);
            }
            if history.killed.contains(&read.run) {
                *begun.entry(read.run).or_default() += 1;
            }
        }
        let over = |what| matches!(what, What::Failed | What::Handled | What::Stepped);
        for read in history.reads.iter().filter(|read| over(read.line.what)) {
            if let Some(begun) = begun.get_mut(&read.run) {
                *begun = begun.saturating_sub(1);
            }
        }
        self.interrupted = begun.values().sum();
    }

    fn look_at_dead(&mut self, history: &History, jobs: &Jobs) {
        for dead in &history.dead {
            // An answer that came a second time, or after its process; and a request that failed,
            // of which the requester was told.
            if dead.kind == "unknown_reply" || dead.topic == ASK.name().as_str() {
                continue;
            }
            match jobs.known(dead.job) {
                None => self.complain(Complaint::Invented, dead.job),
                Some(job) if job.kind != Kind::Doomed => {
                    self.complain(Complaint::WronglyDead, dead.job);
                }
                Some(job) if dead.attempts != job.failures + 1 => {
                    self.complain(Complaint::WrongAttempt, dead.job);
                }
                Some(_) => self.dead += 1,
            }
        }
    }

    fn look_at_requests(&mut self, history: &History) {
        self.requests = history.requests.len();
        for request in &history.requests {
            match request.end {
                RequestEnd::Reply(job) if job == request.job => self.replies += 1,
                RequestEnd::Reply(_) => self.complain(Complaint::WrongReply, request.job),
                RequestEnd::Error(_) => {}
                RequestEnd::Never => self.complain(Complaint::Endless, request.job),
            }
            if request.took > request.limit + SLACK && request.end != RequestEnd::Never {
                self.complain(Complaint::Endless, request.job);
            }
        }
    }

    fn look_at_follow_ups(&mut self, history: &History) {
        let mut followed: HashMap<&str, usize> = HashMap::new();
        for read in history.did(What::Followed) {
            *followed.entry(&read.line.message_id).or_default() += 1;
            self.followed += 1;
        }
        let mut asked = HashSet::new();
        for read in history.did(What::Asked) {
            let id = &*read.line.message_id;
            asked.insert(id);
            match followed.get(id) {
                Some(1) => {}
                Some(_) => self.complain(Complaint::FollowedTwice, read.line.job),
                // The state was the process's own.
                None if history.ended(read.run) => {}
                None => self.complain(Complaint::NotFollowed, read.line.job),
            }
        }
        for read in history.did(What::Followed) {
            // The process may have been killed between asking and saying so.
            let known = asked.contains(&*read.line.message_id);
            if !known && !history.killed.contains(&read.run) {
                self.complain(Complaint::FollowedUnasked, read.line.job);
            }
        }
    }

    /// Returns how often there was each complaint.
    pub fn summary(&self) -> BTreeMap<Complaint, usize> {
        let mut summary = BTreeMap::new();
        for (complaint, _) in &self.complaints {
            *summary.entry(*complaint).or_default() += 1;
        }
        summary
    }
}

/// Jobs as the writers know them.
struct Jobs {
    written: BTreeMap<u64, Job>,
    asked: HashSet<u64>,
    finished: BTreeSet<u64>,
}

struct Job {
    kind: Kind,
    failures: u32,
    due: Option<u64>,
    outcome: Ended,
    /// Every attempt to publish it ended as unroutable.
    nowhere: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ended {
    Refused,
    Unknown,
    Taken,
}

const REQUEST: Job =
    Job { kind: Kind::Asked, failures: 0, due: None, outcome: Ended::Unknown, nowhere: false };

impl Jobs {
    fn of(history: &History) -> Self {
        let mut written: BTreeMap<u64, Job> = BTreeMap::new();
        for write in &history.writes {
            let outcome = match write.outcome {
                Outcome::Taken => Ended::Taken,
                Outcome::Unknown(_) => Ended::Unknown,
                Outcome::Unroutable | Outcome::Refused(_) => Ended::Refused,
            };
            let nowhere = write.outcome == Outcome::Unroutable;
            let (kind, failures, due) = (write.kind, write.failures, write.due);
            let job = Job { kind, failures, due, outcome, nowhere };
            let known = written.entry(write.job).or_insert(job);
            known.outcome = known.outcome.max(outcome);
            known.nowhere &= nowhere;
        }
        let asked = history.requests.iter().map(|request| request.job).collect();
        let finished = finished(history, |job| written.get(&job).map(|job| job.kind));
        Self { written, asked, finished }
    }

    fn known(&self, job: u64) -> Option<&Job> {
        self.written.get(&job).or_else(|| self.asked.contains(&job).then_some(&REQUEST))
    }
}

/// Finds the jobs that have become what they were to become.
pub fn finished(history: &History, kind: impl Fn(u64) -> Option<Kind>) -> BTreeSet<u64> {
    let handled = history.reads.iter().filter(|read| match read.line.what {
        What::Stepped => true,
        What::Handled => kind(read.line.job) != Some(Kind::Chained),
        _ => false,
    });
    let handled = handled.map(|read| read.line.job);
    let dead = history.dead.iter().filter(|dead| dead.topic == JOB.name().as_str());
    handled.chain(dead.map(|dead| dead.job)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{DeadLetter, Request, Run, Write},
        log::Line,
    };

    const FIRST: Run = Run { reader: 0, number: 0 };
    const OTHER: Run = Run { reader: 1, number: 0 };

    fn write(job: u64, kind: Kind, outcome: Outcome) -> Write {
        Write { job, kind, failures: 0, due: None, begun: 1_000, outcome }
    }

    fn read(job: u64, what: What, attempt: u32) -> Read {
        let message_id = format!("m{job}");
        let line = Line { at: 2_000, what, job, message_id, attempt, redelivered: false };
        Read { run: FIRST, line }
    }

    fn dead(job: u64, attempts: u32) -> DeadLetter {
        let topic = "checker.job".to_owned();
        DeadLetter { job, topic, kind: "rejected".to_owned(), attempts }
    }

    /// A job of each kind, and what is to become of it.
    fn good() -> History {
        let unknown = || Outcome::Unknown("cut".to_owned());
        let flaky = Write { failures: 1, ..write(2, Kind::Flaky, Outcome::Taken) };
        let delayed = Write { due: Some(1), ..write(4, Kind::Delayed, Outcome::Taken) };
        let doomed = Write { failures: 3, ..write(9, Kind::Doomed, Outcome::Taken) };
        let followed = |what| {
            let mut read = read(6, what, 1);
            read.line.message_id = "c6".to_owned();
            read
        };
        History {
            writes: vec![
                write(1, Kind::Plain, Outcome::Taken),
                flaky,
                write(3, Kind::Doomed, Outcome::Taken),
                delayed,
                write(5, Kind::Chained, Outcome::Taken),
                write(6, Kind::Errand, Outcome::Taken),
                write(7, Kind::Unroutable, Outcome::Unroutable),
                // Not known the first time, and taken the second.
                write(8, Kind::Plain, unknown()),
                write(8, Kind::Plain, Outcome::Taken),
                doomed,
                // Not known, and handled; not known, and nowhere.
                write(10, Kind::Plain, unknown()),
                write(11, Kind::Plain, unknown()),
            ],
            reads: vec![
                read(1, What::Begun, 1),
                read(1, What::Handled, 1),
                read(2, What::Begun, 1),
                read(2, What::Failed, 1),
                read(2, What::Begun, 2),
                read(2, What::Handled, 2),
                read(3, What::Begun, 1),
                read(3, What::Failed, 1),
                read(4, What::Begun, 1),
                read(4, What::Handled, 1),
                read(5, What::Begun, 1),
                read(5, What::Handled, 1),
                read(5, What::Begun, 1),
                read(5, What::Stepped, 1),
                read(6, What::Begun, 1),
                followed(What::Asked),
                read(6, What::Handled, 1),
                followed(What::Followed),
                read(8, What::Begun, 1),
                read(8, What::Handled, 1),
                read(10, What::Begun, 1),
                read(10, What::Handled, 1),
                read(12, What::Answered, 1),
            ],
            dead: vec![dead(3, 1), dead(9, 4)],
            requests: vec![Request { job: 12, limit: 5, took: 3, end: RequestEnd::Reply(12) }],
            ..History::default()
        }
    }

    fn complaints(history: &History) -> Vec<(Complaint, u64)> {
        Verdict::of(history).complaints
    }

    fn change_line(history: &mut History, job: u64, what: What, change: impl FnOnce(&mut Line)) {
        let mut lines = history.reads.iter_mut().map(|read| &mut read.line);
        change(lines.find(|line| (line.job, line.what) == (job, what)).unwrap());
    }

    #[test]
    fn a_good_history_is_good() {
        let verdict = Verdict::of(&good());
        assert_eq!(verdict.complaints, []);
        assert_eq!((verdict.taken, verdict.refused, verdict.unknown), (8, 1, 2));
        assert_eq!((verdict.recovered, verdict.handled, verdict.dead), (1, 8, 2));
        assert_eq!((verdict.requests, verdict.replies, verdict.followed), (1, 1, 1));
        assert_eq!(verdict.lateness, [1]);
    }

    #[test]
    fn a_lost_message_is_found() {
        for job in [1, 2, 4, 6, 8] {
            let mut history = good();
            history.reads.retain(|read| (read.line.job, read.line.what) != (job, What::Handled));
            assert_eq!(complaints(&history), [(Complaint::Lost, job)]);
        }
        let mut history = good();
        history.dead.clear();
        assert_eq!(complaints(&history), [(Complaint::Lost, 3), (Complaint::Lost, 9)]);
        // The first agent's part of a chain is not all of it.
        let mut history = good();
        history.reads.retain(|read| read.line.what != What::Stepped);
        assert_eq!(complaints(&history), [(Complaint::Lost, 5)]);
    }

    #[test]
    fn an_invented_message_is_found() {
        let mut history = good();
        history.reads.push(read(99, What::Begun, 1));
        assert_eq!(complaints(&history), [(Complaint::Invented, 99)]);
        let mut history = good();
        history.dead.push(dead(98, 1));
        assert_eq!(complaints(&history), [(Complaint::Invented, 98)]);
    }

    #[test]
    fn what_is_said_to_be_nowhere_must_not_be_handled() {
        let mut history = good();
        history.reads.push(read(7, What::Handled, 1));
        assert!(complaints(&history).contains(&(Complaint::HandledThoughUnroutable, 7)));
        let mut history = good();
        history.writes.push(write(7, Kind::Unroutable, Outcome::Taken));
        assert_eq!(complaints(&history), [(Complaint::TakenByNobody, 7)]);
    }

    #[test]
    fn a_message_that_is_early_is_found() {
        let mut history = good();
        change_line(&mut history, 4, What::Begun, |line| line.at = 999);
        assert_eq!(complaints(&history), [(Complaint::Early, 4)]);
    }

    #[test]
    fn a_duplicate_is_marked_or_has_the_same_id() {
        let mut history = good();
        history.reads.push(Read { run: OTHER, ..read(1, What::Handled, 1) });
        let verdict = Verdict::of(&history);
        assert_eq!(verdict.complaints, []);
        assert_eq!((verdict.duplicates, verdict.same_id, verdict.redelivered), (1, 1, 0));
        let last = history.reads.last_mut().unwrap();
        last.line.message_id = "another".to_owned();
        assert_eq!(complaints(&history), [(Complaint::UnmarkedDuplicate, 1)]);
        history.reads.last_mut().unwrap().line.redelivered = true;
        let verdict = Verdict::of(&history);
        assert_eq!(verdict.complaints, []);
        assert_eq!((verdict.duplicates, verdict.same_id, verdict.redelivered), (1, 0, 1));
    }

    #[test]
    fn an_attempt_without_a_failure_before_it_is_found() {
        let mut history = good();
        change_line(&mut history, 1, What::Begun, |line| line.attempt = 2);
        assert_eq!(complaints(&history), [(Complaint::AttemptWithoutFailure, 1)]);
        let mut history = good();
        change_line(&mut history, 2, What::Handled, |line| line.attempt = 3);
        assert_eq!(complaints(&history), [(Complaint::WrongAttempt, 2)]);
        let mut history = good();
        history.dead[1].attempts = 3;
        assert_eq!(complaints(&history), [(Complaint::WrongAttempt, 9)]);
    }

    #[test]
    fn a_dead_letter_that_was_not_meant_to_be_is_found() {
        let mut history = good();
        history.dead.push(dead(1, 4));
        assert_eq!(complaints(&history), [(Complaint::WronglyDead, 1)]);
    }

    #[test]
    fn a_request_without_an_end_or_with_a_wrong_one_is_found() {
        let ends = [
            (RequestEnd::Never, 3, Complaint::Endless),
            (RequestEnd::Error("no".to_owned()), 60_000, Complaint::Endless),
            (RequestEnd::Reply(1), 3, Complaint::WrongReply),
        ];
        for (end, took, complaint) in ends {
            let mut history = good();
            history.requests = vec![Request { job: 12, limit: 5, took, end }];
            assert_eq!(complaints(&history), [(complaint, 12)]);
        }
    }

    #[test]
    fn a_follow_up_is_called_once() {
        let mut history = good();
        history.reads.retain(|read| read.line.what != What::Followed);
        assert_eq!(complaints(&history), [(Complaint::NotFollowed, 6)]);
        history.killed.push(FIRST);
        assert_eq!(complaints(&history), []);

        let mut history = good();
        let again = history.did(What::Followed).next().unwrap().clone();
        history.reads.push(again);
        assert_eq!(complaints(&history), [(Complaint::FollowedTwice, 6)]);

        let mut history = good();
        history.reads.retain(|read| read.line.what != What::Asked);
        assert_eq!(complaints(&history), [(Complaint::FollowedUnasked, 6)]);
    }

    #[test]
    fn what_is_left_in_a_queue_is_found() {
        let mut history = good();
        history.left.push(("worker".to_owned(), 3));
        assert_eq!(complaints(&history), [(Complaint::Left, 3)]);
    }

    #[test]
    fn whoever_was_killed_at_work_was_interrupted() {
        let mut history = good();
        history.reads.push(read(11, What::Begun, 1));
        assert_eq!(Verdict::of(&history).interrupted, 0);
        history.killed.push(FIRST);
        assert_eq!(Verdict::of(&history).interrupted, 1);
    }
}
