//! Something each agent has one of, or one for each topic, sender or other key.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;

use crate::{agent::Context, contract::Name};

/// How many keys are told apart by default.
const KEYS: usize = 10_000;

type By = Arc<dyn Fn(&Context) -> Option<Name> + Send + Sync>;

/// One `T` for each agent and key, made when first needed; bounded, the least recently used goes
/// first.
pub(super) struct Keyed<T> {
    by: Option<By>,
    keys: usize,
    // A std mutex: it is held for one look-up and never across an await.
    made: Mutex<LruCache<(Name, Name), Arc<T>>>,
}

impl<T> Keyed<T> {
    /// One for each agent.
    pub(super) fn by_agent() -> Self {
        Self { by: None, keys: KEYS, made: Mutex::new(LruCache::unbounded()) }
    }

    /// One for each agent and what `by` finds in the message.
    pub(super) fn by(self, by: impl Fn(&Context) -> Option<Name> + Send + Sync + 'static) -> Self {
        Self { by: Some(Arc::new(by)), ..self }
    }

    /// Sets how many are kept, at least one; of agents, all are.
    pub(super) fn limit(self, keys: usize) -> Self {
        Self { keys: keys.max(1), ..self }
    }

    /// Returns the one that a message belongs to; `None` where it has no key.
    pub(super) fn of(&self, context: &Context, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        let key = match &self.by {
            Some(by) => by(context)?,
            None => Name::from_static(""),
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (context.agent().clone(), key);
        let found = Arc::clone(made.get_or_insert(key, || Arc::new(make())));
        while self.by.is_some() && made.len() > self.keys {
            made.pop_lru();
        }
        Some(found)
    }

    /// Finds something in what there is, from the most recently used on.
    pub(super) fn find<R>(
        &self,
        find: impl FnMut((&(Name, Name), &Arc<T>)) -> Option<R>,
    ) -> Option<R> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.iter().find_map(find)
    }
}

impl<T> fmt::Debug for Keyed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("by_agent", &self.by.is_none()).finish_non_exhaustive()
    }
}
