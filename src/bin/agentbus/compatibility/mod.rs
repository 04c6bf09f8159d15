//! Finds what breaks readers or writers when one contract takes the place of another.
//!
//! In a rolling deploy old and new agents talk to each other in both directions, and dead letters and
//! delayed messages outlive both. So a change is judged both ways: what new agents read of old
//! messages, and old ones of new messages.
//!
//! Types are found by their full names and fields by their numbers, as on the wire; which file they
//! are in does not matter. Each kind of change is a [`Rule`], which belongs to a [`Category`].

mod cardinality;
mod enums;
mod fields;
mod finding;
mod messages;
mod oneofs;
mod packages;
mod reserved;
mod routes;
mod rule;
mod types;

use std::collections::BTreeSet;

use prost_reflect::FileDescriptor;

pub(crate) use self::{
    finding::{Finding, FindingJson},
    rule::{Category, Rule},
};
use crate::contract::described::Described;

/// The two contracts that are compared, and what was found so far.
struct Comparison<'a> {
    old: &'a Described,
    new: &'a Described,
    /// Packages that are gone as a whole: what was in them is not named again.
    gone: BTreeSet<String>,
    findings: Vec<Finding>,
}

/// Compares two contracts. What is found is in the order of the places; nothing is found where both
/// are the same.
pub(crate) fn compare(old: &Described, new: &Described) -> Vec<Finding> {
    let mut comparison = Comparison { old, new, gone: BTreeSet::new(), findings: Vec::new() };
    packages::compare(&mut comparison);
    messages::compare(&mut comparison);
    enums::compare(&mut comparison);
    routes::compare(&mut comparison);
    let mut findings = comparison.findings;
    findings.sort_by(|a, b| (a.category, &a.place, a.rule).cmp(&(b.category, &b.place, b.rule)));
    findings
}

impl Comparison<'_> {
    /// Goes through the old files that are compared.
    ///
    /// Google's types come with the compiler, and ours with agentbus: that they are imported no
    /// longer is no change of the contract.
    fn old_files(&self) -> impl Iterator<Item = FileDescriptor> + '_ {
        self.old.files().filter(|file| {
            let name = file.name();
            let ours = name.starts_with("agentbus/v1/");
            let there = || self.new.files().any(|file| file.name() == name);
            !name.starts_with("google/protobuf/") && (!ours || there())
        })
    }

    /// Adds what was found at an element of the new contract.
    fn found_new(&mut self, rule: Rule, file: &FileDescriptor, path: &[i32], message: String) {
        let place = self.new.place(file, path);
        self.findings.push(Finding::new(rule, place, message));
    }

    /// Adds what was found at an element of the old contract, which the new one lacks.
    fn found_old(&mut self, rule: Rule, file: &FileDescriptor, path: &[i32], message: String) {
        let place = self.old.place(file, path);
        self.findings.push(Finding::new(rule, place, message).in_old());
    }
}
