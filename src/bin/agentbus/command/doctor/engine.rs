//! The broker itself: its version, its alarms, its file handles.

use agentbus::broker::{Product, Stage};

use super::{Check, Patient, Verdict};
use crate::management::{Node, UNSET};

/// The oldest version that can work.
const OLDEST: (u32, u32) = (3, 10);

pub(super) async fn checks(patient: &Patient) -> Vec<Check> {
    let broker = patient.client.broker();
    let mut checks = vec![Check::new("version", version(broker.product()))];
    let nodes = match &patient.management {
        Some(management) => management.nodes().await.map_err(|error| format!("{error:#}")),
        None => Err(UNSET.to_owned()),
    };
    let health = broker.health().borrow().clone();
    checks.push(Check::new(
        "alarms",
        match &nodes {
            _ if health.stage == Stage::Blocked => Verdict::warning(health.detail),
            Ok(nodes) => alarms(nodes),
            Err(why) => {
                Verdict::cannot(format!("RabbitMQ tells of alarms when one is raised; {why}"))
            }
        },
    ));
    checks.push(Check::new(
        "file handles",
        match &nodes {
            Ok(nodes) => file_handles(nodes),
            Err(why) => Verdict::cannot(why.clone()),
        },
    ));
    checks
}

fn version(product: Option<Product>) -> Verdict {
    let Some(product) = product else { return Verdict::cannot("the broker did not say") };
    let mut numbers = product.version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < OLDEST => Verdict::warning(format!(
            "{product}: delays and dead letters need {}.{} or later",
            OLDEST.0, OLDEST.1
        )),
        (Some(Ok(_)), Some(Ok(_))) => Verdict::ok(product.to_string()),
        _ => Verdict::cannot(format!("the broker calls itself {product}")),
    }
}

fn alarms(nodes: &[Node]) -> Verdict {
    let raised = |node: &Node| {
        let memory = node.mem_alarm.then(|| format!("`{}` is out of memory", node.name));
        let disk = node.disk_free_alarm.then(|| format!("`{}` is out of disk space", node.name));
        memory.into_iter().chain(disk)
    };
    let raised: Vec<_> = nodes.iter().flat_map(raised).collect();
    if raised.is_empty() {
        return Verdict::ok("none is raised");
    }
    Verdict::warning(format!("{}: the broker takes no messages", raised.join("; ")))
}

fn file_handles(nodes: &[Node]) -> Verdict {
    let mut fullest = None;
    for node in nodes {
        let (Some(used), Some(total)) = (node.fd_used, node.fd_total.filter(|it| *it > 0)) else {
            continue;
        };
        let percent = used * 100 / total;
        if fullest.as_ref().is_none_or(|(most, _)| percent > *most) {
            fullest = Some((percent, format!("`{}` uses {used} of {total}", node.name)));
        }
    }
    match fullest {
        None => Verdict::cannot("the management API does not tell"),
        Some((percent, text)) if percent >= 80 => Verdict::warning(format!(
            "{text}: each queue and connection takes some; raise the limit"
        )),
        Some((_, text)) => Verdict::ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        let of = |version: &str| {
            let version = version.to_owned();
            super::version(Some(Product { name: "RabbitMQ".to_owned(), version }))
        };
        assert!(matches!(of("3.10.8"), Verdict::Ok(_)));
        assert!(matches!(of("4.1.0-beta.2"), Verdict::Ok(_)));
        assert!(matches!(of("3.9.29"), Verdict::Warning(_)));
        assert!(matches!(of("x"), Verdict::CannotBeChecked(_)));
    }

    #[test]
    fn the_fullest_node_counts() {
        let node = |fd_used, mem_alarm| Node {
            name: format!("rabbit@{fd_used}"),
            fd_used: Some(fd_used),
            fd_total: Some(100),
            mem_alarm,
            disk_free_alarm: false,
        };
        assert!(matches!(file_handles(&[node(10, false), node(79, false)]), Verdict::Ok(_)));
        let Verdict::Warning(text) = file_handles(&[node(80, false), node(10, false)]) else {
            panic!("no warning")
        };
        assert!(text.contains("`rabbit@80` uses 80 of 100"), "{text}");
        assert!(matches!(file_handles(&[]), Verdict::CannotBeChecked(_)));
        assert!(matches!(alarms(&[node(1, true)]), Verdict::Warning(_)));
        assert!(matches!(alarms(&[node(1, false)]), Verdict::Ok(_)));
    }
}
