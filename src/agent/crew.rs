//! The tasks that take deliveries off one queue, and which of them takes the next.
//!
//! Each of them handles what it took by itself, and only then takes another: while handlers end
//! without waiting, a message costs no task and no wake-up. Before one begins to handle, it sees to
//! it that another is free to take what comes next, so a handler that waits, or blocks its thread,
//! holds up nobody. There are never more than one more of them than messages being handled, and a
//! few that are idle.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use tokio::{
    sync::Notify,
    task::coop::{consume_budget, unconstrained},
};
use tokio_util::sync::CancellationToken;

use crate::broker::{Deliveries, Delivery};

/// How many that have nothing to do are kept.
const IDLE: usize = 2;

/// The tasks that work through the deliveries of one consumer.
#[derive(Debug)]
pub(super) struct Crew {
    /// Locked by whoever takes a delivery; before `roster` where both are.
    intake: Mutex<Intake>,
    /// Held by the bell as well, which must never hold the deliveries: it rings under their queue's lock.
    roster: Arc<Mutex<Roster>>,
    /// Take no more.
    stop: CancellationToken,
    ended: Notify,
}

#[derive(Debug)]
struct Intake {
    /// None once they have ended.
    deliveries: Option<Deliveries>,
    /// Taken to see whether there is one.
    next: Option<Delivery>,
    /// Wakes whoever is free.
    waker: Waker,
}

/// Who does what.
#[derive(Debug, Default)]
struct Roster {
    next_id: u64,
    /// Those that handle nothing at present: asleep, just awake, or still to be spawned.
    free: usize,
    /// Those of them that sleep.
    asleep: Vec<(u64, Waker)>,
    /// Whether something may have come since the deliveries were last looked at.
    signal: bool,
}

/// One of the tasks.
#[derive(Debug)]
pub(super) struct Hand {
    crew: Arc<Crew>,
    id: u64,
    /// Whether it has begun to handle something, and has not said since that it is free.
    busy: bool,
}

/// What a hand is to do next.
#[derive(Debug)]
pub(super) enum Task {
    /// Handle this; and first, where there is one, let another begin its work.
    Handle(Delivery, Option<Hand>),
    /// Go: there is nothing more to do, or there are enough others.
    Leave,
}

/// Wakes one of a crew that sleeps when a delivery has come, unless another is about to look anyway.
struct Bell(Arc<Mutex<Roster>>);

impl Crew {
    /// Makes a crew of one, which has to be put to work.
    pub(super) fn new(deliveries: Deliveries, stop: CancellationToken) -> (Arc<Self>, Hand) {
        let roster = Arc::new(Mutex::new(Roster { next_id: 1, free: 1, ..Roster::default() }));
        let waker = Arc::new(Bell(Arc::clone(&roster))).into();
        let intake = Intake { deliveries: Some(deliveries), next: None, waker };
        let crew = Arc::new(Self { intake: intake.into(), roster, stop, ended: Notify::new() });
        let first = Hand { crew: Arc::clone(&crew), id: 0, busy: false };
        (crew, first)
    }

    /// Waits until the stream has ended.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Takes no more; what was fetched and not begun goes back.
    pub(super) fn close(&self) {
        let mut intake = lock(&self.intake);
        let left = (intake.next.take(), intake.deliveries.take());
        drop(intake);
        self.end();
        drop(left);
    }

    /// Sends home those that sleep.
    fn end(&self) {
        let asleep = std::mem::take(&mut lock(&self.roster).asleep);
        for (_, waker) in asleep {
            waker.wake();
        }
        self.ended.notify_one();
    }
}

impl Intake {
    /// Looks for a delivery; leaves word to be rung for where there is none.
    fn poll(&mut self) -> Poll<Option<Delivery>> {
        if let Some(next) = self.next.take() {
            return Poll::Ready(Some(next));
        }
        let Some(deliveries) = &mut self.deliveries else { return Poll::Ready(None) };
        let mut cx = Context::from_waker(&self.waker);
        // The budget of the task is spent once a message, and its own waker must hear of that.
        let polled = pin!(unconstrained(deliveries.next())).poll(&mut cx);
        if let Poll::Ready(None) = polled {
            self.deliveries = None;
        }
        polled
    }
}

