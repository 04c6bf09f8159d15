//! What queues were declared: what they are declared as again, on a new connection.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::lane_queues;
use crate::{
    broker::{QueueRole, QueueSpec},
    contract::Name,
    message::{Lane, Priorities, Priority},
};

/// The queues that are kept up.
#[derive(Debug, Default)]
pub(super) struct KnownQueues(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    specs: BTreeMap<Name, QueueSpec>,
    /// How many consumers each has here.
    consumers: BTreeMap<Name, usize>,
}

impl KnownQueues {
    /// Keeps a queue up from now on.
    pub(super) fn remember(&self, spec: &QueueSpec) {
        let queues = &mut self.lock().specs;
        match queues.get_mut(&spec.name) {
            None => {
                queues.insert(spec.name.clone(), spec.clone());
            }
            Some(known) => {
                known.role = spec.role.clone();
                known.priorities = spec.priorities;
                known.bindings.retain(|pattern| !spec.retired.contains(pattern));
                known.retired.retain(|pattern| !spec.bindings.contains(pattern));
                merge(&mut known.bindings, &spec.bindings);
                merge(&mut known.retired, &spec.retired);
            }
        }
    }

    /// Tells whether a queue was declared here, and so belongs to what is kept up.
    pub(super) fn knows(&self, queue: &str) -> bool {
        self.find(queue).is_some()
    }

    /// Tells whether a queue was declared here with lanes.
    pub(super) fn has_lanes(&self, queue: &str) -> bool {
        self.lock().specs.get(queue).is_some_and(|spec| spec.order() == Priorities::Lanes)
    }

    /// Lists the queues that a queue consists of: its lanes, or itself.
    pub(super) fn parts(&self, queue: &str) -> Vec<Name> {
        if self.has_lanes(queue) {
            Lane::ALL.map(|lane| lane_queues::queue(queue, lane)).into()
        } else {
            vec![queue.into()]
        }
    }

    /// Finds the queue that what is addressed to `queue` belongs to by its priority.
    pub(super) fn lane_of(&self, queue: &str, priority: Option<Priority>) -> Option<Name> {
        let lane = Lane::of(priority?);
        (lane != Lane::Normal && self.has_lanes(queue)).then(|| lane_queues::queue(queue, lane))
    }

    /// Forgets a queue that is deleted on purpose, and returns it if it was known.
    pub(super) fn forget(&self, queue: &str) -> Option<QueueSpec> {
        self.lock().specs.remove(queue)
    }

    /// Finds what a queue, or the one that it is a lane of, was declared as.
    pub(super) fn find(&self, queue: &str) -> Option<QueueSpec> {
        let known = self.lock();
        let laned = |owner| known.specs.get(owner).filter(|spec| spec.order() == Priorities::Lanes);
        let found = known.specs.get(queue);
        found.or_else(|| lane_queues::owner(queue).and_then(laned)).cloned()
    }

    /// Lists what was declared.
    pub(super) fn all(&self) -> Vec<QueueSpec> {
        self.lock().specs.values().cloned().collect()
    }

    /// Notes a consumer of a queue.
    pub(super) fn enter(&self, queue: &Name) {
        *self.lock().consumers.entry(queue.clone()).or_default() += 1;
    }

    /// Notes that a consumer has left. A queue that vanishes without consumers is not kept up any
    /// longer once the last of ours has left.
    pub(super) fn leave(&self, queue: &Name) {
        let mut known = self.lock();
        let Some(consumers) = known.consumers.get_mut(queue) else { return };
        *consumers -= 1;
        if *consumers == 0 {
            known.consumers.remove(queue);
            if known.specs.get(queue).is_some_and(|spec| vanishes(&spec.role)) {
                known.specs.remove(queue);
            }
        }
    }

    /// Tells whether a delayed message to `address` belongs to what was declared here.
    ///
    /// A topic belongs to the queues of agents, not to those of replicas: who happens to be there
    /// must not take it before the agent that it is for.
    pub(super) fn is_home_of(&self, address: &str) -> bool {
        let queues = &self.lock().specs;
        if let Some(queue) = address.strip_prefix("q.") {
            return queues.get(queue).is_some_and(|spec| has_delayed(&spec.role));
        }
        let Some(topic) = address.strip_prefix("t.") else { return false };
        let works = |spec: &&QueueSpec| matches!(spec.role, QueueRole::Work { .. });
        let mut bindings = queues.values().filter(works).flat_map(|spec| &spec.bindings);
        bindings.any(|pattern| pattern.matches(topic))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whether delayed messages are meant for such queues: retries, at least.
pub(super) fn has_delayed(role: &QueueRole) -> bool {
    matches!(role, QueueRole::Work { .. } | QueueRole::Replica { .. })
}

/// Tells whether such queues are deleted some time after their last consumer has left.
fn vanishes(role: &QueueRole) -> bool {
    matches!(role, QueueRole::Replica { .. } | QueueRole::Private { .. } | QueueRole::Watch { .. })
}

fn merge<T: Clone + PartialEq>(known: &mut Vec<T>, more: &[T]) {
    for item in more {
        if !known.contains(item) {
            known.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::contract::Pattern;

    fn spec(bindings: &[&str], retired: &[&str]) -> QueueSpec {
        let patterns = |texts: &[&str]| -> Vec<Pattern> {
            texts.iter().map(|text| Pattern::parse(*text).unwrap()).collect()
        };
        let role = QueueRole::DeadLetters(crate::broker::DeadLetterLimits::default());
        QueueSpec {
            bindings: patterns(bindings),
            retired: patterns(retired),
            ..QueueSpec::new("q", role)
        }
    }

    #[test]
    fn declaring_again_adds_patterns_and_retires_others() {
        let queues = KnownQueues::default();
        queues.remember(&spec(&["a", "b"], &[]));
        queues.remember(&spec(&["b", "c"], &["a"]));
        assert_eq!(queues.lock().specs["q"], spec(&["b", "c"], &["a"]));
        queues.forget("q");
        assert!(queues.all().is_empty());
    }

    #[test]
    fn a_delayed_message_belongs_to_queues_that_were_declared_here() {
        let queues = KnownQueues::default();
        queues.remember(&spec(&["dead.*"], &[]));
        let work = QueueRole::Work { dead_letters: "work.dlq".into(), max_length: 9 };
        let work = QueueSpec { role: work, ..spec(&["price.*"], &[]) };
        queues.remember(&QueueSpec { name: "work".into(), ..work });
        for (address, home) in [
            ("q.work", true),
            ("q.q", false),
            ("q.other", false),
            ("t.price.moved", true),
            ("t.price", false),
            ("t.dead.x", false),
            ("work", false),
            ("", false),
        ] {
            assert_eq!(queues.is_home_of(address), home, "{address}");
        }
    }

    #[test]
    fn what_vanishes_is_forgotten_with_its_last_consumer() {
        let queues = KnownQueues::default();
        let expires = Duration::from_mins(1);
        let private = QueueSpec::new("p", QueueRole::Private { max_length: 9, expires });
        for spec in [private, spec(&["a"], &[])] {
            queues.remember(&spec);
            queues.enter(&spec.name);
            queues.enter(&spec.name);
            queues.leave(&spec.name);
            assert!(queues.knows(&spec.name));
            queues.leave(&spec.name);
        }
        assert!(!queues.knows("p"));
        assert!(queues.knows("q"), "dead letters outlive whoever reads them");
        assert!(queues.lock().consumers.is_empty());
    }
}
