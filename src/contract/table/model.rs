//! The table against a model: a list of patterns, each tried in turn by a naive matcher.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{PatternTable, words};

fn matches_naively(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern, words) {
        ([], []) => true,
        (["#", rest @ ..], _) => {
            (0..=words.len()).any(|skip| matches_naively(rest, &words[skip..]))
        }
        (["*", rest @ ..], [_, words @ ..]) => matches_naively(rest, words),
        ([want, rest @ ..], [have, words @ ..]) => want == have && matches_naively(rest, words),
        _ => false,
    }
}

fn split(text: &str) -> Vec<&str> {
    words(text).collect()
}

fn text() -> impl Strategy<Value = String> {
    vec(select(&["a", "b", "*", "#", "#", ""][..]), 0..6).prop_map(|words| words.join("."))
}

fn topic() -> impl Strategy<Value = String> {
    vec(select(&["a", "b", "c", "", "*", "#"][..]), 0..7).prop_map(|words| words.join("."))
}

#[derive(Clone, Debug)]
enum Change {
    Insert(String, u8),
    Remove(String, u8),
    RemoveFiled(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (text(), 0..3_u8).prop_map(|(pattern, value)| Change::Insert(pattern, value)),
        1 => (text(), 0..3_u8).prop_map(|(pattern, value)| Change::Remove(pattern, value)),
        1 => any::<prop::sample::Index>().prop_map(Change::RemoveFiled),
    ]
}

proptest! {
    #[test]
    fn finds_what_a_naive_matcher_finds(
        changes in vec(change(), 0..40),
        topics in vec(topic(), 1..10),
    ) {
        let mut table = PatternTable::new();
        let mut model: Vec<(String, u8)> = Vec::new();
        for change in changes {
            let (pattern, value) = match change {
                Change::Insert(pattern, value) => {
                    table.insert(&pattern, value);
                    model.push((pattern, value));
                    continue;
                }
                Change::Remove(pattern, value) => (pattern, value),
                Change::RemoveFiled(_) if model.is_empty() => continue,
                Change::RemoveFiled(index) => index.get(&model).clone(),
            };
            let filed = model.iter().position(|entry| *entry == (pattern.clone(), value));
            prop_assert_eq!(table.remove(&pattern, &value), filed.is_some());
            filed.map(|position| model.remove(position));
        }
        prop_assert_eq!(table.len(), model.len());
        for topic in topics {
            let mut expected: Vec<&u8> = model
                .iter()
                .filter(|(pattern, _)| matches_naively(&split(pattern), &split(&topic)))
                .map(|(_, value)| value)
                .collect();
            let mut found = table.matches(&topic);
            expected.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(&found, &expected, "{:?}", topic);
            prop_assert_eq!(table.is_match(&topic), !expected.is_empty());
            let words = split(&topic).len();
            prop_assert!(table.walk(&topic, |_| ()) <= 2 * table.nodes.len() * (words + 1));
        }
        for (pattern, value) in model {
            prop_assert!(table.remove(&pattern, &value));
        }
        prop_assert_eq!(table.nodes.len() - table.free.len(), 1, "only the root is left");
    }
}
