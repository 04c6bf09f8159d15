//! What a run has shown, as a table and as lines of JSON.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use serde_json::json;

use super::{history::History, nemesis::Blow, plan::Plan, verdict::Verdict};

/// What a run has shown.
#[derive(Debug)]
pub struct Report<'a> {
    /// What it ran on.
    pub engine: &'static str,
    pub plan: &'a Plan,
    pub took: Duration,
    pub jobs: usize,
    pub blows: &'a [Blow],
    pub verdict: &'a Verdict,
}

/// Some of a set of times, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub count: usize,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

impl Spread {
    pub fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        let at = |share: usize| {
            let rank = (times.len() * share).div_ceil(100).max(1);
            times.get(rank - 1).copied().unwrap_or_default()
        };
        Self { count: times.len(), p50: at(50), p99: at(99), max: at(100) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, p50, p99, max } = self;
        write!(f, "{count:>5} {p50:>8} {p99:>8} {max:>8}")
    }
}

impl Report<'_> {
    /// How long it took everybody to be back, where the fault shows itself at once.
    pub fn recovery(&self) -> Spread {
        Spread::of(self.times(|blow| !blow.fault.is_silent()))
    }

    /// The same where heartbeats must show it first.
    pub fn silent(&self) -> Spread {
        Spread::of(self.times(|blow| blow.fault.is_silent()))
    }

    /// Says all that is wrong, with the histories of the first jobs it is wrong about.
    pub fn wrong(&self, history: &History) -> Vec<String> {
        let complaints = self.verdict.complaints.iter().take(10);
        let complaints = complaints.map(|(complaint, job)| {
            format!("{complaint:?}, job {job}:\n    {}", history.of_job(*job))
        });
        let away =
            |blow: &&Blow| !blow.idle.is_empty() || blow.back.iter().any(|(_, at)| at.is_none());
        let away = self.blows.iter().filter(away);
        let away = away.map(|blow| format!("not back within a minute: {blow:?}"));
        let mut wrong: Vec<_> = complaints.chain(away).collect();
        let recovery = self.recovery();
        if recovery.p99 > self.plan.back {
            wrong.push(format!("back only after {} ms (p99)", recovery.p99));
        }
        wrong
    }

    fn times(&self, which: impl Fn(&Blow) -> bool) -> Vec<u64> {
        let blows = self.blows.iter().filter(|blow| which(blow));
        blows.flat_map(|blow| &blow.back).filter_map(|(_, at)| at.map(|at| at / 1000)).collect()
    }

    /// Writes lines of JSON: one for each fault, and one for all.
    pub fn json(&self) -> String {
        let mut text = String::new();
        for blow in self.blows {
            let back: BTreeMap<_, _> =
                blow.back.iter().map(|(who, at)| (who, at.map(|at| at / 1000))).collect();
            let outage = (blow.healed - blow.at) / 1000;
            let line = json!({ "engine": self.engine, "fault": blow.fault.name(), "outage_ms": outage, "back_ms": back });
            let _ = writeln!(text, "{line}");
        }
        let verdict = self.verdict;
        let complaints = verdict.summary().into_iter();
        let complaints: BTreeMap<_, _> =
            complaints.map(|(complaint, count)| (format!("{complaint:?}"), count)).collect();
        let spread = |spread: Spread| json!({ "count": spread.count, "p50": spread.p50, "p99": spread.p99, "max": spread.max });
        let line = json!({
            "engine": self.engine,
            "seed": self.plan.seed,
            "seconds": self.took.as_secs(),
            "jobs": self.jobs,
            "faults": self.blows.len(),
            "taken": verdict.taken,
            "refused": verdict.refused,
            "unknown": verdict.unknown,
            "recovered": verdict.recovered,
            "handled": verdict.handled,
            "duplicates": verdict.duplicates,
            "duplicates_redelivered": verdict.redelivered,
            "duplicates_same_id": verdict.same_id,
            "dead_letters": verdict.dead,
            "requests": verdict.requests,
            "replies": verdict.replies,
            "followed": verdict.followed,
            "interrupted": verdict.interrupted,
            "back_ms": spread(self.recovery()),
            "back_after_silence_ms": spread(self.silent()),
            "late_ms": spread(Spread::of(verdict.lateness.clone())),
            "complaints": complaints,
        });
        let _ = writeln!(text, "{line}");
        text
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = self.verdict;
        writeln!(
            f,
            "{}: {} jobs and {} faults in {} s, seed {}",
            self.engine,
            self.jobs,
            self.blows.len(),
            self.took.as_secs(),
            self.plan.seed
        )?;
        let rows = [
            ("taken", verdict.taken),
            ("refused (certain no)", verdict.refused),
            ("unknown", verdict.unknown),
            ("  of these handled", verdict.recovered),
            ("handled", verdict.handled),
            ("  more than once", verdict.duplicates),
            ("    marked redelivered", verdict.redelivered),
            ("    same message id", verdict.same_id),
            ("dead letters", verdict.dead),
            ("requests", verdict.requests),
            ("  answered", verdict.replies),
            ("follow-ups", verdict.followed),
            ("interrupted by kill -9", verdict.interrupted),
        ];
        for (what, count) in rows {
            writeln!(f, "{what:<28}{count:>8}")?;
        }
        writeln!(f, "{:<28}{:>5} {:>8} {:>8} {:>8}", "milliseconds", "count", "p50", "p99", "max")?;
        let mut by_fault: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for blow in self.blows {
            let times = by_fault.entry(blow.fault.name()).or_default();
            times.extend(blow.back.iter().filter_map(|(_, at)| at.map(|at| at / 1000)));
        }
        for (fault, times) in by_fault {
            writeln!(f, "back after: {fault:<23}{}", Spread::of(times))?;
        }
        writeln!(f, "{:<28}{}", "service back", self.recovery())?;
        writeln!(f, "{:<28}{}", "back, once noticed", self.silent())?;
        writeln!(f, "{:<28}{}", "delayed ones late by", Spread::of(verdict.lateness.clone()))?;
        for (complaint, count) in verdict.summary() {
            writeln!(f, "WRONG: {complaint:?}: {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let spread = Spread::of((1..=200).rev().collect());
        assert_eq!((spread.count, spread.p50, spread.p99, spread.max), (200, 100, 198, 200));
        let one = Spread::of(vec![7]);
        assert_eq!((one.p50, one.p99, one.max), (7, 7, 7));
        assert_eq!(Spread::of(Vec::new()).count, 0);
    }
}
