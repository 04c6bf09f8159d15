//! The topics of the contract: whether anybody is bound to them.

use agentbus::contract::PatternTable;

use super::{Check, Patient, Verdict};
use crate::{contract::Contract, management::unset};

pub(super) async fn checks(patient: &Patient, contract: &Contract) -> Vec<Check> {
    let all = |verdict| vec![Check::new("topics", verdict)];
    if contract.routes().next().is_none() {
        let why = "no contract with routes is named; name it by `--proto FILE`";
        return all(Verdict::cannot(why));
    }
    let Some(management) = &patient.management else {
        let why = "the protocol tells who is bound only by delivering a message";
        let why = format!("{why}{}", unset(&patient.config));
        return all(Verdict::cannot(why));
    };
    let bindings = match management.bindings(&patient.config.exchange).await {
        Ok(bindings) => bindings,
        Err(error) => return all(Verdict::cannot(format!("{error:#}"))),
    };
    let mut bound = PatternTable::new();
    // Who watches does not answer.
    let watching = format!("{}tail.", patient.config.queue_prefix);
    for binding in bindings.iter().filter(|it| !it.destination.starts_with(&watching)) {
        bound.insert(&binding.routing_key, ());
    }
    let checks = contract.routes().map(|route| {
        let verdict = if bound.is_match(&route.key) {
            Verdict::ok(format!("somebody is bound to it, for `{}`", route.request))
        } else {
            Verdict::warning("nobody is bound to it: publishing ends as unroutable")
        };
        Check::new(format!("topic `{}`", route.key), verdict)
    });
    checks.collect()
}
