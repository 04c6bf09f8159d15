//! Waiting until a bus has nothing to do, and moving its clock on.

use std::{panic::Location, time::Duration};

use tokio::{
    task::yield_now,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{TestBus, core::Busy};

/// How often [`TestBus::drained`] goes on to the next message that is due.
const DUE_TIMES: usize = 10_000;

/// How often tasks that were just spawned get their turn before the bus is looked at.
const TURNS: usize = 16;

impl TestBus {
    /// Waits until there is nothing to do at present: no publish on its way, nothing ready in a
    /// queue that an agent consumes from, nothing handed out to one and unsettled.
    ///
    /// A subscriber with a queue of its own, and dead letters, wait for nobody.
    /// Messages that are delayed (retries are) do not count until they are due: for these there
    /// are [`drained`](Self::drained) and [`advance`](Self::advance). What tasks do that neither
    /// publish nor handle a message is not seen.
    ///
    /// # Panics
    ///
    /// Panics when it is not so after the bus's [patience](Self::with_patience), with what there
    /// is to do yet and the history.
    #[track_caller]
    pub fn settled(&self) -> impl Future<Output = ()> + use<'_> {
        let caller = Location::caller();
        async move {
            if let Err(busy) = self.settle().await {
                let (patience, reasons) = (self.patience(), busy.reasons.join("\n  "));
                panic!(
                    "the bus has not settled within {patience:?} ({caller}):\n  {reasons}\n\n{}",
                    self.told()
                );
            }
        }
    }

    async fn settle(&self) -> Result<(), Busy> {
        let deadline = Instant::now() + self.patience();
        for _ in 0..TURNS {
            yield_now().await;
        }
        let mut changes = self.core.ledger.changes();
        loop {
            changes.mark_unchanged();
            let Some(busy) = self.core.busy().await else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(busy);
            }
            // What happens outside of this process is not told of, nor what is just now due.
            let pause = Duration::from_millis(if busy.counts_all { 1 } else { 10 });
            let next = (Instant::now() + pause).min(deadline);
            drop(timeout_at(next, changes.changed()).await);
        }
    }

    /// Waits until there is nothing to do at all, now or later: as [`settled`](Self::settled),
    /// then for each delayed message in turn until it is due.
    ///
    /// With a paused clock that takes no time. Otherwise it takes as long as the delays.
    ///
    /// # Panics
    ///
    /// Panics as `settled` does, and when messages are delayed again and again.
    #[track_caller]
    pub fn drained(&self) -> impl Future<Output = ()> + use<'_> {
        let (caller, settled) = (Location::caller(), self.settled());
        async move {
            settled.await;
            for _ in 0..DUE_TIMES {
                let Some(due) = self.core.ledger.work().next_due else { return };
                // To the millisecond, as messages are due.
                sleep(due.remaining() + Duration::from_millis(1)).await;
                self.settled().await;
            }
            panic!("messages are delayed again and again ({caller})\n\n{}", self.told());
        }
    }

    /// Lets time pass, and waits until the bus has [settled](Self::settled).
    ///
    /// With a paused clock (`#[tokio::test(start_paused = true)]`) that takes no time: the clock
    /// goes from one event to the next, each of which is handled in its own time, up to `duration`
    /// from now and no further, save where handlers themselves wait. Otherwise it takes as long as
    /// it says.
    ///
    /// # Panics
    ///
    /// Panics as `settled` does.
    #[track_caller]
    pub fn advance(&self, duration: Duration) -> impl Future<Output = ()> + use<'_> {
        let (until, settled) = (Instant::now() + duration, self.settled());
        async move {
            // Else what the test has just published would begin only at the end.
            for _ in 0..TURNS {
                yield_now().await;
            }
            sleep_until(until).await;
            settled.await;
        }
    }
}
