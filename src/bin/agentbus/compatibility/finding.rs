//! A change that breaks something.

use serde::Serialize;

use super::rule::{Category, Rule};
use crate::contract::described::Place;

/// A change that breaks something, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) rule: Rule,
    pub(crate) category: Category,
    /// Where it is: in the new contract, or in the old one if the new one lacks it.
    pub(crate) place: Place,
    /// Whether the place is in the old contract.
    pub(crate) is_in_old: bool,
    /// What it is, and what helps.
    pub(crate) message: String,
}

impl Finding {
    pub(super) fn new(rule: Rule, place: Place, message: String) -> Self {
        Self { rule, category: rule.category(), place, is_in_old: false, message }
    }

    pub(super) fn in_old(self) -> Self {
        Self { is_in_old: true, ..self }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rule, category, place, message, .. } = self;
        write!(f, "{place}: {message} [{rule}, {category}]")
    }
}

/// A finding as JSON.
#[derive(Serialize)]
pub(crate) struct FindingJson<'a> {
    rule: &'static str,
    category: Category,
    #[serde(flatten)]
    place: &'a Place,
    /// Which contract the place is in: `old` or `new`.
    side: &'static str,
    message: &'a str,
}

impl<'a> From<&'a Finding> for FindingJson<'a> {
    fn from(finding: &'a Finding) -> Self {
        Self {
            rule: finding.rule.name(),
            category: finding.category,
            place: &finding.place,
            side: if finding.is_in_old { "old" } else { "new" },
            message: &finding.message,
        }
    }
}
