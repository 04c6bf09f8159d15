//! Queues by name, and the queues a topic reaches.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock, Weak},
};

use super::{engine::Engine, queue::Queue, read, write};
use crate::{
    broker::{QueueSpec, TopologyError, limits::agree},
    contract::{Name, PatternTable},
};

/// How many topics are remembered with the queues they reach.
const REMEMBERED_TOPICS: usize = 4096;

/// The queues that have a copy of a message coming.
pub(super) type BoundQueues = Arc<[Arc<Queue>]>;

/// The topic exchange.
#[derive(Debug)]
pub(super) struct Exchange {
    topology: RwLock<Topology>,
    /// What the bindings say of topics seen lately; emptied when they change.
    remembered: RwLock<HashMap<Name, BoundQueues>>,
}

#[derive(Debug)]
struct Topology {
    queues: HashMap<Name, Bound>,
    bindings: PatternTable<Name>,
}

#[derive(Debug)]
struct Bound {
    queue: Arc<Queue>,
    patterns: Vec<Name>,
}

impl Exchange {
    pub(super) fn new() -> Self {
        Self {
            topology: RwLock::new(Topology {
                queues: HashMap::new(),
                bindings: PatternTable::new(),
            }),
            remembered: RwLock::default(),
        }
    }

    pub(super) fn queue(&self, name: &str) -> Option<Arc<Queue>> {
        read(&self.topology).queues.get(name).map(|bound| bound.queue.clone())
    }

    /// Returns the queues with a binding that matches `topic`, each once.
    pub(super) fn bound_to(&self, topic: &Name) -> BoundQueues {
        if let Some(queues) = read(&self.remembered).get(topic) {
            return queues.clone();
        }
        // Held until the answer is remembered, so that a change comes before or after both.
        let topology = read(&self.topology);
        let mut queues: Vec<Arc<Queue>> = Vec::new();
        topology.bindings.for_each_match(topic, |name| {
            if queues.iter().all(|queue| queue.name() != name)
                && let Some(bound) = topology.queues.get(name)
            {
                queues.push(bound.queue.clone());
            }
        });
        let queues: BoundQueues = queues.into();
        let mut remembered = write(&self.remembered);
        if remembered.len() >= REMEMBERED_TOPICS {
            remembered.clear();
        }
        remembered.insert(topic.clone(), queues.clone());
        queues
    }

    /// Makes a queue or finds it, and changes its bindings.
    pub(super) fn declare(
        &self,
        spec: &QueueSpec,
        engine: &Weak<Engine>,
    ) -> Result<Arc<Queue>, TopologyError> {
        let mut topology = write(&self.topology);
        let there = topology.queues.get(&spec.name).filter(|bound| bound.queue.renew());
        if let Some(bound) = there {
            let ours = (&spec.role, spec.order());
            agree(&spec.name, ours, (bound.queue.role(), bound.queue.order()))?;
        } else {
            topology.forget(&spec.name);
            let queue = Queue::new(spec, engine.clone());
            topology.queues.insert(spec.name.clone(), Bound { queue, patterns: Vec::new() });
        }
        let Topology { queues, bindings } = &mut *topology;
        let Bound { queue, patterns } = queues.get_mut(&spec.name).expect("it was found or made");
        for pattern in &spec.bindings {
            if !patterns.contains(pattern.name()) {
                bindings.insert(pattern.as_str(), spec.name.clone());
                patterns.push(pattern.name().clone());
            }
        }
        for pattern in &spec.retired {
            if let Some(at) = patterns.iter().position(|bound| bound == pattern.name()) {
                bindings.remove(pattern.as_str(), &spec.name);
                patterns.swap_remove(at);
            }
        }
        write(&self.remembered).clear();
        Ok(queue.clone())
    }

    /// Forgets a queue by name, and returns it.
    pub(super) fn remove(&self, name: &str) -> Option<Arc<Queue>> {
        let mut topology = write(&self.topology);
        let queue = topology.forget(name)?;
        write(&self.remembered).clear();
        Some(queue)
    }

    /// Forgets a queue that has expired, unless another was declared under its name.
    pub(super) fn remove_expired(&self, queue: &Arc<Queue>) {
        let mut topology = write(&self.topology);
        let bound = topology.queues.get(queue.name());
        if bound.is_some_and(|bound| Arc::ptr_eq(&bound.queue, queue)) {
            topology.forget(queue.name());
            write(&self.remembered).clear();
        }
    }

    pub(super) fn queues(&self) -> Vec<Arc<Queue>> {
        read(&self.topology).queues.values().map(|bound| bound.queue.clone()).collect()
    }
}

impl Topology {
    fn forget(&mut self, name: &str) -> Option<Arc<Queue>> {
        let (name, bound) = self.queues.remove_entry(name)?;
        for pattern in &bound.patterns {
            self.bindings.remove(pattern, &name);
        }
        Some(bound.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::QueueRole, contract::Pattern};

    fn spec(name: &'static str, patterns: &[&'static str]) -> QueueSpec {
        let role = QueueRole::Private { max_length: 9, expires: std::time::Duration::from_secs(9) };
        patterns.iter().fold(QueueSpec::new(Name::from_static(name), role), |spec, pattern| {
            spec.bind(Pattern::parse(*pattern).unwrap())
        })
    }

    fn reached(exchange: &Exchange, topic: &'static str) -> Vec<String> {
        let bound = exchange.bound_to(&Name::from_static(topic));
        let mut names: Vec<_> = bound.iter().map(|queue| queue.name().to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_queue_is_reached_once_by_however_many_patterns() {
        let exchange = Exchange::new();
        exchange.declare(&spec("a", &["x.y", "x.*", "#"]), &Weak::new()).unwrap();
        exchange.declare(&spec("b", &["x.#"]), &Weak::new()).unwrap();
        assert_eq!(reached(&exchange, "x.y"), ["a", "b"]);
        assert_eq!(reached(&exchange, "z"), ["a"]);
    }

    #[test]
    fn what_was_remembered_follows_every_change() {
        let exchange = Exchange::new();
        assert!(reached(&exchange, "x").is_empty());
        exchange.declare(&spec("a", &["x"]), &Weak::new()).unwrap();
        assert_eq!(reached(&exchange, "x"), ["a"]);
        let mut retired = spec("a", &["y"]);
        retired.retired.push(Pattern::parse("x").unwrap());
        exchange.declare(&retired, &Weak::new()).unwrap();
        assert!(reached(&exchange, "x").is_empty());
        assert_eq!(reached(&exchange, "y"), ["a"]);
        exchange.remove("a");
        assert!(reached(&exchange, "y").is_empty());
    }

    #[test]
    fn no_more_topics_are_remembered_than_allowed() {
        let exchange = Exchange::new();
        for number in 0..=REMEMBERED_TOPICS {
            exchange.bound_to(&format!("topic.{number}").into());
        }
        assert_eq!(read(&exchange.remembered).len(), 1);
    }
}
