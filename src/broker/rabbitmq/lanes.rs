//! Channels shared by consumers.
//!
//! Each of the first consumers has a channel to itself, so that one with slow handlers does not
//! spoil the others' collected acks; the ones after those share, evenly.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use lapin::{
    Channel, Consumer,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    acks::Acks,
    fault::{Answers, Fault},
    link::Session,
};

/// How many channels consumers get. With what declaring and inboxes need, a connection stays
/// below 64.
const MOST_LANES: usize = 32;

/// A channel with its consumers.
#[derive(Debug)]
pub(super) struct Lane {
    channel: Channel,
    pub(super) acks: Arc<Acks>,
    /// Prefetch is set for the next consumer of the channel: the two calls belong together.
    consuming: Mutex<()>,
    consumers: AtomicUsize,
    /// Something went wrong on it: no new consumers.
    given_up: AtomicBool,
    answers: Answers,
    _linger: DropGuard,
}

/// A consumer's place on a lane; dropping it gives the place up.
#[derive(Debug)]
pub(super) struct Place(pub(super) Arc<Lane>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.consumers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lane {
    async fn open(session: &Session, answers: Answers) -> Result<Arc<Self>, Fault> {
        let channel = session.channel().await?;
        let acks = Arc::new(Acks::new(channel.clone()));
        let stop = CancellationToken::new();
        let (lingering, stopped) = (acks.clone(), stop.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(lingering.linger()).await });
        Ok(Arc::new(Self {
            channel,
            acks,
            consuming: Mutex::default(),
            consumers: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            answers,
            _linger: stop.drop_guard(),
        }))
    }

    fn is_usable(&self) -> bool {
        self.channel.status().connected() && !self.given_up.load(Ordering::Relaxed)
    }

    /// Starts a consumer.
    pub(super) async fn consume(&self, queue: &str, prefetch: u16) -> Result<Consumer, Fault> {
        let queue = ShortString::try_new(queue)
            .map_err(|_| Fault::Disconnected("the queue's name is too long".to_owned()))?;
        let consumer = {
            let _turn = self.consuming.lock().await;
            let qos = self.channel.basic_qos(prefetch, BasicQosOptions { global: false });
            self.answers.within(qos).await?;
            let consume = self.channel.basic_consume(
                queue,
                ShortString::from(""),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            );
            self.answers.within(consume).await
        };
        if consumer.is_err() {
            self.give_up();
        }
        self.acks.consumer(prefetch);
        consumer
    }

    /// Asks the broker to deliver no more to a consumer.
    pub(super) async fn cancel(&self, consumer: &Consumer) -> Result<(), Fault> {
        let cancel = self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        let cancelled = self.answers.within(cancel).await;
        if cancelled.is_err() {
            self.give_up();
        }
        cancelled
    }

    /// Closes the channel: a consumer that may exist at the broker and that nobody reads would
    /// keep its messages from everybody. The others register again elsewhere.
    fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
        let channel = self.channel.clone();
        let answers = self.answers.clone();
        tokio::spawn(async move {
            drop(answers.within(channel.close(200, ShortString::from("given up"))).await);
        });
    }
}

/// The lanes of the present connection.
#[derive(Debug)]
pub(super) struct Lanes {
    answers: Answers,
    open: Mutex<(u64, Vec<Arc<Lane>>)>,
}

impl Lanes {
    pub(super) fn new(answers: Answers) -> Self {
        Self { answers, open: Mutex::default() }
    }

    /// Finds a place for another consumer.
    pub(super) async fn place(&self, session: &Session) -> Result<Place, Fault> {
        let mut open = self.open.lock().await;
        if open.0 != session.number {
            *open = (session.number, Vec::new());
        }
        let lanes = &mut open.1;
        lanes.retain(|lane| lane.is_usable());
        let idlest = lanes.iter().min_by_key(|lane| lane.consumers.load(Ordering::Relaxed));
        let lane = match idlest {
            Some(lane)
                if lanes.len() >= MOST_LANES || lane.consumers.load(Ordering::Relaxed) == 0 =>
            {
                lane.clone()
            }
            _ => {
                let lane = Lane::open(session, self.answers.clone()).await?;
                lanes.push(lane.clone());
                lane
            }
        };
        lane.consumers.fetch_add(1, Ordering::Relaxed);
        Ok(Place(lane))
    }

    /// Sends all acks that linger.
    pub(super) async fn flush(&self) {
        for lane in &self.open.lock().await.1 {
            lane.acks.flush();
        }
    }
}
