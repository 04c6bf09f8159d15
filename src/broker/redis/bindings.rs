//! The queues a topic reaches, as far as this process knows.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use redis::Value;
use tokio::sync::Mutex;

use super::{bus::Keys, fault::Fault, link::Link, scripts::BINDINGS};
use crate::contract::{Name, PatternTable};

/// How many topics are remembered with the queues they reach.
const REMEMBERED_TOPICS: usize = 4096;

/// The bindings of the bus. Whoever uses them says of which epoch they are, and is told where they
/// have changed since.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    known: RwLock<Option<Arc<Known>>>,
    loading: Mutex<()>,
}

/// What was known at one time.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) epoch: String,
    patterns: PatternTable<Name>,
    remembered: RwLock<HashMap<Name, Arc<[Name]>>>,
}

impl Bindings {
    /// Returns what is known, and loads it if that is nothing, or `stale`.
    pub(super) async fn get(
        &self,
        link: &Link,
        keys: &Keys,
        limit: Duration,
        stale: Option<&Arc<Known>>,
    ) -> Result<Arc<Known>, Fault> {
        let fresh = || {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.clone().filter(|known| stale.is_none_or(|stale| !Arc::ptr_eq(known, stale)))
        };
        if let Some(known) = fresh() {
            return Ok(known);
        }
        // One loads them for all who wait.
        let _loading = self.loading.lock().await;
        if let Some(known) = fresh() {
            return Ok(known);
        }
        let again = super::link::Again::Harmless;
        let loaded = link.call_until(limit, again, &keys.call(&BINDINGS)).await?;
        let known = Arc::new(Known::read(loaded)?);
        let mut place = self.known.write().unwrap_or_else(PoisonError::into_inner);
        *place = Some(known.clone());
        Ok(known)
    }
}

impl Known {
    pub(super) fn read((epoch, bindings): (String, Vec<Value>)) -> Result<Self, Fault> {
        let mut patterns = PatternTable::new();
        for pair in bindings.chunks_exact(2) {
            let text = |value: &Value| {
                redis::from_redis_value_ref::<String>(value)
                    .map_err(|error| Fault::Answer(error.to_string()))
            };
            let (queue, bound) = (Name::from(text(&pair[0])?), text(&pair[1])?);
            for pattern in bound.split(' ') {
                patterns.insert(pattern, queue.clone());
            }
        }
        Ok(Self { epoch, patterns, remembered: RwLock::default() })
    }

    /// Returns the queues with a binding that matches `topic`, each once.
    pub(super) fn bound_to(&self, topic: &Name) -> Arc<[Name]> {
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(queues) = remembered.get(topic) {
            return queues.clone();
        }
        drop(remembered);
        let mut queues: Vec<Name> = Vec::new();
        self.patterns.for_each_match(topic, |queue| {
            if !queues.contains(queue) {
                queues.push(queue.clone());
            }
        });
        let queues: Arc<[Name]> = queues.into();
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_TOPICS {
            remembered.clear();
        }
        remembered.insert(topic.clone(), queues.clone());
        queues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_reached_once_by_however_many_patterns() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let bindings = vec![text("one"), text("a.* a.b"), text("two"), text("#")];
        let known = Known::read(("7".to_owned(), bindings)).unwrap();
        let mut reached = known.bound_to(&"a.b".into()).to_vec();
        reached.sort_unstable();
        assert_eq!(reached, ["one", "two"]);
        assert_eq!(*known.bound_to(&"c".into()), ["two"]);
    }
}
