//! The faults of a bus, and what they have hit.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::fault::{Fault, Harm, Passing};

/// A fault that was injected; it stays until it is [removed](Self::remove), also when this is
/// dropped.
#[derive(Clone, Debug)]
pub struct Injected(Arc<Active>);

#[derive(Debug)]
struct Active {
    text: String,
    fault: Mutex<Option<Fault>>,
    passed: AtomicU64,
    hits: AtomicU64,
}

impl Injected {
    /// Returns how many messages were hit. A test that injects a fault should look: one that hits
    /// nothing proves nothing.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::Acquire)
    }

    /// Hits nothing more.
    pub fn remove(&self) {
        *self.0.fault() = None;
    }
}

impl Active {
    fn fault(&self) -> MutexGuard<'_, Option<Fault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hit(&self, passing: &Passing<'_>) -> Option<Harm> {
        let mut fault = self.fault();
        let fault = fault.as_mut().filter(|fault| fault.fits(passing))?;
        let number = self.passed.fetch_add(1, Ordering::Relaxed) + 1;
        fault.times.hit(number).then(|| {
            self.hits.fetch_add(1, Ordering::Release);
            fault.harm
        })
    }
}

/// The faults of a bus.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Injected>>);

impl Faults {
    pub(super) fn inject(&self, fault: Fault) -> Injected {
        let injected = Injected(Arc::new(Active {
            text: fault.to_string(),
            fault: Mutex::new(Some(fault)),
            passed: AtomicU64::new(0),
            hits: AtomicU64::new(0),
        }));
        self.list().push(injected.clone());
        injected
    }

    fn list(&self) -> MutexGuard<'_, Vec<Injected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what goes wrong with a message, with the text of the fault.
    pub(super) fn hit(&self, passing: &Passing<'_>) -> Option<(Harm, String)> {
        let faults = self.list().clone();
        faults.iter().find_map(|fault| Some((fault.0.hit(passing)?, fault.0.text.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::Destination,
        contract::{Name, Pattern, Topic},
        message::Envelope,
    };

    const PAID: Topic<String> = Topic::new("order.paid");

    fn publishes(faults: &Faults, topic: &'static str, count: usize) -> Vec<bool> {
        let (name, envelope) = (Name::from_static(topic), Envelope::encode(&"1".to_owned()));
        let passing = || Passing::Published { to: Destination::Topic(&name), envelope: &envelope };
        (0..count).map(|_| faults.hit(&passing()).is_some()).collect()
    }

    #[test]
    fn a_fault_hits_what_fits_as_often_as_it_says() {
        let faults = Faults::default();
        let second = faults.inject(Fault::refused().topic(PAID).nth(2));
        assert_eq!(publishes(&faults, "order.sent", 2), [false, false]);
        assert_eq!(publishes(&faults, "order.paid", 4), [false, true, false, false]);
        assert_eq!(second.hits(), 1);
        let first =
            faults.inject(Fault::lost().pattern(Pattern::parse("order.*").unwrap()).times(2));
        assert_eq!(publishes(&faults, "order.sent", 3), [true, true, false]);
        assert_eq!((first.hits(), second.hits()), (2, 1));
    }

    #[test]
    fn a_removed_fault_hits_nothing() {
        let faults = Faults::default();
        let all = faults.inject(Fault::unroutable());
        assert_eq!(publishes(&faults, "order.paid", 1), [true]);
        all.remove();
        assert_eq!(publishes(&faults, "order.paid", 1), [false]);
    }

    #[test]
    fn chance_is_the_same_on_every_run() {
        let hits = |seed| {
            let faults = Faults::default();
            faults.inject(Fault::lost().randomly(0.3, seed));
            publishes(&faults, "order.paid", 200)
        };
        assert_eq!(hits(7), hits(7));
        assert_ne!(hits(7), hits(8));
        let count = hits(7).into_iter().filter(|hit| *hit).count();
        assert!((30..90).contains(&count), "{count}");
    }

    #[test]
    fn a_fault_of_deliveries_leaves_publishes_alone() {
        let faults = Faults::default();
        faults.inject(Fault::duplicate());
        assert_eq!(publishes(&faults, "order.paid", 1), [false]);
        let (queue, envelope) = (Name::from_static("q"), Envelope::default());
        let passing = Passing::Delivered { queue: &queue, envelope: &envelope };
        assert_eq!(faults.hit(&passing).map(|(harm, _)| harm), Some(Harm::Duplicate));
    }
}
