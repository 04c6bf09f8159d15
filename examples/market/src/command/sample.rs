//! `market sample`.

use std::io;

use super::print;
use crate::sample;

/// Prints the sample.
///
/// # Errors
///
/// Fails where standard output cannot be written to.
pub fn run() -> io::Result<()> {
    print(sample::CSV)
}
