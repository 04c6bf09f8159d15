//! Writers: publish jobs of all kinds, many at a time, and log how each publish ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use agentbus::{
    Client, PublishError, PublishOptions, RequestOptions,
    message::{Id, Timestamp},
};
use fastrand::Rng;
use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    history::{Outcome, Request, RequestEnd, Write},
    ledger::Ledger,
    log::now,
    messages::{ASK, JOB, Job, Kind, NOWHERE, PULSE},
};

/// How many publishes of one writer may be under way.
const WINDOW: usize = 128;

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(5);

/// How long nobody waits for anything: what takes longer hangs.
const HANG: Duration = Duration::from_mins(2);

/// How often the pulse beats.
const BEAT: Duration = Duration::from_millis(25);

/// The kinds of jobs, and how many of a hundred are of each.
const MIX: &[(Kind, u32)] = &[
    (Kind::Plain, 58),
    (Kind::Flaky, 8),
    (Kind::Doomed, 5),
    (Kind::Delayed, 10),
    (Kind::Chained, 8),
    (Kind::Errand, 4),
    (Kind::Unroutable, 2),
    (Kind::Asked, 5),
];

/// Writes jobs under a client, and what becomes of each in the ledger.
#[derive(Clone, Debug)]
pub struct Writer {
    pub client: Client,
    pub ledger: Arc<Ledger>,
    /// The number of the next job, of all writers.
    pub next: Arc<AtomicU64>,
    /// Ends the writing; what was begun is finished.
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
}

impl Writer {
    /// Publishes so many jobs a second until it is told to stop.
    pub async fn write(self, rate: u32, seed: u64) {
        let mut rng = Rng::with_seed(seed);
        let window = Arc::new(Semaphore::new(WINDOW));
        let mut tick = interval(Duration::from_secs(1) / rate);
        // After an outage there is no need to catch up.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let permit = Arc::clone(&window).acquire_owned();
            let permit = async { (permit.await, tick.tick().await).0 };
            let Some(permit) = self.stop.run_until_cancelled(permit).await else { return };
            let (writer, job, seed) = (self.clone(), self.job(&mut rng), rng.u64(..));
            self.tasks.spawn(async move {
                let _permit = permit;
                writer.send(job, Rng::with_seed(seed)).await;
            });
        }
    }

    /// Publishes so many plain jobs, each of which takes its time.
    pub async fn write_plain(&self, count: usize, millis: u32) {
        for _ in 0..count {
            let number = self.next.fetch_add(1, Relaxed);
            let job = Job { number, kind: Kind::Plain.into(), millis, failures: 0 };
            self.publish(job, None, false).await;
        }
    }

    fn job(&self, rng: &mut Rng) -> Job {
        let mut dice = rng.u32(..100);
        let chosen = MIX.iter().find(|(_, share)| {
            let hit = dice < *share;
            dice = dice.saturating_sub(*share);
            hit
        });
        let kind = chosen.map_or(Kind::Plain, |(kind, _)| *kind);
        // Some take long, so that there is always somebody in the middle of it.
        let millis = if rng.u32(..20) == 0 { rng.u32(100..300) } else { rng.u32(..15) };
        let failures = match kind {
            Kind::Flaky => rng.u32(1..=2),
            Kind::Doomed if rng.u32(..4) == 0 => 3,
            _ => 0,
        };
        Job { number: self.next.fetch_add(1, Relaxed), kind: kind.into(), millis, failures }
    }

    async fn send(self, job: Job, mut rng: Rng) {
        match job.kind() {
            Kind::Asked => self.ask(job).await,
            Kind::Delayed => {
                let delay = Duration::from_millis(rng.u64(300..8000));
                let due = Timestamp::now().after(delay);
                self.publish(job, Some(due), rng.bool()).await;
            }
            _ => self.publish(job, None, rng.bool()).await,
        }
    }

    /// Publishes a job; where it is not known whether it was taken, perhaps once more.
    async fn publish(&self, job: Job, due: Option<Timestamp>, insist: bool) {
        let topic = if job.kind() == Kind::Unroutable { NOWHERE } else { JOB };
        let mut options = PublishOptions::default().message_id(Id::new());
        if let Some(due) = due {
            options = options.deliver_at(due);
        }
        let mut begun = now();
        self.ledger.begin(job.number, job.kind(), begun);
        let publish = self.client.publish_with(topic, &job, options);
        let mut result = timeout(HANG, publish).await.expect("a publish ends");
        loop {
            self.ledger.wrote(Write {
                job: job.number,
                kind: job.kind(),
                failures: job.failures,
                due: due.map(Timestamp::as_millis),
                begun,
                outcome: outcome(&result),
            });
            match result {
                Err(error) if error.is_transient() && insist && !self.stop.is_cancelled() => {
                    if job.kind() == Kind::Unroutable {
                        return;
                    }
                    sleep(Duration::from_millis(100)).await;
                    begun = now();
                    let again = self.client.publish_envelope(error.into_envelope());
                    result = timeout(HANG, again).await.expect("a publish ends");
                }
                _ => return,
            }
        }
    }

    async fn ask(&self, job: Job) {
        self.ledger.begin(job.number, Kind::Asked, now());
        let started = Instant::now();
        let options = RequestOptions::default().timeout(REQUEST);
        let end = match timeout(HANG, self.client.request_with(ASK, &job, options)).await {
            Ok(Ok(done)) => RequestEnd::Reply(done.number),
            Ok(Err(error)) => RequestEnd::Error(error.to_string()),
            Err(_) => RequestEnd::Never,
        };
        self.ledger.requested(Request {
            job: job.number,
            limit: millis(REQUEST),
            took: millis(started.elapsed()),
            end,
        });
    }

    /// Publishes what every replica gets, again and again, until it is told to stop.
    pub async fn beat(self) {
        let mut tick = interval(BEAT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.stop.run_until_cancelled(tick.tick()).await.is_some() {
            let writer = self.clone();
            self.tasks.spawn(async move {
                let number = writer.ledger.pulse(now());
                let pulse = Job { number, ..Job::default() };
                if writer.client.publish(PULSE, &pulse).await.is_ok() {
                    writer.ledger.pulse_confirmed(number, now());
                }
            });
        }
    }
}

fn outcome(result: &Result<Id, PublishError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Taken,
        Err(PublishError::Unroutable { .. }) => Outcome::Unroutable,
        Err(PublishError::Unconfirmed { reason, .. }) => Outcome::Unknown(reason.clone()),
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
