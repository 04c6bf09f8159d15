//! What somebody who mistyped a name most likely meant.

/// Returns the name nearest to `typed`, if one is near enough to be a typing error.
pub(super) fn nearest(typed: &str, names: impl IntoIterator<Item = String>) -> Option<String> {
    let limit = (typed.len() / 3).max(2);
    names
        .into_iter()
        .map(|name| (distance(typed, &name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Returns how many bytes must be inserted, removed or replaced to make one of the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn far_names_are_not_suggested() {
        let names = || ["prefetch".to_owned(), "exchange".to_owned()];
        assert_eq!(nearest("prefech", names()).as_deref(), Some("prefetch"));
        assert_eq!(nearest("colour", names()), None);
    }
}
