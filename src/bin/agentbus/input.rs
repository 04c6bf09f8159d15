//! Bodies as they come in: from the command line, a file, or standard input.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use tokio::sync::mpsc;

use crate::exit::Usage;

/// How many lines wait to be sent.
const LINES_AHEAD: usize = 256;

/// How much may be read as one message. `ProtoJSON` is longer than the message, which is bounded by
/// itself.
const MAX_BYTES: u64 = 256 << 20;

/// A line with its number, from 1, or why it could not be read.
pub(crate) type Line = Result<(u64, Vec<u8>), Usage>;

// No doc comment: clap would show it as the help of the command.
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub(crate) struct Input {
    /// The message, as JSON; without this and `--file`, it is read from standard input.
    #[arg(short, long, value_name = "JSON")]
    data: Option<String>,
    /// A file with the message; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Input {
    /// Reads all of it.
    pub(crate) async fn read(&self) -> anyhow::Result<Vec<u8>> {
        if let Some(data) = &self.data {
            return Ok(data.clone().into_bytes());
        }
        let file = self.file.clone();
        let read = move || {
            let (mut source, name) = open(file.as_deref())?;
            let mut bytes = Vec::new();
            let read = source.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes);
            read.map_err(|error| unreadable(&name, &error))?;
            if bytes.len() as u64 > MAX_BYTES { Err(too_long(&name)) } else { Ok(bytes) }
        };
        Ok(tokio::task::spawn_blocking(read).await??)
    }

    /// Reads it line by line; empty lines are left out.
    pub(crate) fn lines(&self) -> anyhow::Result<mpsc::Receiver<Line>> {
        let (mut source, name) = match &self.data {
            Some(data) => {
                let data: Box<dyn BufRead + Send> = Box::new(io::Cursor::new(data.clone()));
                (data, "--data".to_owned())
            }
            None => open(self.file.as_deref())?,
        };
        let (sender, lines) = mpsc::channel(LINES_AHEAD);
        // Not waited for: nobody knows when standard input says more.
        tokio::task::spawn_blocking(move || {
            for number in 1.. {
                let line = match line(&mut source, &name) {
                    Ok(Some(line)) if line.trim_ascii().is_empty() => continue,
                    Ok(Some(line)) => Ok((number, line)),
                    Ok(None) => return,
                    Err(error) => Err(error),
                };
                let failed = line.is_err();
                if sender.blocking_send(line).is_err() || failed {
                    return;
                }
            }
        });
        Ok(lines)
    }
}

fn line(source: &mut dyn BufRead, name: &str) -> Result<Option<Vec<u8>>, Usage> {
    let mut line = Vec::new();
    let read = source.take(MAX_BYTES + 1).read_until(b'\n', &mut line);
    read.map_err(|error| unreadable(name, &error))?;
    match line.len() as u64 {
        0 => Ok(None),
        length if length > MAX_BYTES => Err(too_long(name)),
        _ => Ok(Some(line)),
    }
}

fn open(file: Option<&Path>) -> Result<(Box<dyn BufRead + Send>, String), Usage> {
    match file.filter(|file| *file != "-") {
        Some(file) => {
            let name = file.display().to_string();
            let opened = File::open(file).map_err(|error| unreadable(&name, &error))?;
            Ok((Box::new(BufReader::new(opened)), name))
        }
        None if file.is_none() && io::stdin().is_terminal() => Err(Usage(
            "there is no message: give it by `--data JSON` or `--file FILE`, or pipe it in"
                .to_owned(),
        )),
        None => Ok((Box::new(BufReader::new(io::stdin())), "standard input".to_owned())),
    }
}

fn unreadable(name: &str, error: &io::Error) -> Usage {
    Usage(format!("cannot read `{name}`: {error}"))
}

fn too_long(name: &str) -> Usage {
    Usage(format!("a message in `{name}` has more than {} MiB", MAX_BYTES >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_numbered_and_empty_ones_left_out() {
        let input = Input { data: Some("{}\n\n  \n{\"a\": 1}".to_owned()), file: None };
        let mut lines = input.lines().unwrap();
        let mut read = Vec::new();
        while let Some(line) = lines.recv().await {
            read.push(line.unwrap());
        }
        assert_eq!(read, [(1, b"{}\n".to_vec()), (4, b"{\"a\": 1}".to_vec())]);
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_named() {
        let input = Input { data: None, file: Some("no/such.json".into()) };
        let error = input.read().await.unwrap_err().to_string();
        assert!(error.starts_with("cannot read `no/such.json`: "), "{error}");
        assert!(input.lines().is_err());
    }
}
