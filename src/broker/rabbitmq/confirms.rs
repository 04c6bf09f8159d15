//! Which message a confirmation and a return belong to.
//!
//! lapin hands the oldest waiting return to whichever confirmation completes next, so under
//! pipelining a return often comes with another message's confirmation. What holds:
//!
//! - A message's return arrives before its confirmation.
//! - Each completing confirmation takes the oldest return that waits. One that comes without any
//!   therefore proves that none was waiting: all that arrived before were taken by confirmations
//!   that completed earlier.
//! - The publisher collects everything that is complete before it comes here, so what is seen in
//!   a later round was completed later.
//!
//! A confirmation that brought another message's return says nothing yet about its own message,
//! whose return may be next in line; it is held until that is certain.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

/// Identifies a message on its way: a digest of message id, exchange and routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u64);

/// Makes keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(RandomState);

impl Keys {
    pub(super) fn key(&self, message_id: &str, exchange: &str, routing_key: &str) -> Key {
        Key(self.0.hash_one((message_id, exchange, routing_key)))
    }
}

/// A confirmation as it completed, with the return it brought, which may be another's.
#[derive(Debug)]
pub(super) struct Confirmed<T> {
    pub(super) key: Key,
    /// Whether the broker took the message; `false` where it said that it did not.
    pub(super) taken: bool,
    pub(super) returned: Option<Key>,
    /// Who waits for the outcome.
    pub(super) waiter: T,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is in a queue.
    Taken,
    /// No queue is bound.
    Returned,
    /// The broker did not take it.
    Refused,
}

/// The confirmations of one channel that cannot be told apart yet.
#[derive(Debug)]
pub(super) struct Confirms<T> {
    /// Returns that came with another message's confirmation, and how many of each.
    stray: HashMap<Key, usize>,
    held: Vec<Confirmed<T>>,
}

impl<T> Default for Confirms<T> {
    fn default() -> Self {
        Self { stray: HashMap::new(), held: Vec::new() }
    }
}

impl<T> Confirms<T> {
    /// Takes in all that completed since the last round and tells the fate of what is certain.
    ///
    /// `outstanding` messages are not confirmed yet.
    pub(super) fn round(
        &mut self,
        completed: &mut Vec<Confirmed<T>>,
        outstanding: usize,
        mut tell: impl FnMut(T, Fate),
    ) {
        for returned in completed.iter().filter_map(|confirmed| confirmed.returned) {
            *self.stray.entry(returned).or_default() += 1;
        }
        // None waits: after the last confirmation, or (for what earlier rounds left) after any
        // that came without a return.
        let all_known = outstanding == 0;
        let earlier_known = all_known || completed.iter().any(|it| it.returned.is_none());
        for held in std::mem::take(&mut self.held) {
            self.decide(held, earlier_known, &mut tell);
        }
        // A message returned without bringing a return was completed after whoever brought its
        // own, with none waiting; so that one is certain too.
        let mut bringers_known = Vec::new();
        if !self.stray.is_empty() {
            let empty_handed = completed.iter().filter(|it| it.returned.is_none());
            bringers_known
                .extend(empty_handed.map(|it| it.key).filter(|key| self.stray.contains_key(key)));
        }
        for confirmed in completed.drain(..) {
            let known = all_known
                || match confirmed.returned {
                    None => true,
                    Some(other) => bringers_known.contains(&other),
                };
            self.decide(confirmed, known, &mut tell);
        }
    }

    fn decide(&mut self, confirmed: Confirmed<T>, known: bool, tell: &mut impl FnMut(T, Fate)) {
        if self.take_stray(confirmed.key) {
            tell(confirmed.waiter, Fate::Returned);
        } else if !known {
            self.held.push(confirmed);
        } else if confirmed.taken {
            tell(confirmed.waiter, Fate::Taken);
        } else {
            tell(confirmed.waiter, Fate::Refused);
        }
    }

    fn take_stray(&mut self, key: Key) -> bool {
        // The common case: nothing was returned at all.
        if self.stray.is_empty() {
            return false;
        }
        let Some(count) = self.stray.get_mut(&key) else { return false };
        *count -= 1;
        if *count == 0 {
            self.stray.remove(&key);
        }
        true
    }

    /// Gives up on the channel: returns those whose fate will never be known.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = T> {
        self.stray.clear();
        std::mem::take(&mut self.held).into_iter().map(|held| held.waiter)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn confirmed(id: u64, returned: Option<u64>) -> Confirmed<u64> {
        Confirmed { key: Key(id), taken: true, returned: returned.map(Key), waiter: id }
    }

