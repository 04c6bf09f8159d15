//! Routes: keys, and the messages that travel under them.

use std::fmt::Debug;

use agentbus_build::Route;

use super::{Comparison, Finding, Rule};
use crate::contract::described::Place;

pub(super) fn compare(comparison: &mut Comparison<'_>) {
    let old: Vec<Route> = comparison.old.routes().cloned().collect();
    let new: Vec<Route> = comparison.new.routes().cloned().collect();
    for route in &old {
        let same = new.iter().find(|other| method(other) == method(route));
        // Of a package that is gone, the key tells which route it is.
        let by_key = || new.iter().find(|other| other.key == route.key);
        let found = match same.or_else(by_key) {
            Some(new) => changed(comparison, route, new),
            None => vec![removed(route)],
        };
        comparison.findings.extend(found);
    }
}

fn removed(old: &Route) -> Finding {
    let message = format!(
        "`{}` is gone: nobody takes what is sent to `{}` any more, and what waits for it in queues is \
         dead-lettered",
        method(old),
        old.key
    );
    Finding::new(Rule::RouteRemoved, place(old), message).in_old()
}

fn changed(comparison: &Comparison<'_>, old: &Route, new: &Route) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |rule, message| found.push(Finding::new(rule, place(new), message));
    let name = method(new);
    if old.key != new.key {
        let message = format!(
            "`{name}` has the key `{}` and had `{}`: agents of both contracts do not reach each other",
            new.key, old.key
        );
        add(Rule::RouteKey, message);
    }
    // What follows from a package that is gone has been told.
    let is_told = |name: &str| {
        let package = comparison.old.message(name).map(|old| old.package_name().to_owned());
        package.is_some_and(|package| comparison.gone.contains(&package))
    };
    if method(old) != name && !comparison.gone.contains(package(old)) {
        let message =
            format!("the key `{}` belongs to `{name}`, and did to `{}`", new.key, method(old));
        add(Rule::RouteMethod, message);
    }
    if old.request != new.request && !is_told(&old.request) {
        let message = format!("`{name}` takes `{}` and took `{}`", new.request, old.request);
        add(Rule::RouteRequest, message);
    }
    match (&old.reply, &new.reply) {
        (Some(old), Some(new)) if old != new && !is_told(old) => {
            add(Rule::RouteReply, format!("`{name}` replies with `{new}` and did with `{old}`"));
        }
        (Some(old), None) => {
            let message =
                format!("`{name}` replied with `{old}` and is one-way: who asks gets no reply");
            add(Rule::RouteOneWay, message);
        }
        (None, Some(new)) => {
            let message = format!(
                "`{name}` replies with `{new}` and was one-way: old agents that have it do not reply"
            );
            add(Rule::RouteOneWay, message);
        }
        _ => {}
    }
    if let Some(message) = stated(&name, "deadline", old.deadline, new.deadline) {
        add(Rule::RouteDeadline, message);
    }
    if old.retry != new.retry {
        let message = match (&old.retry, &new.retry) {
            (Some(_), None) => format!("`{name}` states no retry policy, and did"),
            (None, _) => format!("`{name}` states a retry policy, and did not"),
            _ => format!("`{name}` states another retry policy"),
        };
        add(Rule::RouteRetry, message);
    }
    if let Some(message) = stated(&name, "priority", old.priority, new.priority) {
        add(Rule::RoutePriority, message);
    }
    found
}

/// Tells how a default that a route states has changed.
fn stated<T: Debug + PartialEq>(
    name: &str,
    what: &str,
    old: Option<T>,
    new: Option<T>,
) -> Option<String> {
    match (old, new) {
        (Some(old), Some(new)) if old != new => {
            Some(format!("`{name}` has {what} {new:?} and had {old:?}"))
        }
        (Some(old), None) => Some(format!("`{name}` states no {what}, and had {old:?}")),
        (None, Some(new)) => Some(format!("`{name}` has {what} {new:?}, and stated none")),
        _ => None,
    }
}

fn method(route: &Route) -> String {
    format!("{}.{}", route.service, route.method)
}

fn package(route: &Route) -> &str {
    route.service.rsplit_once('.').map_or("", |(package, _)| package)
}

fn place(route: &Route) -> Place {
    let location = &route.location;
    Place { file: location.file.clone(), line: location.line, column: location.column }
}
