//! The dead letters of agents: whether they become more.

use std::time::Duration;

use super::{Check, Patient, Verdict};

pub(super) async fn checks(patient: &Patient, interval: Duration) -> Vec<Check> {
    let mut before = Vec::new();
    for queue in &patient.agents {
        let queue = format!("{queue}.dlq");
        let count = count(patient, &queue).await;
        before.push((queue, count));
    }
    if !before.is_empty() {
        tokio::time::sleep(interval).await;
    }
    let mut checks = Vec::new();
    for (queue, before) in before {
        let verdict = match (before, count(patient, &queue).await) {
            (Ok(before), Ok(now)) => {
                verdict(before, now, patient.config.dead_letters.max_length, interval, &queue)
            }
            (Err(why), _) | (_, Err(why)) => Verdict::cannot(why),
        };
        checks.push(Check::new(format!("dead letters in `{queue}`"), verdict));
    }
    checks
}

async fn count(patient: &Patient, queue: &str) -> Result<u64, String> {
    let stats = patient.client.broker().stats(queue).await;
    stats.map(|stats| stats.ready).map_err(|error| error.to_string())
}

fn verdict(before: u64, now: u64, limit: u64, interval: Duration, queue: &str) -> Verdict {
    let see = format!("`agentbus queues peek {queue}` shows them");
    if now > before {
        return Verdict::warning(format!("grew from {before} to {now} within {interval:?}; {see}"));
    }
    if now >= limit / 10 * 8 {
        return Verdict::warning(format!(
            "{now} of at most {limit}: when there is no room, the agent pauses; {see}"
        ));
    }
    Verdict::ok(format!("{now}, not growing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_and_nearly_full_are_warnings() {
        let seen = |before, now| verdict(before, now, 100, Duration::from_secs(1), "q.dlq");
        assert!(matches!(seen(5, 5), Verdict::Ok(_)));
        assert!(matches!(seen(5, 4), Verdict::Ok(_)));
        assert!(matches!(seen(5, 6), Verdict::Warning(_)));
        assert!(matches!(seen(80, 80), Verdict::Warning(_)));
    }
}
