//! The queues of agents: whether they are as an agent would declare them, and consumed from.

use agentbus::{
    broker::{QueueError, QueueSpec, QueueStats, TopologyError},
    config::Declare,
    message::Priorities,
};

use super::{Check, Patient, Verdict};
use crate::{
    agent_queues::{lane_queues, specs},
    management::unset,
};

pub(super) async fn checks(patient: &Patient) -> Vec<Check> {
    let mut checks = vec![undeliverable(patient).await];
    if patient.agents.is_empty() {
        let why = format!("no agent is known; name one by `--agent`{}", unset(&patient.config));
        checks.push(Check::new("queues", Verdict::cannot(why)));
    }
    for queue in &patient.agents {
        let stats = patient.client.broker().stats(queue).await;
        checks.push(Check::new(format!("consumers of `{queue}`"), consumers(stats)));
        let lanes = lanes(patient, queue).await;
        for (lane, stats) in &lanes {
            checks.push(Check::new(format!("consumers of `{lane}`"), lane_consumers(stats)));
        }
        for mut spec in specs(queue, &patient.config) {
            if !lanes.is_empty() {
                // Declared without, the queue would have a second copy of what is in its lanes.
                spec.priorities = Priorities::Lanes;
            } else if spec.priorities == Priorities::Lanes {
                // An agent that has them has queues for them.
                spec.priorities = Priorities::Off;
            }
            let name = format!("arguments of `{}`", spec.name);
            checks.push(Check::new(name, arguments(patient, &spec).await));
        }
    }
    checks
}

async fn undeliverable(patient: &Patient) -> Check {
    let queue = format!("{}.delay.v1.undeliverable", patient.config.exchange);
    let verdict = match patient.client.broker().stats(&queue).await {
        Ok(QueueStats { ready: 0, .. }) => Verdict::ok("none"),
        Ok(QueueStats { ready, .. }) => Verdict::warning(format!(
            "when {ready} messages were due, nobody was bound to their topic or queue; \
             `agentbus queues peek {queue}` shows them"
        )),
        Err(QueueError::NotFound { .. }) => Verdict::ok("nothing was delayed yet"),
        Err(error) => Verdict::cannot(error.to_string()),
    };
    Check::new("undeliverable delays", verdict)
}

fn consumers(stats: Result<QueueStats, QueueError>) -> Verdict {
    match stats {
        Ok(QueueStats { consumers: 0, ready: 0, .. }) => Verdict::ok("none, and nothing waits"),
        Ok(QueueStats { consumers: 0, ready, .. }) => {
            Verdict::warning(format!("none, and {ready} messages wait; start the agent"))
        }
        Ok(QueueStats { consumers, ready, .. }) => {
            Verdict::ok(format!("{consumers}, and {ready} messages wait"))
        }
        Err(error @ QueueError::NotFound { .. }) => Verdict::warning(error.to_string()),
        Err(error) => Verdict::cannot(error.to_string()),
    }
}

/// Finds the queues of an agent's lanes, where it has them.
async fn lanes(patient: &Patient, queue: &str) -> Vec<(String, QueueStats)> {
    let mut lanes = Vec::new();
    for lane in lane_queues(queue) {
        if let Ok(stats) = patient.client.broker().stats(&lane).await {
            lanes.push((lane, stats));
        }
    }
    lanes
}

/// A lane without consumers is worse than a queue without: the agent may well be there, without
/// lanes.
fn lane_consumers(stats: &QueueStats) -> Verdict {
    match stats {
        QueueStats { consumers: 0, ready: 0, .. } => Verdict::ok("none, and nothing waits"),
        QueueStats { consumers: 0, ready, .. } => Verdict::warning(format!(
            "none, and {ready} messages wait; start the agent, with `lanes` as its priorities"
        )),
        QueueStats { consumers, ready, .. } => {
            Verdict::ok(format!("{consumers}, and {ready} messages wait"))
        }
    }
}

async fn sorts_strictly(patient: &Patient, spec: &QueueSpec) -> bool {
    let strict = spec.clone().priorities(Priorities::Strict);
    strict.order() == Priorities::Strict && patient.client.broker().declare(&strict).await.is_ok()
}

async fn arguments(patient: &Patient, spec: &QueueSpec) -> Verdict {
    let broker = patient.client.broker();
    match broker.stats(&spec.name).await {
        Ok(_) => {}
        // Declaring it would make it.
        Err(error @ QueueError::NotFound { .. }) => return Verdict::warning(error.to_string()),
        Err(error) => return Verdict::cannot(error.to_string()),
    }
    if patient.config.declare == Declare::Passive {
        let why = "`declare = \"passive\"`: arguments are compared by declaring";
        return Verdict::cannot(why);
    }
    match broker.declare(spec).await {
        Ok(()) => Verdict::ok("as an agent declares them"),
        // What an agent has chosen for itself is not in the configuration.
        Err(TopologyError::Mismatch { .. })
            if spec.order() == Priorities::Off && sorts_strictly(patient, spec).await =>
        {
            Verdict::ok("as an agent with strict priorities declares them")
        }
        Err(error @ TopologyError::Mismatch { .. }) => Verdict::warning(error.to_string()),
        Err(error) => Verdict::cannot(error.to_string()),
    }
}
