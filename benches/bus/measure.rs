//! What one run costs: time, processor, allocations, memory.

use std::{
    fs,
    time::{Duration, Instant},
};

use stats_alloc::Region;

use super::{ALLOCATOR, plan::Run};

/// Ticks in a second, in which Linux tells what a process has used.
const TICKS: f64 = 100.0;

/// A measurement under way.
pub struct Meter {
    started: Instant,
    processor: Option<f64>,
    allocated: Region<'static, std::alloc::System>,
    latencies: Vec<Duration>,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Messages a second.
    pub rate: f64,
    /// Microseconds until a reply was there.
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    /// Microseconds of processor time a message, of this process alone.
    pub processor: Option<f64>,
    /// Allocations a message.
    pub allocations: f64,
    /// MiB of memory at the most, since the process began.
    pub memory: Option<f64>,
}

impl Meter {
    pub fn start() -> Self {
        Self {
            processor: processor(),
            allocated: Region::new(ALLOCATOR),
            latencies: Vec::new(),
            started: Instant::now(),
        }
    }

    /// Notes how long one request took.
    pub fn took(&mut self, time: Duration) {
        self.latencies.push(time);
    }

    pub fn stop(mut self, messages: usize) -> Figures {
        let seconds = self.started.elapsed().as_secs_f64();
        let allocated = self.allocated.change();
        let processor = self.processor.and_then(|before| Some(processor()? - before));
        let messages = messages as f64;
        self.latencies.sort_unstable();
        Figures {
            rate: messages / seconds,
            p50: percentile(&self.latencies, 50),
            p99: percentile(&self.latencies, 99),
            processor: processor.map(|seconds| seconds * 1e6 / messages),
            allocations: (allocated.allocations + allocated.reallocations) as f64 / messages,
            memory: most_memory(),
        }
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Option<f64> {
    let at = (sorted.len() * percent / 100).min(sorted.len().checked_sub(1)?);
    Some(sorted[at].as_secs_f64() * 1e6)
}

/// Seconds of processor time that this process has used.
fn processor() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may have spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

fn most_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

impl Figures {
    /// One line that a machine can read.
    pub fn line(&self, run: &Run) -> String {
        let or_none =
            |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.2}"));
        format!(
            "RESULT system={} workload={} n={} rate={:.0} p50_us={} p99_us={} cpu_us_per_msg={} \
             allocs_per_msg={:.2} rss_mb={}",
            run.system.name(),
            run.workload.name,
            run.count,
            self.rate,
            or_none(self.p50),
            or_none(self.p99),
            or_none(self.processor),
            self.allocations,
            or_none(self.memory),
        )
    }

    /// Reads such a line.
    pub fn read(line: &str) -> Option<Self> {
        let line = line.strip_prefix("RESULT ")?;
        let figure = |name: &str| {
            let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value?.parse().ok()
        };
        Some(Self {
            rate: figure("rate")?,
            p50: figure("p50_us"),
            p99: figure("p99_us"),
            processor: figure("cpu_us_per_msg"),
            allocations: figure("allocs_per_msg")?,
            memory: figure("rss_mb"),
        })
    }

    /// The middle of each figure by itself.
    pub fn median(all: &[Self]) -> Self {
        let middle = |figure: fn(&Self) -> Option<f64>| {
            let mut values: Vec<f64> = all.iter().filter_map(figure).collect();
            values.sort_unstable_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        Self {
            rate: middle(|figures| Some(figures.rate)).unwrap_or_default(),
            p50: middle(|figures| figures.p50),
            p99: middle(|figures| figures.p99),
            processor: middle(|figures| figures.processor),
            allocations: middle(|figures| Some(figures.allocations)).unwrap_or_default(),
            memory: middle(|figures| figures.memory),
        }
    }
}
