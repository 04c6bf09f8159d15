//! Packages, and the syntax of files.

use std::collections::BTreeSet;

use prost_reflect::FileDescriptor;

use super::{Comparison, Rule};

/// Number of `package` in `FileDescriptorProto`.
const PACKAGE: i32 = 2;
/// Number of `syntax` in `FileDescriptorProto`.
const SYNTAX: i32 = 12;

pub(super) fn compare(comparison: &mut Comparison<'_>) {
    let files: Vec<_> = comparison.old_files().collect();
    for file in &files {
        let package = file.package_name();
        let is_there = comparison.new.files().any(|file| file.package_name() == package);
        if is_there {
            syntax(comparison, file);
        } else if names(file).next().is_some() && comparison.gone.insert(package.to_owned()) {
            let named = match package {
                "" => "the package without a name".to_owned(),
                package => format!("package `{package}`"),
            };
            let message = match successor(comparison, package) {
                Some(new) => format!(
                    "{named} is gone, and `{new}` has its types: agents of both keep different names \
                     for the same messages; keep the old package beside the new one until nobody \
                     uses it"
                ),
                None => format!("{named} is gone with all its types"),
            };
            comparison.found_old(Rule::PackageRemoved, file, &[PACKAGE], message);
        }
    }
}

fn syntax(comparison: &mut Comparison<'_>, old: &FileDescriptor) {
    // By its first type, since a file may have another name.
    let message = old.messages().next();
    let message = message.and_then(|old| comparison.new.message(old.full_name()));
    let enumeration = || comparison.new.enumeration(old.enums().next()?.full_name());
    let new = message.map(|new| new.parent_file());
    let Some(new) = new.or_else(|| enumeration().map(|new| new.parent_file())) else { return };
    if new.syntax() != old.syntax() {
        let message =
            format!("the syntax is {:?} and was {:?}", new.syntax(), old.syntax()).to_lowercase();
        comparison.found_new(Rule::FileSyntax, &new, &[SYNTAX], message);
    }
}

/// Finds a package that only the new contract has, and that has most of what is gone.
fn successor(comparison: &Comparison<'_>, gone: &str) -> Option<String> {
    let old_packages: BTreeSet<_> =
        comparison.old.files().map(|file| file.package_name().to_owned()).collect();
    let old: BTreeSet<_> = comparison
        .old
        .files()
        .filter(|file| file.package_name() == gone)
        .flat_map(|file| names(&file).collect::<Vec<_>>())
        .collect();
    comparison
        .new
        .files()
        .filter(|file| !old_packages.contains(file.package_name()))
        .map(|file| (names(&file).filter(|name| old.contains(name)).count(), file))
        .filter(|(shared, _)| shared * 2 >= old.len().max(1))
        .max_by_key(|(shared, _)| *shared)
        .map(|(_, file)| file.package_name().to_owned())
}

/// The names of what a file declares, without the package.
fn names(file: &FileDescriptor) -> impl Iterator<Item = String> + '_ {
    let messages = file.messages().map(|message| message.name().to_owned());
    let enums = file.enums().map(|enumeration| enumeration.name().to_owned());
    let services = file.services().map(|service| service.name().to_owned());
    messages.chain(enums).chain(services)
}