    fn round(
        confirms: &mut Confirms<u64>,
        completed: impl IntoIterator<Item = Confirmed<u64>>,
        outstanding: usize,
    ) -> Vec<(u64, Fate)> {
        let mut told = Vec::new();
        let mut completed = completed.into_iter().collect();
        confirms.round(&mut completed, outstanding, |id, fate| told.push((id, fate)));
        told
    }

    #[test]
    fn a_return_that_comes_with_another_confirmation_finds_its_message() {
        let mut confirms = Confirms::default();
        let told = round(&mut confirms, [confirmed(1, Some(2)), confirmed(2, None)], 5);
        assert_eq!(told, [(1, Fate::Taken), (2, Fate::Returned)]);
    }

    #[test]
    fn who_brought_anothers_return_waits_until_it_is_certain() {
        let mut confirms = Confirms::default();
        assert_eq!(round(&mut confirms, [confirmed(1, Some(2))], 2), []);
        assert_eq!(
            round(&mut confirms, [confirmed(2, Some(1))], 1),
            [(1, Fate::Returned), (2, Fate::Returned)]
        );
        assert_eq!(round(&mut confirms, [confirmed(3, None)], 0), [(3, Fate::Taken)]);
    }

    #[test]
    fn the_last_confirmation_makes_all_certain() {
        let mut confirms = Confirms::default();
        assert_eq!(round(&mut confirms, [confirmed(1, Some(2))], 1), []);
        assert_eq!(
            round(&mut confirms, [confirmed(2, Some(3)), confirmed(3, Some(9))], 0),
            [(1, Fate::Taken), (2, Fate::Returned), (3, Fate::Returned)]
        );
    }

    #[test]
    fn on_a_dead_channel_the_held_are_given_up() {
        let mut confirms = Confirms::default();
        round(&mut confirms, [confirmed(1, Some(2))], 1);
        assert_eq!(confirms.abandon().collect::<Vec<_>>(), [1]);
    }

    /// What may happen next on the wire and in the publisher.
    #[derive(Clone, Debug)]
    enum Step {
        /// The broker handles the next message, if there is one: a return, if unroutable.
        Handle,
        /// The broker confirms up to so many of the handled messages, which lapin completes in
        /// an order of its own.
        Confirm(usize, u64),
        /// The publisher collects what is complete.
        Round,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Handle),
            2 => (1..5_usize, any::<u64>()).prop_map(|(count, order)| Step::Confirm(count, order)),
            1 => Just(Step::Round),
        ]
    }

    proptest! {
        /// Against a model of lapin's bookkeeping.
        #[test]
        fn every_message_gets_its_own_fate(
            routable in prop::collection::vec(any::<bool>(), 1..40),
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let total = routable.len();
            let mut confirms = Confirms::default();
            let (mut handled, mut completed) = (0, 0);
            let mut unconfirmed = Vec::new();
            let mut waiting_returns = VecDeque::new();
            let mut ready = Vec::new();
            let mut told = HashMap::new();
            let finish = std::iter::repeat_n(Step::Handle, total)
                .chain([Step::Confirm(usize::MAX, 7), Step::Round]);
            for step in steps.into_iter().chain(finish) {
                match step {
                    Step::Handle if handled < total => {
                        if !routable[handled] {
                            waiting_returns.push_back(handled as u64);
                        }
                        unconfirmed.push(handled);
                        handled += 1;
                    }
                    Step::Handle => {}
                    Step::Confirm(count, mut order) => {
                        for _ in 0..count.min(unconfirmed.len()) {
                            order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                            let at = usize::try_from(order >> 33).unwrap() % unconfirmed.len();
                            let id = unconfirmed.swap_remove(at) as u64;
                            ready.push(confirmed(id, waiting_returns.pop_front()));
                            completed += 1;
                        }
                    }
                    Step::Round => {
                        confirms.round(&mut ready, total - completed, |id, fate| {
                            assert_eq!(told.insert(id, fate), None, "told twice");
                        });
                    }
                }
            }
            prop_assert_eq!(told.len(), total);
            for (id, fate) in told {
                let expected =
                    if routable[usize::try_from(id).unwrap()] { Fate::Taken } else { Fate::Returned };
                prop_assert_eq!(fate, expected, "message {}", id);
            }
        }
    }
}
