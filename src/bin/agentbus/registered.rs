//! The contract that a running agent was built with.

use std::{collections::BTreeMap, time::Duration};

use agentbus::{
    Client, Pattern,
    client::{AgentCard, Discovery},
};
use tokio::time::timeout;

use crate::{
    exit::Usage,
    output::{note, printable},
};

/// How long another replica has to answer after the one before. Nobody knows how many there are.
const NEXT: Duration = Duration::from_secs(1);

/// Asks a running agent for the descriptor sets of its contracts.
///
/// The first replica has the configuration's `request_timeout` to answer, and each other one a second
/// after the one before.
///
/// # Errors
///
/// Where replicas speak different contracts it is a [`Usage`] error: none of them is the agent's.
pub(crate) async fn of_agent(client: &Client, name: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let pattern = Pattern::parse(name.to_owned()).ok().filter(|it| !it.has_wildcards());
    let Some(pattern) = pattern else {
        return Err(Usage(format!("`{name}` is not the name of an agent")).into());
    };
    let within = client.config().request_timeout;
    let asked = Discovery::default().agent(pattern).within(within).with_contracts();
    let mut found = client.discover(asked).await?;
    let Some(first) = found.next().await else {
        anyhow::bail!(
            "no agent `{name}` has answered within {within:?}; `agentbus agents` lists who is there"
        );
    };
    let mut cards = vec![first];
    while let Ok(Some(card)) = timeout(NEXT, found.next()).await {
        cards.push(card);
    }
    agreed(name, &cards)?;
    // They say the same; one that shares its process with others may have had to leave something out.
    match cards.iter().min_by_key(|card| missing(card)) {
        Some(card) => sets(card),
        None => Ok(Vec::new()),
    }
}

/// Makes sure that all replicas were built with the same contracts.
fn agreed(name: &str, cards: &[AgentCard]) -> Result<(), Usage> {
    let mut instances: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
    for card in cards {
        let mut hashes: Vec<&str> = card.contracts.iter().map(|contract| &*contract.hash).collect();
        hashes.sort_unstable();
        instances.entry(hashes).or_default().push(&card.instance);
    }
    if instances.len() < 2 {
        return Ok(());
    }
    let sides = instances.into_iter().map(|(hashes, mut instances)| {
        instances.sort_unstable();
        let contract = match &hashes[..] {
            [] => "no contract".to_owned(),
            [hash] => format!("contract {hash}"),
            hashes => format!("contracts {}", hashes.join(", ")),
        };
        format!("{contract} (instance {})", instances.join(", "))
    });
    let sides: Vec<_> = sides.collect();
    Err(Usage(printable(&format!(
        "replicas of `{name}` speak different contracts: {}; try again when they are the same, or name \
         the contract by `--proto FILE` or `--descriptor-set FILE`",
        sides.join("; ")
    ))))
}

/// Counts the contracts that did not come along.
fn missing(card: &AgentCard) -> usize {
    card.contracts.iter().filter(|contract| contract.descriptor_set.is_none()).count()
}

fn sets(card: &AgentCard) -> anyhow::Result<Vec<Vec<u8>>> {
    let name = &card.name;
    if card.contracts.is_empty() {
        anyhow::bail!(
            "agent `{name}` does not know its contract: its topics are written by hand; its program \
             names the contract by `Runtime::contract`"
        );
    }
    let sets = card.contracts.iter().filter_map(|contract| contract.descriptor_set.as_ref());
    let sets: Vec<_> = sets.map(|set| set.to_vec()).collect();
    match missing(card) {
        0 => Ok(sets),
        missing if sets.is_empty() => Err(anyhow::anyhow!(
            "agent `{name}` has {missing} contracts, which are too large for a message; name them by \
             `--proto FILE`"
        )),
        missing => {
            note(format_args!("{missing} contracts of `{name}` are too large for a message"));
            Ok(sets)
        }
    }
}
