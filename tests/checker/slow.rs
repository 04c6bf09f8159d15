//! What somebody said who took long to be back.

use std::{fs, path::Path};

use super::{nemesis::Blow, readers::Logs};

/// How many lines of one process are enough.
const MOST: usize = 40;

/// Where the process with the writers tells of its connections.
pub const WRITERS: &str = "writers.errors";

/// Finds who took longer than so many milliseconds, with what each said from the fault on.
pub fn excuses(blow: &Blow, longest: u64, folder: &Path) -> Vec<String> {
    let slow = blow.back.iter().filter(|(_, at)| at.is_none_or(|at| at / 1000 > longest));
    let excuse = |(who, at): &(String, Option<u64>)| {
        let path = match who.strip_prefix("reader ").and_then(|number| number.parse().ok()) {
            Some(reader) => Logs::errors_of(folder, reader),
            None => folder.join(WRITERS),
        };
        let (from, to) = (blow.at, at.map_or(u64::MAX, |at| blow.healed + at));
        let said = fs::read_to_string(path).unwrap_or_default();
        let lines = said.lines().filter_map(|line| {
            let (at, text) = line.trim_start().split_once(' ')?;
            let at: u64 = at.parse().ok()?;
            // From when the broker accepts connections.
            let since = (at.cast_signed() - blow.healed.cast_signed()) / 1000;
            (from..=to).contains(&at).then(|| format!("{since:>7} ms {}", text.trim_start()))
        });
        let lines: Vec<_> = lines.take(MOST).collect();
        format!("{who} was slow:\n    {}", lines.join("\n    "))
    };
    slow.map(excuse).collect()
}
