//! Progress of long work, on standard error where that is a terminal.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar, or a count where nobody knows the end; nothing where nobody looks. Goes when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Begins to show how many of `total` are `done`.
    pub(crate) fn new(what: &'static str, total: Option<u64>) -> Self {
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        bar.set_draw_target(if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(5)
        } else {
            ProgressDrawTarget::hidden()
        });
        let template = match total {
            Some(_) => "{msg} {wide_bar} {pos}/{len}, {per_sec}, {eta} left",
            None => "{msg} {pos}, {per_sec}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("a template of ours"));
        bar.set_message(what);
        Self(bar)
    }

    /// Counts one more.
    pub(crate) fn advance(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_are_sound() {
        for total in [None, Some(3)] {
            let progress = Progress::new("testing", total);
            progress.advance();
            assert_eq!(progress.0.position(), 1);
        }
    }
}
