//! The messages that wait to be handed out.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use crate::message::{Envelope, Lane, Priorities, Priority, Turns};

/// A message in a queue.
#[derive(Debug)]
pub(super) struct Message {
    /// Its place: messages that came earlier have smaller ones.
    place: u64,
    /// Shared by all queues that have a copy.
    pub(super) envelope: Arc<Envelope>,
    /// How often it came back.
    pub(super) releases: u32,
    /// When it is no longer kept.
    pub(super) expires: Option<Instant>,
}

/// Messages in the order in which they are handed out.
///
/// Each line holds what is handed out in the order it came: one line for all, or one for each
/// priority or lane, the most urgent first.
#[derive(Debug)]
pub(super) struct Ready {
    lines: Vec<VecDeque<Message>>,
    order: Priorities,
    turns: Turns,
    len: usize,
    bytes: u64,
    next_place: u64,
}

impl Default for Ready {
    fn default() -> Self {
        Self::new(Priorities::Off)
    }
}

impl Ready {
    pub(super) fn new(order: Priorities) -> Self {
        let lines = match order {
            Priorities::Off => 1,
            Priorities::Strict => usize::from(Priority::URGENT.level()),
            Priorities::Lanes => Lane::ALL.len(),
        };
        Self {
            lines: (0..lines).map(|_| VecDeque::new()).collect(),
            order,
            turns: Turns::default(),
            len: 0,
            bytes: 0,
            next_place: 0,
        }
    }

    /// Finds the line that a message belongs to.
    fn line(&self, envelope: &Envelope) -> usize {
        let priority = || envelope.metadata.priority.unwrap_or_default();
        match self.order {
            Priorities::Off => 0,
            Priorities::Strict => usize::from(Priority::URGENT.level() - priority().level()),
            Priorities::Lanes => Lane::of(priority()).index(),
        }
    }

    pub(super) fn push(&mut self, envelope: Arc<Envelope>, expires: Option<Instant>) {
        self.bytes += envelope.payload.len() as u64;
        self.len += 1;
        let place = self.next_place;
        self.next_place += 1;
        let line = self.line(&envelope);
        self.lines[line].push_back(Message { place, envelope, releases: 0, expires });
    }

    /// Puts a message back where it was.
    pub(super) fn put_back(&mut self, message: Message) {
        self.bytes += message.envelope.payload.len() as u64;
        self.len += 1;
        let line = self.line(&message.envelope);
        let line = &mut self.lines[line];
        let at = line.partition_point(|other| other.place < message.place);
        line.insert(at, message);
    }

    /// Takes out the message that is to be handed out next.
    pub(super) fn pop(&mut self) -> Option<Message> {
        let line = match self.order {
            Priorities::Off => 0,
            Priorities::Strict => self.lines.iter().position(|line| !line.is_empty())?,
            Priorities::Lanes => {
                let lane = self.turns.next(|lane| !self.lines[lane.index()].is_empty())?;
                self.turns.served(lane);
                lane.index()
            }
        };
        self.pop_of(line)
    }

    /// Takes out the message that came first.
    pub(super) fn pop_oldest(&mut self) -> Option<Message> {
        let place = |line: &usize| self.lines[*line].front().map_or(u64::MAX, |first| first.place);
        let line = (0..self.lines.len()).min_by_key(place)?;
        self.pop_of(line)
    }

    fn pop_of(&mut self, line: usize) -> Option<Message> {
        let message = self.lines[line].pop_front()?;
        self.bytes -= message.envelope.payload.len() as u64;
        self.len -= 1;
        Some(message)
    }

    /// Removes what is no longer kept by `now`.
    pub(super) fn expire(&mut self, now: Instant) {
        // All messages of a queue are kept equally long, so the oldest goes first.
        while self.next_expiry().is_some_and(|expires| expires <= now) {
            self.pop_oldest();
        }
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.lines.iter().filter_map(|line| line.front()?.expires).min()
    }

    /// Removes everything, and returns it by line.
    pub(super) fn take_all(&mut self) -> Vec<VecDeque<Message>> {
        self.bytes = 0;
        self.len = 0;
        self.lines.iter_mut().map(std::mem::take).collect()
    }

