//! Shows an answer on a terminal, as plain text without colours.

mod number;
mod sentence;
mod sparkline;
mod table;

use std::fmt::Write as _;

pub use sentence::sentence;
pub use sparkline::sparkline;

use crate::{
    answer::{Answer, Outcome, Results},
    prices::Provenance,
    question::Clarification,
};

/// The narrowest width that is laid out for, in columns.
const NARROWEST: usize = 40;

/// Renders `answer` for a terminal of `width` columns; below 40 it is laid out for 40.
///
/// The first line is the answer in a sentence. The text ends with a newline and holds no control
/// characters but newlines, whatever the files and the question held.
#[must_use]
pub fn render(answer: &Answer, width: usize) -> String {
    let width = width.max(NARROWEST);
    let mut text = match &answer.outcome {
        Outcome::Results(found) => results(found, width),
        Outcome::Clarification(back) => clarification(back),
        Outcome::Failure(message) => format!("No answer: {message}.\n"),
    };
    text.push('\n');
    if !answer.timings.is_empty() {
        let took = answer.timings.iter().map(|timing| {
            format!("{} ({}) {}", timing.agent, timing.topic, number::milliseconds(timing.took))
        });
        line(&mut text, "Agents", &took.collect::<Vec<_>>().join(", "));
    }
    line(&mut text, "Conversation", &answer.conversation_id);
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Appends `label` and `value` as a line; labels are aligned.
fn line(text: &mut String, label: &str, value: &str) {
    writeln!(text, "{label:<13} {value}").expect("writing to a string never fails");
}

fn clarification(back: &Clarification) -> String {
    let mut text = format!("{}\n", back.question);
    for suggestion in &back.suggestions {
        text.push_str("  - ");
        text.push_str(suggestion);
        text.push('\n');
    }
    text
}

fn results(results: &Results, width: usize) -> String {
    let mut text = sentence(results);
    if results.provenance.synthetic {
        text.push_str(
            "\nThese prices are synthetic: a made-up sample. Real ones go through `--prices FILE`.",
        );
    }
    text.push_str("\n\n");
    for table in table::tables(results, width) {
        text.push_str(&table);
        text.push('\n');
    }
    text.push('\n');
    for asset in &results.assets {
        let label = format!("{:<7} ", asset.asset);
        let closes: Vec<_> = asset.sketch.iter().map(|point| point.close).collect();
        let ends = match &asset.statistics {
            Some(closes) => {
                format!(
                    " {} to {}",
                    number::price(closes.first.close),
                    number::price(closes.last.close)
                )
            }
            None => " no closes".into(),
        };
        let room = width.saturating_sub(label.len() + ends.len());
        writeln!(text, "{label}{}{ends}", sparkline(&closes, room))
            .expect("writing to a string never fails");
    }
    text.push('\n');
    let range = &results.range;
    line(&mut text, "Range", &format!("{} ({})", range.days, range.description));
    provenance(&mut text, &results.provenance);
    text
}

fn provenance(text: &mut String, provenance: &Provenance) {
    let counts = [
        (provenance.rows, "rows"),
        (provenance.blank_rows, "without a price"),
        (provenance.duplicate_rows, "with the time of another"),
        (provenance.bad_rows, "bad"),
    ];
    let counts = counts.iter().enumerate().filter(|(i, (count, _))| *i == 0 || *count > 0);
    let counts: Vec<_> = counts.map(|(_, (count, of))| format!("{count} {of}")).collect();
    let synthetic = if provenance.synthetic { ", synthetic" } else { "" };
    let sources = provenance.sources.join(", ");
    line(text, "Source", &format!("{sources}{synthetic} ({})", counts.join(", ")));
    for (i, bad) in provenance.first_bad_rows.iter().enumerate() {
        let label = if i == 0 { "Bad rows" } else { "" };
        line(text, label, &format!("{}:{}: {}", bad.file, bad.line, bad.reason));
    }
    let kept = u64::try_from(provenance.first_bad_rows.len()).unwrap_or(u64::MAX);
    if let Some(more @ 1..) = provenance.bad_rows.checked_sub(kept) {
        line(text, "", &format!("and {more} more"));
    }
}

#[cfg(test)]
mod tests;
