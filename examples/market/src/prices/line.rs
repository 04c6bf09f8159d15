//! Splits a stream into CSV records, a line at a time.
//!
//! Why not one parser over the whole stream: to it, a stray quote makes everything up to the next
//! quote one field, which may be the rest of the file, in memory. Here a quoted field may run over
//! a few lines; when it is not closed by then, its first line is bad and reading goes on after it.

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Read},
};

use csv_core::{ReadRecordResult, Reader};

/// The longest line that is read, in bytes.
const LONGEST: usize = 1 << 20;
/// How many lines a quoted field may run over.
const QUOTED_LINES: usize = 32;

/// The cells of one record.
#[derive(Debug, Default)]
pub(super) struct Record {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    cells: usize,
}

impl Record {
    pub(super) fn len(&self) -> usize {
        self.cells
    }

    pub(super) fn get(&self, cell: usize) -> Option<&[u8]> {
        let end = *self.ends.get(..self.cells)?.get(cell)?;
        let start = if cell == 0 { 0 } else { self.ends[cell - 1] };
        self.bytes.get(start..end)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.cells).filter_map(|cell| self.get(cell))
    }
}

/// What became of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The record holds its cells.
    Read,
    /// The line cannot be split into cells: why.
    Bad(&'static str),
}

/// Reads records from a stream.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    parser: Reader,
    /// Lines that were read ahead for a quoted field that was never closed.
    ahead: VecDeque<(Vec<u8>, bool)>,
    buffer: Vec<u8>,
    number: u64,
    next_number: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(1 << 16, input),
            parser: Reader::new(),
            ahead: VecDeque::new(),
            buffer: Vec::new(),
            number: 0,
            next_number: 1,
        }
    }

    /// Returns the line that the last record begins on; the first line is 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next record that is not blank into `record`; `None` at the end.
    pub(super) fn next(&mut self, record: &mut Record) -> io::Result<Option<Line>> {
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            let found = self.take_line(&mut buffer)?;
            self.buffer = buffer;
            let Some(whole) = found else { return Ok(None) };
            self.number = self.next_number;
            self.next_number += 1;
            if self.number == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") {
                self.buffer.drain(..3);
            }
            if !whole {
                return Ok(Some(Line::Bad("the line is longer than 1 MiB")));
            }
            if self.buffer.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if is_open(&self.buffer) && !self.close_quote()? {
                return Ok(Some(Line::Bad("a quote is not closed")));
            }
            split(&mut self.parser, &self.buffer, record);
            return Ok(Some(Line::Read));
        }
    }

    /// Appends the lines up to the end of the quoted field; puts them back where there is none.
    fn close_quote(&mut self) -> io::Result<bool> {
        let first = self.buffer.len();
        let mut taken = Vec::new();
        while taken.len() < QUOTED_LINES {
            let mut line = Vec::new();
            let Some(whole) = self.take_line(&mut line)? else { break };
            let closes = whole && is_open(&line);
            self.buffer.extend_from_slice(&line);
            taken.push((line, whole));
            if closes {
                self.next_number += taken.len() as u64;
                return Ok(true);
            }
            if !whole || self.buffer.len() > LONGEST {
                break;
            }
        }
        self.buffer.truncate(first);
        for line in taken.into_iter().rev() {
            self.ahead.push_front(line);
        }
        Ok(false)
    }

    /// Appends the next line; `Some(false)` where it is too long to be held, `None` at the end.
    fn take_line(&mut self, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
        if let Some((ahead, whole)) = self.ahead.pop_front() {
            *line = ahead;
            return Ok(Some(whole));
        }
        let read = self.input.by_ref().take(LONGEST as u64).read_until(b'\n', line)?;
        if read == 0 {
            return Ok(None);
        }
        let whole = read < LONGEST || line.ends_with(b"\n");
        if !whole {
            line.clear();
            self.input.skip_until(b'\n')?;
        }
        Ok(Some(whole))
    }
}

