//! Acknowledgements: as few frames as possible, and none that the broker would not take.
//!
//! An ack with `multiple` settles all deliveries of the channel up to its tag, so it may go only
//! as far as everything before is settled, and its own tag must still be outstanding: a tag that
//! is settled twice closes the channel. What is settled behind a delivery that is still in work
//! is acked one by one.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicNackOptions},
};
use tokio::{sync::Notify, time::sleep};

use crate::broker::{Settle, Verdict};

/// How long an ack may wait for others to go with it.
const LINGER: Duration = Duration::from_millis(5);

/// What is sent to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Ack { tag: u64, multiple: bool },
    Requeue { tag: u64 },
}

/// The deliveries of one channel that are not settled with the broker.
#[derive(Debug)]
struct Book {
    /// Received and in work.
    open: BTreeSet<u64>,
    /// Settled here, not yet at the broker.
    acked: BTreeSet<u64>,
    /// All tags below were received here; the consumers of a channel read them in any order.
    next: u64,
    /// Received out of turn: `next` is still missing.
    ahead: BTreeSet<u64>,
    /// How many acks are collected at most.
    most: usize,
}

/// Whether somebody must flush later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Soon,
    Nothing,
}

impl Book {
    fn new() -> Self {
        Self {
            open: BTreeSet::new(),
            acked: BTreeSet::new(),
            next: 1,
            ahead: BTreeSet::new(),
            most: usize::MAX,
        }
    }

    fn receive(&mut self, tag: u64) {
        self.open.insert(tag);
        if tag == self.next {
            self.next += 1;
            while self.ahead.remove(&self.next) {
                self.next += 1;
            }
        } else {
            self.ahead.insert(tag);
        }
    }

    fn settle(&mut self, tag: u64, verdict: Verdict, send: &mut impl FnMut(Frame)) -> Due {
        if !self.open.remove(&tag) {
            return Due::Nothing;
        }
        match verdict {
            // Sent at once, and so before any `multiple` that would pass over it.
            Verdict::Release => send(Frame::Requeue { tag }),
            Verdict::Ack => {
                self.acked.insert(tag);
            }
        }
        if self.acked.is_empty() {
            Due::Nothing
        } else if self.open.is_empty() || self.acked.len() >= self.most {
            self.flush(send);
            Due::Nothing
        } else if self.acked.len() == 1 && verdict == Verdict::Ack {
            Due::Soon
        } else {
            Due::Nothing
        }
    }

    fn flush(&mut self, send: &mut impl FnMut(Frame)) {
        let in_work = self.open.first().copied().unwrap_or(u64::MAX);
        let beyond = self.acked.split_off(&in_work.min(self.next));
        // The last of the settled prefix is outstanding, since it was not flushed before.
        if let Some(tag) = self.acked.last().copied() {
            let multiple = self.acked.len() > 1;
            send(Frame::Ack { tag, multiple });
        }
        for tag in beyond {
            send(Frame::Ack { tag, multiple: false });
        }
        self.acked.clear();
    }
}

/// Settles the deliveries of one channel; those of an earlier channel have another one of these,
/// whose channel is dead, so that their tags do no harm.
#[derive(Debug)]
pub(super) struct Acks {
    channel: Channel,
    book: Mutex<Book>,
    due: Notify,
}

