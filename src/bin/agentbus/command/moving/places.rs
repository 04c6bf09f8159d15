//! Which queues there are on both buses.

use std::time::Duration;

use agentbus::{
    Client, Id,
    broker::{QueueError, QueueRole, QueueSpec, QueueStats, TopologyError},
    config::Declare,
    message::{Lane, Priority},
};

use crate::{
    agent_queues::{lane_queues, specs},
    exit::Usage,
    output::note,
};

/// How long the queue that tells two buses apart outlives the command.
const MARK_EXPIRES: Duration = Duration::from_mins(1);

/// What is to be moved, and to where.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) found: Vec<Place>,
    /// Named, and not on the old bus.
    pub(super) missing: Vec<String>,
}

/// What to do where a queue is not on the new bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Refuse,
    Ignore,
    Create,
}

/// A queue on both buses.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) queue: String,
    pub(super) ready: u64,
    pub(super) consumers: u32,
    targets: Targets,
}

/// The queues that take what is in it.
#[derive(Debug)]
struct Targets {
    normal: String,
    /// Those of the other lanes, where lanes are queues of their own.
    lanes: Vec<(Lane, String)>,
}

impl Places {
    /// Looks for queues on both buses; lanes of those that are named come with them.
    pub(super) async fn find(
        from: &Client,
        to: &Client,
        names: &[String],
        missing: Missing,
    ) -> anyhow::Result<Self> {
        let mut places = Self { found: Vec::new(), missing: Vec::new() };
        for name in names {
            let base = base(from, name, names).await?;
            let Some(stats) = found(from, name).await? else {
                note(format_args!("there is no queue `{name}` on the old bus"));
                places.missing.push(name.clone());
                continue;
            };
            let targets = Targets::find(to, base, missing).await?;
            let (ready, consumers) = (stats.ready, stats.consumers);
            places.found.push(Place { queue: name.clone(), ready, consumers, targets });
            if base != name || keeps_dead_letters(name) {
                continue;
            }
            for (_, lane) in lanes_of(from, name).await? {
                if let Some(stats) = found(from, &lane).await?
                    && !names.contains(&lane)
                {
                    let targets = Targets::find(to, base, missing).await?;
                    let (ready, consumers) = (stats.ready, stats.consumers);
                    places.found.push(Place { queue: lane, ready, consumers, targets });
                }
            }
        }
        Ok(places)
    }
}

impl Place {
    /// Returns the queue that takes a message of a priority.
    pub(super) fn target(&self, priority: Option<Priority>) -> &str {
        let lane = priority.map_or(Lane::Normal, Lane::of);
        let of_lane = self.targets.lanes.iter().find(|(of, _)| *of == lane);
        of_lane.map_or(&self.targets.normal, |(_, queue)| queue)
    }
}

impl Targets {
    async fn find(to: &Client, queue: &str, missing: Missing) -> anyhow::Result<Self> {
        if found(to, queue).await?.is_none() {
            match missing {
                Missing::Ignore => {}
                Missing::Create => create(to, queue).await?,
                Missing::Refuse => {
                    let text = format!(
                        "there is no queue `{queue}` on the new bus: start its agent there once, or \
                         make it by `--create`"
                    );
                    return Err(Usage(text).into());
                }
            }
        }
        let lanes =
            if keeps_dead_letters(queue) { Vec::new() } else { lanes_of(to, queue).await? };
        Ok(Self { normal: queue.to_owned(), lanes })
    }
}

/// Declares a queue as its agent would, after the dead letters that it names.
async fn create(to: &Client, queue: &str) -> Result<(), TopologyError> {
    let agent = queue.strip_suffix(".dlq").unwrap_or(queue);
    for spec in specs(agent, to.config()).iter().rev() {
        if *spec.name == *queue || keeps_dead_letters(&spec.name) {
            to.broker().declare(spec).await?;
        }
    }
    Ok(())
}

/// Lists the lanes of an agent that are queues of their own.
async fn lanes_of(client: &Client, queue: &str) -> Result<Vec<(Lane, String)>, QueueError> {
    let mut lanes = Vec::new();
    for (lane, name) in [Lane::Urgent, Lane::High, Lane::Low].into_iter().zip(lane_queues(queue)) {
        if found(client, &name).await?.is_some() && !is_an_agents(client, &name).await? {
            lanes.push((lane, name));
        }
    }
    Ok(lanes)
}

/// Whether a queue that is named like a lane has dead letters of its own, as no lane has.
async fn is_an_agents(client: &Client, queue: &str) -> Result<bool, QueueError> {
    Ok(found(client, &format!("{queue}.dlq")).await?.is_some())
}

/// Returns the queue that a queue is a lane of, among those that are named, or itself.
async fn base<'a>(
    from: &Client,
    name: &'a str,
    names: &'a [String],
) -> Result<&'a str, QueueError> {
    match owner(name, names) {
        Some(owner) if !is_an_agents(from, name).await? => Ok(owner),
        _ => Ok(name),
    }
}

/// Finds the queue, among those that are named, of which a queue has the name of a lane.
fn owner<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let owner = |lane: Lane| {
        let owner = name.strip_suffix(&format!(".{lane}"))?;
        names.iter().find(|it| *it == owner).map(String::as_str)
    };
    Lane::ALL.into_iter().find_map(owner)
}

fn keeps_dead_letters(queue: &str) -> bool {
    queue.rsplit('.').next() == Some("dlq")
}

async fn found(client: &Client, queue: &str) -> Result<Option<QueueStats>, QueueError> {
    match client.broker().stats(queue).await {
        Ok(stats) => Ok(Some(stats)),
        Err(QueueError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds out whether both addresses lead to the same queues, by a queue that is made on one and looked
/// for on the other. Where nothing may be made, they are taken for two.
pub(super) async fn same_bus(from: &Client, to: &Client) -> anyhow::Result<bool> {
    if to.config().declare == Declare::Passive {
        return Ok(false);
    }
    let name = format!("{}agentbus.move.{}", to.config().queue_prefix, Id::new());
    let spec =
        QueueSpec::new(name.as_str(), QueueRole::Private { max_length: 1, expires: MARK_EXPIRES });
    to.broker().declare(&spec).await?;
    let same = found(from, &name).await;
    to.broker().delete(&name).await?;
    Ok(same?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_goes_with_the_agent_that_is_named() {
        let names = ["data", "data.urgent", "other.low"].map(str::to_owned);
        assert_eq!(owner("data.urgent", &names), Some("data"));
        assert_eq!(owner("data", &names), None);
        assert_eq!(owner("other.low", &names), None);
    }

    #[test]
    fn priorities_find_their_lane() {
        let lanes = vec![(Lane::Urgent, "q.urgent".to_owned()), (Lane::Low, "q.low".to_owned())];
        let targets = Targets { normal: "q".to_owned(), lanes };
        let place = Place { queue: "q".to_owned(), ready: 0, consumers: 0, targets };
        assert_eq!(place.target(Some(Priority::URGENT)), "q.urgent");
        assert_eq!(place.target(Some(Priority::HIGH)), "q", "there is none of that lane");
        assert_eq!(place.target(None), "q");
    }
}
