//! Where agents were built with contracts that do not say the same.

use std::collections::{BTreeMap, BTreeSet};

use agentbus::{
    Schema,
    client::{AgentCard, AgentRoute},
};

/// The instances of an agent that were built alike.
struct Group<'a> {
    instances: Vec<&'a str>,
    /// Of one of them.
    card: &'a AgentCard,
    alike: Alike<'a>,
}

/// What instances that were built alike have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Alike<'a> {
    name: &'a str,
    hashes: BTreeSet<&'a str>,
    signatures: BTreeSet<Signature<'a>>,
}

/// A topic with the types it takes and answers with.
type Signature<'a> = (&'a str, [Option<&'a str>; 2]);

/// Says which replicas of an agent were built with different contracts, and which agents that have
/// a topic or a message in common.
pub(super) fn of(cards: &[AgentCard]) -> Vec<String> {
    let groups = groups(cards);
    let mut said = Vec::new();
    for (index, one) in groups.iter().enumerate() {
        for other in &groups[index + 1..] {
            let why = contradiction(one, other).or_else(|| other_types(one, other));
            let (name, other_name) = (one.alike.name, other.alike.name);
            let who = if name == other_name {
                if why.is_none() && one.alike.hashes == other.alike.hashes {
                    continue;
                }
                format!("replicas of `{name}`")
            } else {
                match shared(one.card, other.card).filter(|_| why.is_some()) {
                    Some(shared) => format!("`{name}` and `{other_name}`, which share `{shared}`,"),
                    None => continue,
                }
            };
            let why = why.map(|why| format!("; {why}")).unwrap_or_default();
            let (one, other) = (one.shown(), other.shown());
            said.push(format!("{who} speak different contracts: {one} and {other}{why}"));
        }
    }
    said
}

fn groups(cards: &[AgentCard]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<Alike<'_>, Group<'_>> = BTreeMap::new();
    for card in cards {
        let alike = Alike {
            name: &card.name,
            hashes: card.contracts.iter().map(|contract| &*contract.hash).collect(),
            signatures: card.routes.iter().filter_map(signature).collect(),
        };
        let new = || Group { instances: Vec::new(), card, alike: alike.clone() };
        groups.entry(alike.clone()).or_insert_with(new).instances.push(&card.instance);
    }
    groups.into_values().collect()
}

/// What is told of a topic; nothing of a pattern or a follow-up, which say less.
fn signature(route: &AgentRoute) -> Option<Signature<'_>> {
    let told = !route.topic.contains(['*', '#']) && route.follow_up.is_none();
    let types = [&route.request_type, &route.reply_type];
    told.then(|| (&*route.topic, types.map(|it| it.as_deref())))
}

impl Group<'_> {
    fn shown(&self) -> String {
        let mut contracts: Vec<_> = self.alike.hashes.iter().map(|it| super::short(it)).collect();
        if contracts.is_empty() {
            contracts.push("not known");
        }
        let version = self.card.version.as_deref().map(|it| format!(", version {it}"));
        let (instances, version) = (self.instances.join(" "), version.unwrap_or_default());
        format!("{instances} (contract {}{version})", contracts.join(" "))
    }
}

/// Tells what the contracts of two groups contradict each other in.
fn contradiction(one: &Group<'_>, other: &Group<'_>) -> Option<String> {
    let sets = |group: &Group<'_>, others: &BTreeSet<&str>| -> Vec<_> {
        let contracts = group.card.contracts.iter().filter(|it| !others.contains(&*it.hash));
        contracts.filter_map(|contract| contract.descriptor_set.clone()).collect()
    };
    let theirs = sets(other, &one.alike.hashes);
    for ours in sets(one, &other.alike.hashes) {
        for theirs in &theirs {
            let mut schema = Schema::decode(&ours).ok()?;
            if let Err(error) = schema.merge(theirs) {
                return Some(error.to_string());
            }
        }
    }
    None
}

/// Names a topic for which two groups have other types.
fn other_types(one: &Group<'_>, other: &Group<'_>) -> Option<String> {
    one.alike.signatures.iter().find_map(|(topic, ours)| {
        let same = other.alike.signatures.iter().filter(|(theirs, _)| theirs == topic);
        let (_, theirs) = { same }.find(|(_, theirs)| differ(ours, theirs))?;
        let shown = |types: &[Option<&str>; 2]| {
            let [request, reply] = types.map(|it| it.unwrap_or("nothing"));
            format!("`{request}` -> `{reply}`")
        };
        Some(format!("`{topic}` is {} and {}", shown(ours), shown(theirs)))
    })
}

/// An observer, who takes anything or does not reply, contradicts nobody.
fn differ(ours: &[Option<&str>; 2], theirs: &[Option<&str>; 2]) -> bool {
    ours.iter().zip(theirs).any(|pair| matches!(pair, (Some(ours), Some(theirs)) if ours != theirs))
}

/// Names a topic or a message that two agents have in common.
fn shared(one: &AgentCard, other: &AgentCard) -> Option<String> {
    fn topic(route: &AgentRoute) -> Vec<&str> {
        if route.topic.contains(['*', '#']) { Vec::new() } else { vec![&route.topic] }
    }
    fn types(route: &AgentRoute) -> Vec<&str> {
        let types = [&route.request_type, &route.reply_type];
        types.into_iter().filter_map(|it| it.as_deref()).collect()
    }
    [topic, types].into_iter().find_map(|of: fn(&AgentRoute) -> Vec<&str>| {
        let theirs: BTreeSet<_> = other.routes.iter().flat_map(of).collect();
        one.routes.iter().flat_map(of).find(|it| theirs.contains(it)).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use agentbus::proto::v1;

    use super::*;

    fn card(name: &str, instance: &str, hash: &str, reply: &str) -> AgentCard {
        let route = |topic: &str, request: &str, reply: &str| v1::AgentRoute {
            topic: topic.to_owned(),
            request_type: request.to_owned(),
            reply_type: reply.to_owned(),
            contract_hash: hash.to_owned(),
            ..v1::AgentRoute::default()
        };
        v1::AgentCard {
            name: name.to_owned(),
            instance: instance.to_owned(),
            routes: vec![route("data.request", "a.Request", reply), route("audit.#", "", "")],
            contract_hashes: vec![hash.to_owned()],
            ..v1::AgentCard::default()
        }
        .into()
    }

    #[test]
    fn replicas_are_told_apart_by_their_contract() {
        let same = [card("data", "1", "aa", "a.Reply"), card("data", "2", "aa", "a.Reply")];
        assert!(of(&same).is_empty());
        let mixed = [&same[..], &[card("data", "3", "bb", "a.Reply")]].concat();
        let said = of(&mixed);
        assert_eq!(
            said,
            ["replicas of `data` speak different contracts: 1 2 (contract aa) and 3 (contract bb)"]
        );
    }

    #[test]
    fn a_topic_has_the_same_types_everywhere() {
        let cards = [card("data", "1", "aa", "a.Reply"), card("news", "2", "bb", "b.Reply")];
        let said = of(&cards);
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("`data` and `news`, which share `data.request`"), "{said:?}");
        assert!(said[0].contains("`a.Request` -> `b.Reply`"), "{said:?}");
    }

    #[test]
    fn an_observer_and_a_stranger_contradict_nobody() {
        let observer = card("audit", "2", "bb", "");
        assert!(of(&[card("data", "1", "aa", "a.Reply"), observer]).is_empty());
    }
}
