//! What happens by itself when its time comes.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    sync::{Arc, Mutex, Weak},
};

use tokio::{runtime::Handle, sync::Notify, task::JoinHandle, time::Instant};

use super::lock;

/// Events by time, and the one task that waits for the next.
///
/// The task belongs to a runtime and ends with it; the next event set in another runtime starts
/// it there. It also ends when nothing is left to wait for.
#[derive(Debug)]
pub(super) struct Timer<E> {
    agenda: Mutex<Agenda<E>>,
    /// Wakes the task when an earlier event was set, or the timer is no more.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct Agenda<E> {
    events: BinaryHeap<Entry<E>>,
    next_number: u64,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    /// Keeps events of the same time in the order they were set.
    number: u64,
    event: E,
}

/// Whom a timer tells that events are due.
pub(super) trait Alarmed: Send + Sync + 'static {
    /// Handles what is due, and returns when to look again.
    fn ring(&self) -> Option<Instant>;
}

impl<E> Timer<E> {
    pub(super) fn new() -> Self {
        let agenda = Agenda { events: BinaryHeap::new(), next_number: 0, task: None };
        Self { agenda: Mutex::new(agenda), changed: Arc::default() }
    }

    /// Sets an event, which `alarmed` will find by [`pop_due`](Self::pop_due).
    pub(super) fn set(&self, at: Instant, event: E, alarmed: &Weak<impl Alarmed>) {
        let mut agenda = lock(&self.agenda);
        let number = agenda.next_number;
        agenda.next_number += 1;
        let is_next = agenda.events.peek().is_none_or(|next| at < next.at);
        agenda.events.push(Entry { at, number, event });
        if agenda.task.as_ref().is_none_or(JoinHandle::is_finished) {
            // Without a runtime nothing sleeps; the next event that is set in one starts the task.
            let run = || run(alarmed.clone(), self.changed.clone());
            agenda.task = Handle::try_current().ok().map(|runtime| runtime.spawn(run()));
        } else if is_next {
            self.changed.notify_one();
        }
    }

    /// Takes the next event that is due.
    pub(super) fn pop_due(&self) -> Option<E> {
        let mut agenda = lock(&self.agenda);
        if agenda.events.peek()?.at > Instant::now() {
            return None;
        }
        agenda.events.pop().map(|entry| entry.event)
    }

    /// Returns when the next event is due. At `None`, the task that asked must end.
    pub(super) fn next(&self) -> Option<Instant> {
        let mut agenda = lock(&self.agenda);
        let next = agenda.events.peek().map(|entry| entry.at);
        if next.is_none() {
            agenda.task = None;
        }
        next
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.agenda).events.len()
    }
}

async fn run(alarmed: Weak<impl Alarmed>, changed: Arc<Notify>) {
    // The engine is held while its events are handled, and not while the task sleeps.
    while let Some(at) = alarmed.upgrade().and_then(|alarmed| alarmed.ring()) {
        tokio::select! {
            () = tokio::time::sleep_until(at) => {}
            () = changed.notified() => {}
        }
    }
}

impl<E> Drop for Timer<E> {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

impl<E> Ord for Entry<E> {
    /// Greatest is what comes first, as the heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime;

    use super::*;

    struct Bell {
        timer: Timer<u32>,
        rung: Mutex<Vec<u32>>,
        heard: Notify,
    }

    impl Bell {
        fn new() -> Arc<Self> {
            let timer = Timer::new();
            Arc::new(Self { timer, rung: Mutex::default(), heard: Notify::new() })
        }

        fn set(self: &Arc<Self>, millis: u64, event: u32) {
            let at = Instant::now() + Duration::from_millis(millis);
            self.timer.set(at, event, &Arc::downgrade(self));
        }
    }

    impl Alarmed for Bell {
        fn ring(&self) -> Option<Instant> {
            while let Some(event) = self.timer.pop_due() {
                lock(&self.rung).push(event);
                self.heard.notify_one();
            }
            self.timer.next()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn events_ring_in_the_order_of_their_times() {
        let bell = Bell::new();
        for (millis, event) in [(30, 3), (10, 1), (20, 2), (30, 4)] {
            bell.set(millis, event);
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
        assert_eq!(*lock(&bell.rung), [1]);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(*lock(&bell.rung), [1, 2, 3, 4]);
    }

    #[test]
    fn a_timer_outlives_the_runtime_it_was_started_in() {
        let bell = Bell::new();
        let runtime = || runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime().block_on(async { bell.set(1, 1) });
        bell.set(1, 2);
        runtime().block_on(async {
            bell.set(1, 3);
            while lock(&bell.rung).len() < 3 {
                bell.heard.notified().await;
            }
        });
        assert_eq!(*lock(&bell.rung), [1, 2, 3]);
    }

    #[tokio::test]
    async fn the_task_ends_with_the_timer() {
        let bell = Bell::new();
        bell.set(3_600_000, 1);
        let task = lock(&bell.timer.agenda).task.take().unwrap();
        tokio::task::yield_now().await;
        drop(bell);
        task.await.unwrap();
    }
}
