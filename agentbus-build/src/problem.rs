//! What can be wrong with a contract, and where.

use std::{error::Error as _, fmt, io, path::PathBuf};

/// A place in a `.proto` file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Location {
    /// Path of the file as it was found (`proto/market/v1/market.proto`), or its import name where
    /// it was read from a descriptor set.
    pub file: String,
    /// Line, from 1; 0 where it is not known, as in a descriptor set without source information.
    pub line: u32,
    /// Column, from 1, counted in bytes; 0 where it is not known.
    pub column: u32,
}

impl Location {
    /// Points at a file as a whole.
    pub(crate) fn whole(file: impl Into<String>) -> Self {
        Self { file: file.into(), line: 0, column: 0 }
    }
}

impl fmt::Display for Location {
    /// Writes `file:line:column`, which editors and terminals turn into a link.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// One thing that is wrong with a contract.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Problem {
    /// Where it is.
    pub location: Location,
    /// What it is, and what helps.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(location: Location, message: impl Into<String>) -> Self {
        Self { location, message: message.into() }
    }
}

impl fmt::Display for Problem {
    /// Writes `proto/x.proto:12:3: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)
    }
}

/// Why a contract was not read, or its code not written.
///
/// `Debug` shows the same text as `Display`, with the cause: it is what a build script prints whose
/// `main` returns this error.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The `.proto` files need correcting. Holds every problem found, in the order of the files.
    #[error("{}", lines(.0))]
    Contract(Vec<Problem>),
    /// The bytes are not a file descriptor set with all its imports.
    #[error("cannot read the descriptor set: {0}")]
    DescriptorSet(String),
    /// Nobody said where to write.
    #[error("`OUT_DIR` is not set: call this from a build script, or set `Builder::out_dir`")]
    NoOutDir,
    /// prost-build refused the builder's settings, such as a malformed `extern_path`.
    #[error("cannot generate code")]
    Generate(#[source] io::Error),
    /// A file could not be written.
    #[error("cannot write `{}`", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        match self.source() {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32) -> Location {
        Location { line, column, ..Location::whole("proto/x.proto") }
    }

    #[test]
    fn all_problems_are_shown_a_line_each() {
        let error =
            Error::Contract(vec![Problem::new(at(12, 3), "one"), Problem::new(at(0, 0), "two")]);
        let text = "proto/x.proto:12:3: one\nproto/x.proto: two";
        assert_eq!(error.to_string(), text);
        assert_eq!(format!("{error:?}"), text);
    }

    #[test]
    fn debug_names_the_cause() {
        let error = Error::Write { path: "out/a.rs".into(), source: io::Error::other("disk full") };
        assert_eq!(format!("{error:?}"), "cannot write `out/a.rs`: disk full");
    }
}
