//! Rows that could not be used.

/// How many bad rows are kept; the others are only counted.
pub const KEPT: usize = 20;

/// The most characters of a cell that are shown.
const SHOWN: usize = 40;

/// A row that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The file, as it was named.
    pub file: String,
    /// The line that the row begins on; the first line of a file is 1.
    pub line: u64,
    /// What is wrong with it; holds no control characters.
    pub reason: String,
}

/// Counts bad rows and keeps the first of them.
#[derive(Debug, Default)]
pub(super) struct Rejected {
    pub(super) count: u64,
    pub(super) first: Vec<BadRow>,
}

impl Rejected {
    pub(super) fn add(&mut self, file: &str, line: u64, reason: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < KEPT {
            self.first.push(BadRow { file: file.into(), line, reason: reason() });
        }
    }
}

/// Returns `cell` as it can be shown: shortened, without control characters or foreign bytes.
pub(super) fn shown(cell: &[u8]) -> String {
    let text = String::from_utf8_lossy(cell.get(..SHOWN * 4).unwrap_or(cell));
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_are_kept_and_all_are_counted() {
        let mut rejected = Rejected::default();
        for line in 2..102 {
            rejected.add("a.csv", line, || "bad".into());
        }
        assert_eq!((rejected.count, rejected.first.len()), (100, KEPT));
        assert_eq!(rejected.first[0].line, 2);
    }

    #[test]
    fn what_is_shown_of_a_cell_is_short_and_plain() {
        assert_eq!(shown(b"12,5"), "12,5");
        assert_eq!(shown(b"\x1b[31m"), "\\u{1b}[31m");
        assert_eq!(shown(b"\xff1"), "\u{fffd}1");
        assert_eq!(shown(&[b'9'; 5000]).chars().count(), SHOWN + 1);
    }
}