impl Acks {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, book: Mutex::new(Book::new()), due: Notify::new() }
    }

    /// Adapts to another consumer: acks are collected up to a quarter of the least prefetch.
    pub(super) fn consumer(&self, prefetch: u16) {
        let mut book = self.book();
        book.most = book.most.min(usize::from(prefetch / 4).max(1));
    }

    /// Notes a delivery, before it is handed out.
    pub(super) fn receive(&self, tag: u64) {
        self.book().receive(tag);
    }

    /// Flushes what lingered, for as long as the channel lives.
    pub(super) async fn linger(&self) {
        while self.channel.status().connected() {
            // A lost channel is noticed by its consumers, who stop this.
            self.due.notified().await;
            sleep(LINGER).await;
            self.flush();
        }
    }

    /// Sends what is settled.
    pub(super) fn flush(&self) {
        self.book().flush(&mut |frame| self.send(frame));
    }

    /// Puts a frame in line; the first poll does that. To wait for it to be written would only
    /// wake somebody up, and while the broker blocks the connection it would hang.
    fn send(&self, frame: Frame) {
        let sent = match frame {
            Frame::Ack { tag, multiple } => {
                self.channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never()
            }
            Frame::Requeue { tag } => {
                let options = BasicNackOptions { multiple: false, requeue: true };
                self.channel.basic_nack(tag, options).now_or_never()
            }
        };
        if let Some(Err(error)) = sent {
            // The broker has taken the delivery back and hands it out again.
            tracing::debug!(%error, ?frame, "a delivery was settled too late");
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settle for Acks {
    fn settle(&self, tag: u64, verdict: Verdict) {
        // Frames are sent under the lock, so that they leave in the order of the book.
        let due = self.book().settle(tag, verdict, &mut |frame| self.send(frame));
        if due == Due::Soon {
            self.due.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn book(received: u64, most: usize) -> Book {
        let mut book = Book::new();
        book.most = most;
        (1..=received).for_each(|tag| book.receive(tag));
        book
    }

    fn settle(book: &mut Book, tag: u64, verdict: Verdict) -> (Vec<Frame>, Due) {
        let mut frames = Vec::new();
        let due = book.settle(tag, verdict, &mut |frame| frames.push(frame));
        (frames, due)
    }

    fn ack(tag: u64, multiple: bool) -> Frame {
        Frame::Ack { tag, multiple }
    }

    #[test]
    fn when_idle_an_ack_goes_at_once() {
        let mut book = book(1, 8);
        assert_eq!(settle(&mut book, 1, Verdict::Ack), (vec![ack(1, false)], Due::Nothing));
    }

    #[test]
    fn a_quarter_of_the_prefetch_goes_in_one_frame() {
        let mut book = book(10, 3);
        assert_eq!(settle(&mut book, 1, Verdict::Ack), (vec![], Due::Soon));
        assert_eq!(settle(&mut book, 2, Verdict::Ack), (vec![], Due::Nothing));
        assert_eq!(settle(&mut book, 3, Verdict::Ack), (vec![ack(3, true)], Due::Nothing));
    }

    #[test]
    fn what_is_settled_behind_a_slow_delivery_goes_one_by_one() {
        let mut book = book(5, 3);
        settle(&mut book, 1, Verdict::Ack);
        settle(&mut book, 3, Verdict::Ack);
        let (frames, _) = settle(&mut book, 4, Verdict::Ack);
        assert_eq!(frames, [ack(1, false), ack(3, false), ack(4, false)]);
        let (frames, _) = settle(&mut book, 2, Verdict::Ack);
        assert_eq!(frames, []);
        let (frames, _) = settle(&mut book, 5, Verdict::Ack);
        assert_eq!(frames, [ack(5, true)], "both are outstanding, and nothing before them");
    }

    #[test]
    fn a_release_goes_before_the_ack_that_passes_over_it() {
        let mut book = book(3, 8);
        settle(&mut book, 1, Verdict::Ack);
        let (frames, _) = settle(&mut book, 2, Verdict::Release);
        assert_eq!(frames, [Frame::Requeue { tag: 2 }]);
        let (frames, _) = settle(&mut book, 3, Verdict::Ack);
        assert_eq!(frames, [ack(3, true)]);
    }

    #[test]
    fn multiple_does_not_pass_over_what_another_consumer_has_not_read_yet() {
        let mut book = Book::new();
        for tag in [1, 3, 4] {
            book.receive(tag);
        }
        for tag in [1, 3] {
            settle(&mut book, tag, Verdict::Ack);
        }
        let (frames, _) = settle(&mut book, 4, Verdict::Ack);
        assert_eq!(frames, [ack(1, false), ack(3, false), ack(4, false)]);
        book.receive(2);
        assert_eq!(settle(&mut book, 2, Verdict::Ack).0, [ack(2, false)]);
        assert_eq!((book.next, book.ahead.len()), (5, 0));
    }

    #[test]
    fn a_tag_that_is_unknown_or_settled_is_ignored() {
        let mut book = book(1, 8);
        settle(&mut book, 1, Verdict::Ack);
        for tag in [0, 1, 2] {
            assert_eq!(settle(&mut book, tag, Verdict::Ack), (vec![], Due::Nothing));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// The next delivery is read, or (with a gap) one further on.
        Receive(usize),
        Settle(prop::sample::Index, bool),
        /// A delivery is settled that was settled before.
        SettleAgain(prop::sample::Index),
        /// Another consumer joins the channel.
        Consumer(usize),
        Flush,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3_usize).prop_map(Step::Receive),
            5 => (any::<prop::sample::Index>(), prop::bool::weighted(0.85))
                .prop_map(|(which, ack)| Step::Settle(which, ack)),
            1 => any::<prop::sample::Index>().prop_map(Step::SettleAgain),
            1 => (1..10_usize).prop_map(Step::Consumer),
            1 => Just(Step::Flush),
        ]
    }

    /// The broker's side: which tags it still waits for.
    #[derive(Default)]
    struct Model {
        outstanding: BTreeSet<u64>,
        acked: BTreeSet<u64>,
        requeued: BTreeSet<u64>,
    }

    impl Model {
        fn take(&mut self, frame: Frame) {
            match frame {
                Frame::Ack { tag, multiple } => {
                    assert!(self.outstanding.contains(&tag), "406: tag {tag} is settled");
                    let settled: Vec<_> = self
                        .outstanding
                        .range(if multiple { 0 } else { tag }..=tag)
                        .copied()
                        .collect();
                    for tag in settled {
                        self.outstanding.remove(&tag);
                        self.acked.insert(tag);
                    }
                }
                Frame::Requeue { tag } => {
                    assert!(self.outstanding.remove(&tag), "406: tag {tag} is settled");
                    self.requeued.insert(tag);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_broker_learns_exactly_what_was_settled(
            most in 1..10_usize,
            steps in prop::collection::vec(step(), 0..300),
        ) {
            let mut book = Book::new();
            book.most = most;
            let mut broker = Model::default();
            // Delivered by the broker, not yet read here.
            let mut unread: Vec<u64> = Vec::new();
            let mut sent = 0;
            let (mut work, mut acks, mut releases) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
            // Whether somebody was told to flush since the last time.
            let mut due = false;
            for step in steps {
                match step {
                    Step::Receive(skip) => {
                        while unread.len() <= skip {
                            sent += 1;
                            unread.push(sent);
                            broker.outstanding.insert(sent);
                        }
                        let tag = unread.remove(skip);
                        book.receive(tag);
                        work.push(tag);
                    }
                    Step::Settle(..) if work.is_empty() => {}
                    Step::Settle(which, ack) => {
                        let tag = work.swap_remove(which.index(work.len()));
                        let verdict = if ack { Verdict::Ack } else { Verdict::Release };
                        if ack { acks.insert(tag) } else { releases.insert(tag) };
                        let told = book.settle(tag, verdict, &mut |frame| broker.take(frame));
                        due |= told == Due::Soon;
                        prop_assert!(book.acked.len() < book.most);
                        prop_assert!(!work.is_empty() || book.acked.is_empty());
                    }
                    Step::SettleAgain(which) => {
                        let settled: Vec<u64> = acks.union(&releases).copied().collect();
                        if !settled.is_empty() {
                            let tag = settled[which.index(settled.len())];
                            let told = book.settle(tag, Verdict::Ack, &mut |_| panic!("sent"));
                            prop_assert_eq!(told, Due::Nothing);
                        }
                    }
                    Step::Consumer(quarter) => book.most = book.most.min(quarter),
                    Step::Flush => {
                        book.flush(&mut |frame| broker.take(frame));
                        due = false;
                    }
                }
                prop_assert!(broker.acked.is_subset(&acks), "acked what is in work");
                prop_assert!(due || book.acked.is_empty(), "nobody will flush what is settled");
            }
            book.flush(&mut |frame| broker.take(frame));
            prop_assert_eq!(&broker.acked, &acks);
            prop_assert_eq!(&broker.requeued, &releases);
            prop_assert!(book.acked.is_empty());
        }
    }
}
