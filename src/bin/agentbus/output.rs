//! Where results go: standard output, as text or as JSON. Everything else is for standard error.

use std::{
    fmt,
    io::{self, IsTerminal as _, Stdout, Write as _},
};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::exit::Usage;

/// Writes results. An error means that nobody reads them any more; it ends the command quietly.
#[derive(Debug)]
pub(crate) struct Output {
    is_json: bool,
    out: Stdout,
}

impl Output {
    pub(crate) fn new(is_json: bool) -> Self {
        Self { is_json, out: io::stdout() }
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Writes one result: `value` as a line of JSON, or else `text`.
    pub(crate) fn result(
        &self,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        if self.is_json { self.json(value) } else { self.text(text()) }
    }

    /// Writes a line of JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.write(&line)
    }

    /// Writes text, and ends the line.
    pub(crate) fn text(&self, text: impl fmt::Display) -> anyhow::Result<()> {
        self.write(format!("{text}\n").as_bytes())
    }

    /// Writes rows below their headings, aligned.
    pub(crate) fn table<const N: usize>(
        &self,
        headings: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> anyhow::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(headings);
        for row in rows {
            table.add_row(row.map(|cell| printable(&cell)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.text(
            table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n"),
        )
    }

    fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = self.out.lock();
        out.write_all(bytes)?;
        // Whoever reads along a pipe wants each result when it is there.
        out.flush()?;
        Ok(())
    }
}

/// Replaces what could move a terminal's cursor or change its colours, line ends included: names
/// and texts on a bus come from anybody.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Says something that is no result, on standard error; where that is closed, there is nobody to
/// tell.
pub(crate) fn note(text: impl fmt::Display) {
    _ = writeln!(io::stderr(), "agentbus: {text}");
}

/// Makes sure of what cannot be undone: asks at the terminal, unless `--yes` has answered already.
///
/// Where there is no terminal to ask at, that is an error which names `--yes`.
pub(crate) fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        let text = format!("{question} There is no terminal to ask at; say so by `--yes`");
        return Err(Usage(text).into());
    }
    let mut err = io::stderr();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(anyhow::anyhow!("nothing was done"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_command_a_terminal_is_replaced() {
        assert_eq!(
            printable("a\u{1b}[31mb\r\nc\u{9b}1m"),
            "a\u{fffd}[31mb\u{fffd}\u{fffd}c\u{fffd}1m"
        );
        assert_eq!(printable("größe"), "größe");
    }
}