    /// Removes what is wanted, in its order.
    pub(super) fn take_out(
        &mut self,
        mut wanted: impl FnMut(&Arc<Envelope>) -> bool,
    ) -> Vec<Arc<Envelope>> {
        let mut taken = Vec::new();
        for line in &mut self.lines {
            line.retain(|message| {
                let stays = !wanted(&message.envelope);
                if !stays {
                    self.bytes -= message.envelope.payload.len() as u64;
                    self.len -= 1;
                    taken.push(message.envelope.clone());
                }
                stays
            });
        }
        taken
    }

    pub(super) fn len(&self) -> u64 {
        self.len as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns how many bytes the bodies have.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &'static str) -> Arc<Envelope> {
        Arc::new(Envelope { payload: text.into(), ..Envelope::default() })
    }

    #[test]
    fn what_comes_back_takes_its_old_place() {
        let mut ready = Ready::default();
        for text in ["a", "b", "c", "d"] {
            ready.push(body(text), None);
        }
        let (a, b, c) = (ready.pop().unwrap(), ready.pop().unwrap(), ready.pop().unwrap());
        for message in [b, a, c] {
            ready.put_back(message);
        }
        let order: Vec<_> =
            std::iter::from_fn(|| ready.pop()).map(|m| m.envelope.payload.clone()).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }

    fn with(level: u8) -> Arc<Envelope> {
        let mut envelope = Envelope::default();
        envelope.metadata.priority = (level > 0).then(|| Priority::new(level).unwrap());
        Arc::new(envelope)
    }

    fn levels(ready: &mut Ready, count: usize) -> Vec<u8> {
        let popped = std::iter::from_fn(|| ready.pop()).take(count);
        popped.map(|m| m.envelope.metadata.priority.map_or(0, Priority::level)).collect()
    }

    #[test]
    fn strict_order_goes_by_priority_and_then_by_age() {
        let mut ready = Ready::new(Priorities::Strict);
        for level in [1, 0, 10, 5, 9, 6, 10] {
            ready.push(with(level), None);
        }
        let urgent = ready.pop().unwrap();
        ready.put_back(urgent);
        assert_eq!(ready.len(), 7);
        assert_eq!(levels(&mut ready, 9), [10, 10, 9, 6, 0, 5, 1]);
        assert!(ready.is_empty());
    }

    #[test]
    fn lanes_share_by_weight() {
        let mut ready = Ready::new(Priorities::Lanes);
        for _ in 0..30 {
            for level in [2, 5, 8, 10] {
                ready.push(with(level), None);
            }
        }
        let mut round = levels(&mut ready, 15);
        round.sort_unstable();
        assert_eq!(round, [2, 5, 5, 8, 8, 8, 8, 10, 10, 10, 10, 10, 10, 10, 10]);
        assert_eq!(ready.pop_oldest().unwrap().envelope.metadata.priority, Some(Priority::LOW));
        assert_eq!(ready.len(), 104);
    }

    #[test]
    fn bytes_are_those_of_what_is_there() {
        let mut ready = Ready::default();
        ready.push(body("abc"), None);
        ready.push(body("de"), None);
        let first = ready.pop().unwrap();
        assert_eq!(ready.bytes(), 2);
        ready.put_back(first);
        assert_eq!((ready.bytes(), ready.len()), (5, 2));
        ready.take_all();
        assert_eq!(ready.bytes(), 0);
        assert!(ready.is_empty());
    }

    #[test]
    fn what_is_wanted_is_taken_out_in_its_order() {
        let mut ready = Ready::default();
        for text in ["a", "b", "cc", "d"] {
            ready.push(body(text), None);
        }
        let taken = ready.take_out(|envelope| envelope.payload != "b");
        let taken: Vec<_> = taken.iter().map(|envelope| envelope.payload.clone()).collect();
        assert_eq!(taken, ["a", "cc", "d"]);
        assert_eq!((ready.len(), ready.bytes()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_no_longer_kept_expires() {
        let start = Instant::now();
        let second = std::time::Duration::from_secs(1);
        let mut ready = Ready::default();
        ready.push(body("a"), Some(start + second));
        ready.push(body("b"), Some(start + 2 * second));
        ready.expire(start);
        assert_eq!(ready.len(), 2);
        ready.expire(start + second);
        assert_eq!(ready.pop().unwrap().envelope.payload, "b");
    }
}