/// Tells whether a quoted field that begins in `line` goes on after it (or the other way round).
fn is_open(line: &[u8]) -> bool {
    line.iter().fold(false, |is_open, byte| is_open ^ (*byte == b'"'))
}

fn split(parser: &mut Reader, line: &[u8], record: &mut Record) {
    parser.reset();
    // A record never has more bytes than its line, nor more cells than its bytes and one.
    if record.bytes.len() < line.len() {
        record.bytes.resize(line.len(), 0);
    }
    if record.ends.len() <= line.len() {
        record.ends.resize(line.len() + 1, 0);
    }
    let (mut read, mut written, mut cells) = (0, 0, 0);
    loop {
        let (result, r, w, e) = parser.read_record(
            &line[read..],
            &mut record.bytes[written..],
            &mut record.ends[cells..],
        );
        (read, written, cells) = (read + r, written + w, cells + e);
        match result {
            // The empty input that follows tells the parser that the line is over.
            ReadRecordResult::InputEmpty => {}
            _ => break,
        }
    }
    record.cells = cells;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Vec<(u64, Result<Vec<String>, &'static str>)> {
        let (mut lines, mut record, mut read) = (Lines::new(text), Record::default(), Vec::new());
        while let Some(line) = lines.next(&mut record).expect("memory never fails") {
            let cells = || record.iter().map(|cell| String::from_utf8_lossy(cell).into()).collect();
            read.push((
                lines.number(),
                match line {
                    Line::Read => Ok(cells()),
                    Line::Bad(reason) => Err(reason),
                },
            ));
        }
        read
    }

    #[allow(clippy::unnecessary_wraps)] // it stands beside errors
    fn cells(cells: &[&str]) -> Result<Vec<String>, &'static str> {
        Ok(cells.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn plain_and_quoted_cells_are_split() {
        for (text, expected) in [
            ("a,b\n", cells(&["a", "b"])),
            ("a,b", cells(&["a", "b"])),
            ("a,b\r\n", cells(&["a", "b"])),
            ("a,,\n", cells(&["a", "", ""])),
            ("\"a,\"\"1\"\"\",b", cells(&["a,\"1\"", "b"])),
            ("\u{feff}a,b", cells(&["a", "b"])),
            ("\u{feff}\"a\",b", cells(&["a", "b"])),
            (",,,", cells(&["", "", "", ""])),
        ] {
            assert_eq!(read(text.as_bytes()), [(1, expected)], "{text:?}");
        }
        assert!(read(b"").is_empty());
    }

    #[test]
    fn blank_lines_are_passed_over_and_counted() {
        assert_eq!(read(b"\n\r\na\n  \nb"), [(3, cells(&["a"])), (5, cells(&["b"]))]);
    }

    #[test]
    fn a_quoted_cell_may_run_over_lines() {
        assert_eq!(
            read(b"a,\"b\nc\nd\",e\nf\n"),
            [(1, cells(&["a", "b\nc\nd", "e"])), (4, cells(&["f"]))]
        );
    }

    #[test]
    fn a_stray_quote_costs_one_line() {
        let many = "x,1\n".repeat(100);
        let read = read(format!("a,\"1\n{many}").as_bytes());
        assert_eq!(read.len(), 101);
        assert_eq!(read[0], (1, Err("a quote is not closed")));
        assert_eq!(read[1], (2, cells(&["x", "1"])));
        assert_eq!(read[100].0, 101);
    }

    #[test]
    fn a_stray_quote_at_the_end_costs_one_line() {
        assert_eq!(
            read(b"a\n\"b\nc"),
            [(1, cells(&["a"])), (2, Err("a quote is not closed")), (3, cells(&["c"]))]
        );
    }

    #[test]
    fn a_line_without_an_end_is_not_held() {
        let mut text = vec![b'x'; 3 * LONGEST];
        text.extend_from_slice(b"\na,b\n");
        assert_eq!(
            read(&text),
            [(1, Err("the line is longer than 1 MiB")), (2, cells(&["a", "b"]))]
        );
    }
}
