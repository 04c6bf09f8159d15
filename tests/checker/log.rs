//! The log of one reader process: a line an event, each written at once.
//!
//! A line is in the system's hands before the handler goes on, so `kill -9` loses none.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use tracing_subscriber::{
    Layer as _,
    filter::Targets,
    fmt::{self, format::Writer, time::FormatTime},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Where it is written what agentbus says.
static TOLD: Mutex<Option<Box<dyn io::Write + Send>>> = Mutex::new(None);

/// Writes what agentbus says about its connections from now on, a line each that begins with
/// microseconds since the epoch.
pub fn tell<W: io::Write + Send + 'static>(to: W) {
    *TOLD.lock().expect("nobody panics while writing") = Some(Box::new(to));
    let wanted = Targets::new()
        .with_target("agentbus::broker", tracing::Level::INFO)
        .with_target("agentbus::health", tracing::Level::INFO)
        .with_target("agentbus::broker::rabbitmq::link", tracing::Level::DEBUG);
    let lines = fmt::layer().with_writer(|| Told).with_ansi(false).with_timer(Micros);
    // It fails where an earlier run of this process has done so.
    drop(tracing_subscriber::registry().with(lines.with_filter(wanted)).try_init());
}

/// Writes to where it was said last.
struct Told;

impl io::Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut told = TOLD.lock().map_err(|_| io::ErrorKind::Other)?;
        told.as_mut().map_or(Ok(bytes.len()), |told| told.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time in front of a line.
struct Micros;

impl FormatTime for Micros {
    fn format_time(&self, to: &mut Writer<'_>) -> std::fmt::Result {
        write!(to, "{}", now())
    }
}

/// What a reader did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// All agents consume.
    Ready,
    /// A handler was called.
    Begun,
    /// A handler is about to fail.
    Failed,
    /// A handler is about to succeed: it has done what was to be done.
    Handled,
    /// The same, by the second agent of a chain.
    Stepped,
    /// A request is about to be answered.
    Answered,
    /// A request was sent whose answer comes later, under the id in place of the message's.
    Asked,
    /// That answer, or what came in its place, was handled.
    Followed,
    /// A pulse was handled, which every replica gets.
    Pulse,
    /// The process was told to stop, and has.
    Stopped,
}

const WORDS: [(What, &str); 10] = [
    (What::Ready, "ready"),
    (What::Begun, "begun"),
    (What::Failed, "failed"),
    (What::Handled, "handled"),
    (What::Stepped, "stepped"),
    (What::Answered, "answered"),
    (What::Asked, "asked"),
    (What::Followed, "followed"),
    (What::Pulse, "pulse"),
    (What::Stopped, "stopped"),
];

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Microseconds since the epoch.
    pub at: u64,
    pub what: What,
    pub job: u64,
    pub message_id: String,
    pub attempt: u32,
    pub redelivered: bool,
}

impl Line {
    /// An event that concerns no message.
    pub fn bare(what: What) -> Self {
        Self { at: now(), what, job: 0, message_id: String::new(), attempt: 0, redelivered: false }
    }

    fn write(&self) -> String {
        let Self { at, what, job, message_id, attempt, redelivered } = self;
        let word = WORDS.iter().find(|(known, _)| known == what).expect("every event has a word").1;
        let message_id = if message_id.is_empty() { "-" } else { message_id };
        format!("{at} {word} {job} {message_id} {attempt} {redelivered}\n")
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let at = words.next()?.parse().ok()?;
        let word = words.next()?;
        let what = WORDS.iter().find(|(_, known)| *known == word)?.0;
        let job = words.next()?.parse().ok()?;
        let message_id = words.next().filter(|id| *id != "-").unwrap_or_default().to_owned();
        let attempt = words.next()?.parse().ok()?;
        let redelivered = words.next()?.parse().ok()?;
        Some(Self { at, what, job, message_id, attempt, redelivered })
    }
}

/// The present time, in microseconds since the epoch.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(since.as_micros()).expect("it is before the year 500 000")
}

/// The writing end.
#[derive(Debug)]
pub struct Log(File);

impl Log {
    pub fn create(path: &Path) -> io::Result<Self> {
        OpenOptions::new().create_new(true).append(true).open(path).map(Self)
    }

    /// Appends a line, by one call of the system.
    pub fn append(&self, line: &Line) {
        let text = line.write();
        let written = (&self.0).write(text.as_bytes()).expect("the disk takes a line");
        assert_eq!(written, text.len(), "the disk takes a whole line");
    }
}

/// The reading end, which may be ahead of the writer.
#[derive(Debug)]
pub struct Tail {
    file: File,
    rest: Vec<u8>,
}

impl Tail {
    /// Opens a log; `None` where there is none yet.
    pub fn open(path: &Path) -> Option<Self> {
        File::open(path).ok().map(|file| Self { file, rest: Vec::new() })
    }

    /// Reads what has been written since the last time.
    pub fn lines(&mut self) -> Vec<Line> {
        self.file.read_to_end(&mut self.rest).expect("a log can be read");
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        let text = String::from_utf8(whole).expect("a log is text");
        let read = |line| Line::read(line).unwrap_or_else(|| panic!("not a line of a log: {line}"));
        text.lines().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back() {
        for (what, _) in WORDS {
            let line = Line {
                job: 7,
                message_id: "0198-x".to_owned(),
                attempt: 2,
                redelivered: true,
                ..Line::bare(what)
            };
            assert_eq!(Line::read(line.write().trim_end()), Some(line));
            let bare = Line::bare(what);
            assert_eq!(Line::read(bare.write().trim_end()), Some(bare));
        }
        assert_eq!(Line::read("17 begun 3"), None);
    }
}
