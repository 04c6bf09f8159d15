//! The command line of the benchmark.

use super::plan::{Run, WORKLOADS};

pub const HELP: &str = "\
cargo bench --bench bus -- [WORKLOAD…] [--rounds N] [--scale PERCENT]

  WORKLOAD         only those whose name begins so; `backlog` and `agents-1000`
                   are measured only when they are named
  --rounds N       how often each is measured (5)
  --scale PERCENT  how many messages, in percent of the usual number (100)
  --list           the names of the workloads
";

#[derive(Debug)]
pub enum Command {
    Measure(Arguments),
    /// What the benchmark tells itself to do in another process.
    One(Run),
    Help,
}

#[derive(Debug)]
pub struct Arguments {
    pub workloads: Vec<String>,
    pub rounds: usize,
    pub scale: usize,
    pub list: bool,
}

impl Arguments {
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Command, String> {
        let mut arguments = Self { workloads: vec![], rounds: 5, scale: 100, list: false };
        let mut words = words;
        while let Some(word) = words.next() {
            match word.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--help" | "-h" => return Ok(Command::Help),
                "--list" => arguments.list = true,
                "--one" => {
                    let run = words.next().ok_or("--one needs a run")?;
                    return run.parse().map(Command::One);
                }
                "--rounds" => arguments.rounds = number(words.next(), "--rounds")?,
                "--scale" => arguments.scale = number(words.next(), "--scale")?,
                flag if flag.starts_with('-') => return Err(format!("there is no `{flag}`")),
                name if !WORKLOADS.iter().any(|known| known.name.starts_with(name)) => {
                    return Err(format!("no workload begins with `{name}`; --list tells them"));
                }
                _ => arguments.workloads.push(word),
            }
        }
        Ok(Command::Measure(arguments))
    }
}

fn number(word: Option<String>, flag: &str) -> Result<usize, String> {
    let word = word.ok_or_else(|| format!("{flag} needs a number"))?;
    word.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("{flag}: `{word}` is no number above 0"))
}