impl Roster {
    fn one_to_wake(&mut self) -> Option<Waker> {
        if self.asleep.len() < self.free {
            return None;
        }
        self.asleep.pop().map(|(_, waker)| waker)
    }

    fn is_up(&mut self, id: u64) {
        if let Some(at) = self.asleep.iter().position(|(asleep, _)| *asleep == id) {
            self.asleep.swap_remove(at);
        }
    }
}

impl Hand {
    /// Waits for something to do; what it handled before is done.
    pub(super) async fn next(&mut self) -> Task {
        consume_budget().await;
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Task> {
        let Self { crew, busy, .. } = self;
        let mut intake = lock(&crew.intake);
        loop {
            let mut roster = lock(&crew.roster);
            roster.signal = false;
            roster.free += usize::from(std::mem::take(busy));
            drop(roster);
            if crew.stop.is_cancelled() {
                drop(intake);
                return Poll::Ready(self.leave());
            }
            match intake.poll() {
                Poll::Ready(Some(delivery)) => {
                    intake.next = match intake.poll() {
                        Poll::Ready(next) => next,
                        Poll::Pending => None,
                    };
                    let more = intake.next.is_some() || intake.deliveries.is_none();
                    drop(intake);
                    return Poll::Ready(self.begin(delivery, more));
                }
                Poll::Ready(None) => {
                    drop(intake);
                    crew.end();
                    return Poll::Ready(self.leave());
                }
                Poll::Pending => {
                    let mut roster = lock(&crew.roster);
                    roster.is_up(self.id);
                    if roster.signal {
                        continue;
                    }
                    if roster.asleep.len() >= IDLE {
                        roster.free -= 1;
                        return Poll::Ready(Task::Leave);
                    }
                    roster.asleep.push((self.id, cx.waker().clone()));
                    return Poll::Pending;
                }
            }
        }
    }

    /// Leaves what comes next to another: one that is free, or a new one.
    fn begin(&mut self, delivery: Delivery, more: bool) -> Task {
        self.busy = true;
        let mut roster = lock(&self.crew.roster);
        roster.is_up(self.id);
        roster.free -= 1;
        if roster.free == 0 {
            roster.free = 1;
            let id = roster.next_id;
            roster.next_id += 1;
            drop(roster);
            return Task::Handle(
                delivery,
                Some(Self { crew: Arc::clone(&self.crew), id, busy: false }),
            );
        }
        let woken = if more || roster.signal { roster.one_to_wake() } else { None };
        drop(roster);
        if let Some(waker) = woken {
            waker.wake();
            make_room();
        }
        Task::Handle(delivery, None)
    }

    fn leave(&self) -> Task {
        let mut roster = lock(&self.crew.roster);
        roster.is_up(self.id);
        roster.free -= 1;
        Task::Leave
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut roster = lock(&self.0);
        roster.signal = true;
        let woken = roster.one_to_wake();
        drop(roster);
        if let Some(waker) = woken {
            waker.wake();
        }
    }
}

/// Lets another thread run what was just spawned or woken here.
///
/// Tokio keeps that for this thread, to run it next, and nobody else may take it: it would wait for
/// a handler that blocks, or computes for long. What is spawned after it takes its place.
pub(super) fn make_room() {
    tokio::spawn(std::future::ready(()));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        broker::{Settle, Verdict},
        message::Envelope,
    };

    /// Notes the tags of what was given back.
    #[derive(Debug, Default)]
    struct Released(Mutex<Vec<u64>>);

    impl Settle for Released {
        fn settle(&self, tag: u64, verdict: Verdict) {
            assert_eq!(verdict, Verdict::Release);
            lock(&self.0).push(tag);
        }
    }

    struct Queue {
        sender: mpsc::Sender<Delivery>,
        stop: CancellationToken,
        released: Arc<Released>,
        crew: Arc<Crew>,
    }

