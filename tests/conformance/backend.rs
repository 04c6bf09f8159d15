//! What the suite needs of a backend, and how a case is run against it.

use std::{
    io::Write as _,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{Arc, Once},
    time::Duration,
};

use agentbus::{Name, broker::Broker};
use async_trait::async_trait;
use futures::FutureExt as _;

use crate::bench::Bench;

/// An engine, with a topic exchange of this case's own.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// Returns the name the backend goes by.
    fn name(&self) -> &'static str;

    /// Connects anew; publishes of the connection give up after `publish_timeout`.
    async fn connect(&self, publish_timeout: Duration) -> Arc<dyn Broker>;

    /// Name of the queue that takes delayed messages which nobody is bound to when due.
    fn undeliverable(&self) -> Name;

    /// Tells whether a publish waits for room in a full queue before it is refused.
    fn waits_for_room(&self) -> bool {
        true
    }

    /// How many messages more than allowed may get into a full queue.
    fn overshoot(&self) -> u64 {
        0
    }

    /// Tells whether a reply to an inbox that is gone is an error.
    fn knows_gone_inboxes(&self) -> bool {
        true
    }

    /// Tells whether what is released goes to its old place in the queue, and not behind what was
    /// released before (but before what was never handed out).
    fn keeps_places(&self) -> bool {
        true
    }

    /// Tells whether a cancelled consumer is counted until its deliveries are settled.
    fn counts_cancelled_consumers(&self) -> bool {
        false
    }

    /// Tells whether queues take bodies over the limit that publishers keep.
    fn takes_giants(&self) -> bool {
        true
    }

    /// Tells whether what was delayed takes the place of its priority in a queue with strict order,
    /// and not the last.
    fn sorts_delayed_strictly(&self) -> bool {
        true
    }

    /// Removes what the case has left behind.
    async fn clean(&self, _queues: Vec<Name>) {}
}

/// A backend, or why it cannot be tried here.
pub(crate) type Start = Result<Arc<dyn Backend>, Skip>;

/// Why a backend cannot be tried.
pub(crate) struct Skip {
    pub(crate) backend: &'static str,
    pub(crate) reason: String,
    /// Environment variable that turns the skip into a failure when it is set, but to `0`.
    pub(crate) required_by: &'static str,
}

/// Runs a case, and cleans up after it however it ends.
pub(crate) async fn run(start: Start, case: impl AsyncFnOnce(&Bench)) {
    let backend = match start {
        Ok(backend) => backend,
        Err(skip) => return skip.tell(),
    };
    let bench = Bench::new(backend.clone()).await;
    let ended = AssertUnwindSafe(case(&bench)).catch_unwind().await;
    backend.clean(bench.queues()).await;
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
}

impl Skip {
    fn tell(self) {
        static TOLD: Once = Once::new();
        let Self { backend, reason, required_by } = self;
        assert!(
            std::env::var_os(required_by).is_none_or(|set| set == "0"),
            "{backend} cannot be tried, and {required_by} requires it: {reason}"
        );
        // Written past the capture of the test harness, so that it is seen when tests pass.
        TOLD.call_once(|| {
            let _ = writeln!(std::io::stderr(), "conformance: {backend} skipped: {reason}");
        });
    }
}
