//! The question back.

/// Why a question could not be answered as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There are no words in it.
    Empty,
    /// It names no asset.
    NoAsset,
    /// It names an asset of which there are no prices.
    UnknownAsset,
    /// A correlation needs a second asset.
    OneAsset,
    /// The range ends before it begins.
    ReversedRange,
    /// It names ranges that contradict each other.
    ContradictoryRange,
    /// The range has a date that does not exist, or is not complete.
    UnclearRange,
}

/// The question back to somebody whose question could not be answered as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clarification {
    /// Why.
    pub reason: Reason,
    /// The question back, one sentence.
    pub question: String,
    /// What could be asked or named instead, most likely first.
    pub suggestions: Vec<String>,
}

impl Clarification {
    /// Makes a clarification.
    pub fn new(
        reason: Reason,
        question: impl Into<String>,
        suggestions: impl IntoIterator<Item = String>,
    ) -> Self {
        Self { reason, question: question.into(), suggestions: suggestions.into_iter().collect() }
    }

    pub(super) fn empty(available: &[String]) -> Self {
        let asset = available.first().map_or("ZEC", String::as_str);
        let suggestions = [
            format!("How did {asset} move in the last 90 days?"),
            format!("How volatile was {asset} this year?"),
            format!("Were there unusual days for {asset}?"),
        ];
        Self::new(Reason::Empty, "What would you like to know?", suggestions)
    }

    pub(super) fn no_asset(available: &[String]) -> Self {
        let question =
            format!("Which asset do you mean: there are prices for {}?", list(available));
        Self::new(Reason::NoAsset, question, available.iter().cloned())
    }

    pub(super) fn unknown_asset(asset: &str, available: &[String]) -> Self {
        let question = format!(
            "There are no prices for {asset}; which of these do you mean: {}?",
            list(available)
        );
        Self::new(Reason::UnknownAsset, question, available.iter().cloned())
    }

    pub(super) fn one_asset(asset: &str, available: &[String]) -> Self {
        let others = available.iter().filter(|other| *other != asset).cloned();
        Self::new(
            Reason::OneAsset,
            format!("Against which asset shall {asset} be compared?"),
            others,
        )
    }

    pub(super) fn unclear(question: impl Into<String>, suggestion: impl Into<String>) -> Self {
        Self::new(Reason::UnclearRange, question, [suggestion.into()])
    }
}

fn list(assets: &[String]) -> String {
    if assets.is_empty() { "nothing yet".into() } else { assets.join(", ") }
}