    impl Queue {
        fn new() -> (Self, Hand) {
            let (sender, receiver) = mpsc::channel(32);
            let stop = CancellationToken::new();
            let deliveries = Deliveries::new(receiver, CancellationToken::new());
            let (crew, first) = Crew::new(deliveries, stop.clone());
            (Self { sender, stop, released: Arc::default(), crew }, first)
        }

        fn send(&self, tag: u64) {
            let settle = Arc::clone(&self.released) as Arc<dyn Settle>;
            let delivery = Delivery::new(Envelope::default(), false, settle, tag);
            self.sender.try_send(delivery).unwrap();
        }
    }

    /// Returns what a hand handles, and whom it calls in.
    async fn handles(hand: &mut Hand) -> (Delivery, Option<Hand>) {
        match hand.next().await {
            Task::Handle(delivery, another) => (delivery, another),
            Task::Leave => panic!("there is something to do"),
        }
    }

    async fn leaves(hand: &mut Hand) -> bool {
        matches!(hand.next().await, Task::Leave)
    }

    #[tokio::test]
    async fn another_takes_what_comes_while_one_handles() {
        let (queue, mut first) = Queue::new();
        queue.send(1);
        let (one, second) = handles(&mut first).await;
        let mut second = second.expect("nobody else is free");
        let taking = tokio::spawn(async move { handles(&mut second).await });
        tokio::task::yield_now().await;
        queue.send(2);
        let (two, third) = taking.await.unwrap();
        assert!(third.is_some(), "the first is not free yet");
        drop((one, two));
        assert_eq!(*lock(&queue.released.0), [1, 2]);
    }

    #[tokio::test]
    async fn one_that_sleeps_is_woken_for_what_waits_behind() {
        let (queue, mut first) = Queue::new();
        queue.send(1);
        let (_one, second) = handles(&mut first).await;
        let mut second = second.unwrap();
        let taking = tokio::spawn(async move { handles(&mut second).await.1 });
        tokio::task::yield_now().await;
        queue.send(2);
        queue.send(3);
        let (_two, third) = handles(&mut first).await;
        assert!(third.is_none(), "the second is free");
        assert!(taking.await.unwrap().is_some());
    }

    #[tokio::test]
    async fn one_alone_handles_what_ends_at_once() {
        let (queue, mut first) = Queue::new();
        queue.send(1);
        let (_, second) = handles(&mut first).await;
        let mut second = second.unwrap();
        assert!(second.next().now_or_never().is_none());
        for tag in 2..20 {
            queue.send(tag);
            assert!(handles(&mut first).await.1.is_none());
        }
    }

    #[tokio::test]
    async fn no_more_are_kept_idle_than_are_of_use() {
        let (queue, first) = Queue::new();
        let mut hands = vec![first];
        for tag in 0..5 {
            queue.send(tag);
            let (_, another) = handles(hands.last_mut().unwrap()).await;
            hands.push(another.unwrap());
        }
        let left = hands.iter_mut().filter_map(|hand| hand.next().now_or_never()).count();
        assert_eq!(left, hands.len() - IDLE);
    }

    #[tokio::test]
    async fn nothing_is_taken_after_the_stop_and_what_was_fetched_goes_back() {
        let (queue, mut first) = Queue::new();
        for tag in 1..=3 {
            queue.send(tag);
        }
        let (one, second) = handles(&mut first).await;
        queue.stop.cancel();
        assert!(leaves(&mut second.unwrap()).await);
        assert!(lock(&queue.released.0).is_empty());
        queue.crew.close();
        assert_eq!(*lock(&queue.released.0), [2, 3], "not what is being handled");
        drop(one);
    }

    #[tokio::test]
    async fn those_that_sleep_leave_when_the_stream_ends() {
        let (queue, mut first) = Queue::new();
        let leaving = tokio::spawn(async move { leaves(&mut first).await });
        tokio::task::yield_now().await;
        drop(queue.sender);
        queue.crew.ended().await;
        assert!(leaving.await.unwrap());
    }
}
