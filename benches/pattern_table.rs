//! What a lookup in the pattern table costs with 10, 1 000 and 100 000 patterns.
//!
//! `cargo bench --bench pattern_table`

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use agentbus::contract::PatternTable;

const SIZES: [usize; 3] = [10, 1_000, 100_000];
const LOOKUPS: u32 = 1_000_000;
const RUNS: usize = 5;

fn main() {
    println!("{:<34}{:>10}{:>12}{:>10}", "topics looked up", "patterns", "ns/lookup", "ratio");
    measure("the same eight", 8, |i| format!("agent.{i}.request"));
    measure("the same eight, nobody bound", 8, |i| format!("agent.{i}.reply"));
    measure("all in turn, so out of the cache", usize::MAX, |i| format!("agent.{i}.request"));
}

/// The patterns every table has, and a route, an observer and a pattern of its own for each agent.
fn table(patterns: usize) -> PatternTable<usize> {
    let mut table = PatternTable::new();
    table.insert("audit.#", 0);
    for i in 1..patterns {
        match i % 4 {
            0 => table.insert(&format!("agent.{i}.*.retry.#"), i),
            1 => table.insert(&format!("agent-{i}.events.#"), i),
            _ => table.insert(&format!("agent.{i}.request"), i),
        }
    }
    table
}

fn measure(what: &str, topics: usize, topic: impl Fn(usize) -> String) {
    let mut first = None;
    for patterns in SIZES {
        let table = table(patterns);
        let topics: Vec<String> = (0..topics.min(patterns)).map(&topic).collect();
        let best = (0..RUNS).map(|_| run(&table, &topics)).min().expect("there are runs");
        let nanos = best.as_secs_f64() * 1e9 / f64::from(LOOKUPS);
        let ratio = nanos / *first.get_or_insert(nanos);
        println!("{what:<34}{patterns:>10}{nanos:>12.1}{ratio:>10.2}");
    }
}

fn run(table: &PatternTable<usize>, topics: &[String]) -> Duration {
    let start = Instant::now();
    for topic in topics.iter().cycle().take(LOOKUPS as usize) {
        table.for_each_match(black_box(topic), |value| {
            black_box(value);
        });
    }
    start.elapsed()
}
