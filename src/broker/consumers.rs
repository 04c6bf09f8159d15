//! The consumers of a queue, and whose turn it is.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::broker::{Delivery, Settle};

/// One consumer of a queue.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) id: u64,
    /// The connection it came by.
    pub(super) connection: u64,
    /// Has room for `prefetch` deliveries, so it is never full.
    pub(super) sender: mpsc::Sender<Delivery>,
    pub(super) cancel: CancellationToken,
    pub(super) settle: Arc<dyn Settle>,
    pub(super) prefetch: u16,
    pub(super) unsettled: u16,
}

impl Consumer {
    fn has_room(&self) -> bool {
        self.unsettled < self.prefetch
    }

    fn is_cancelled(&self) -> bool {
        self.sender.is_closed() || self.cancel.is_cancelled()
    }
}

/// The consumers of a queue, served in turn.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    /// By ascending id, which are never given twice.
    list: Vec<Consumer>,
    /// Those that have room, the next one first.
    turns: VecDeque<u64>,
}

impl Consumers {
    pub(super) fn add(&mut self, consumer: Consumer) {
        debug_assert!(self.list.last().is_none_or(|last| last.id < consumer.id));
        self.turns.push_back(consumer.id);
        self.list.push(consumer);
    }

    /// Returns the consumer whose turn it is; those that were cancelled go to `gone`.
    pub(super) fn next(&mut self, gone: &mut Vec<Consumer>) -> Option<&Consumer> {
        loop {
            let &id = self.turns.front()?;
            match self.position(id) {
                Some(at) if self.list[at].is_cancelled() => gone.extend(self.remove(id)),
                Some(at) => return Some(&self.list[at]),
                None => drop(self.turns.pop_front()),
            }
        }
    }

    /// Notes that the consumer whose turn it was got a delivery.
    pub(super) fn served(&mut self) {
        let Some(id) = self.turns.pop_front() else { return };
        let Some(at) = self.position(id) else { return };
        self.list[at].unsettled += 1;
        if self.list[at].has_room() {
            self.turns.push_back(id);
        }
    }

    /// Notes that a consumer settled a delivery; it may be gone.
    pub(super) fn settled(&mut self, id: u64) {
        let Some(at) = self.position(id) else { return };
        let consumer = &mut self.list[at];
        if !consumer.has_room() {
            self.turns.push_back(id);
        }
        consumer.unsettled -= 1;
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Consumer> {
        let at = self.position(id)?;
        self.turns.retain(|&other| other != id);
        Some(self.list.remove(at))
    }

    /// Removes the consumers that came by `connection`.
    pub(super) fn remove_connection(&mut self, connection: u64) -> Vec<Consumer> {
        let gone: Vec<_> =
            self.list.extract_if(.., |consumer| consumer.connection == connection).collect();
        self.turns.retain(|id| gone.iter().all(|consumer| consumer.id != *id));
        gone
    }

    pub(super) fn remove_all(&mut self) -> Vec<Consumer> {
        self.turns.clear();
        std::mem::take(&mut self.list)
    }

    /// Counts how many deliveries there is room for.
    #[cfg(feature = "redis")]
    pub(super) fn room(&self) -> usize {
        let open = self.list.iter().filter(|consumer| !consumer.is_cancelled());
        open.map(|consumer| usize::from(consumer.prefetch - consumer.unsettled)).sum()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.list.binary_search_by_key(&id, |consumer| consumer.id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Verdict;

    #[derive(Debug)]
    struct Ignore;

    impl Settle for Ignore {
        fn settle(&self, _: u64, _: Verdict) {}
    }

    fn consumer(id: u64, prefetch: u16) -> (Consumer, mpsc::Receiver<Delivery>) {
        let (sender, receiver) = mpsc::channel(prefetch.into());
        let consumer = Consumer {
            id,
            connection: 0,
            sender,
            cancel: CancellationToken::new(),
            settle: Arc::new(Ignore),
            prefetch,
            unsettled: 0,
        };
        (consumer, receiver)
    }

    fn serve(consumers: &mut Consumers) -> Option<u64> {
        let id = consumers.next(&mut Vec::new())?.id;
        consumers.served();
        Some(id)
    }

    #[test]
    fn those_with_room_are_served_in_turn() {
        let mut consumers = Consumers::default();
        let ((first, _a), (second, _b)) = (consumer(1, 1), consumer(2, 3));
        consumers.add(first);
        consumers.add(second);
        let order: Vec<_> = std::iter::from_fn(|| serve(&mut consumers)).collect();
        assert_eq!(order, [1, 2, 2, 2]);
        consumers.settled(2);
        consumers.settled(1);
        consumers.settled(7);
        let order: Vec<_> = std::iter::from_fn(|| serve(&mut consumers)).collect();
        assert_eq!(order, [2, 1]);
    }

    #[test]
    fn a_cancelled_one_is_passed_over_and_removed() {
        let mut consumers = Consumers::default();
        let ((first, _a), (second, b), (third, _c)) =
            (consumer(1, 1), consumer(2, 1), consumer(3, 1));
        first.cancel.cancel();
        drop(b);
        for one in [first, second, third] {
            consumers.add(one);
        }
        let mut gone = Vec::new();
        assert_eq!(consumers.next(&mut gone).map(|next| next.id), Some(3));
        assert_eq!(gone.iter().map(|gone| gone.id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(consumers.len(), 1);
    }
}
