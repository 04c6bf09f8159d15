//! Topics and patterns against the rules of AMQP, spelled out.
#![no_main]

use agentbus::{Pattern, Topic, contract::PatternTable};
use libfuzzer_sys::fuzz_target;

fn matches(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern, words) {
        ([], []) => true,
        (["#", "#", rest @ ..], _) => matches(&[&["#"], rest].concat(), words),
        (["#", rest @ ..], _) => (0..=words.len()).any(|skip| matches(rest, &words[skip..])),
        (["*", rest @ ..], [_, words @ ..]) => matches(rest, words),
        ([want, rest @ ..], [have, words @ ..]) => want == have && matches(rest, words),
        _ => false,
    }
}

fuzz_target!(|input: (&str, &str)| {
    let (pattern, topic) = input;
    let (Ok(pattern), Ok(topic)) =
        (Pattern::parse(pattern.to_owned()), Topic::<()>::named(topic.to_owned()))
    else {
        return;
    };
    let topic = topic.name().as_str();
    let [words, pattern_words] =
        [topic, pattern.as_str()].map(|text| text.split('.').collect::<Vec<_>>());
    // The model takes its time where there are many `#`.
    if pattern_words.iter().filter(|word| **word == "#").count() > 4 {
        let _ = pattern.matches(topic);
        return;
    }
    let expected = matches(&pattern_words, &words);
    assert_eq!(pattern.matches(topic), expected, "{pattern} {topic}");
    let mut table = PatternTable::new();
    table.insert(pattern.as_str(), ());
    assert_eq!(table.is_match(topic), expected, "{pattern} {topic}");
});
