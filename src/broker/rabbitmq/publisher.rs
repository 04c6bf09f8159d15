//! Publishing: one channel in confirm mode, one task that owns it and all confirmations.
//!
//! The task alone calls lapin's `basic_publish`. Two threads must not: a message gets its number
//! and its place on the wire under two different locks, so two could swap confirmations.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, stream::FuturesUnordered, task::AtomicWaker};
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    RabbitOptions,
    confirms::{Confirmed, Confirms, Fate, Key, Keys},
    fault::{Doubt, Fault, LATE},
    inbox::Replies,
    link::{Link, Session},
};

/// A message as it goes over the wire.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) mandatory: bool,
    pub(super) properties: BasicProperties,
    pub(super) payload: Bytes,
}

/// The answer to a publish: what became of the message, or why that is not known.
pub(super) type Answer = Result<Fate, Fault>;

/// Hands messages to the task that publishes them.
#[derive(Debug)]
pub(super) struct Publisher {
    jobs: mpsc::Sender<Job>,
    link: Link,
    limit: Duration,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
    close: CancellationToken,
}

#[derive(Debug)]
struct Job {
    message: Outgoing,
    answer: oneshot::Sender<Answer>,
}

impl Publisher {
    /// Starts the task. With `replies`, its channel also receives what is sent back.
    ///
    /// It ends quietly once the connections do, which is at `shutdown`.
    pub(super) fn start(
        link: Link,
        options: &RabbitOptions,
        replies: Option<Replies>,
        shutdown: CancellationToken,
    ) -> Self {
        // As much again may wait for its turn; the next ones wait in `publish`.
        let (jobs, queue) = mpsc::channel(options.confirm_window);
        let close = CancellationToken::new();
        let worker = Worker {
            link: link.clone(),
            window: options.confirm_window,
            queue,
            close: close.clone(),
            shutdown,
            replies,
            keys: Keys::default(),
        };
        let task = std::sync::Mutex::new(Some(tokio::spawn(worker.run())));
        Self { jobs, link, limit: options.publish_timeout, task, close }
    }

    /// Publishes a message and waits for its fate, for at most the publish time-out.
    ///
    /// A dropped future leaves nothing behind: a message that was not sent by then is not sent.
    pub(super) async fn publish(&self, message: Outgoing) -> Answer {
        let (answer, answered) = oneshot::channel();
        let publish = async {
            self.jobs.send(Job { message, answer }).await.map_err(|_| Fault::Closed)?;
            answered.await.unwrap_or_else(|_| {
                let reason = "the bus was closed before the confirmation came";
                Err(Fault::Disconnected(reason.to_owned()))
            })
        };
        match timeout(self.limit, publish).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::Disconnected(format!(
                "no confirmation within {:?}: {}",
                self.limit,
                self.link.trouble()
            ))),
        }
    }

    /// Publishes what waits, waits for all confirmations, and ends.
    pub(super) async fn close(&self) {
        self.close.cancel();
        let task = self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(mut task) = task
            && timeout(self.limit, &mut task).await.is_err()
        {
            tracing::warn!("gave up on confirmations that did not come");
            task.abort();
        }
    }
}

/// The task's own.
struct Worker {
    link: Link,
    window: usize,
    queue: mpsc::Receiver<Job>,
    close: CancellationToken,
    shutdown: CancellationToken,
    replies: Option<Replies>,
    keys: Keys,
}

/// How a channel ended.
enum End {
    /// It broke; another one is needed.
    Broken,
    /// There is nothing more to publish.
    Done,
}

impl Worker {
    async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            let session = tokio::select! {
                session = self.link.session() => session,
                () = self.close.cancelled() => Err(Fault::Closed),
            };
            let Ok(session) = session else { return self.refuse_rest() };
            match self.open(&session).await {
                Ok(channel) => {
                    failures = 0;
                    drop(session);
                    if matches!(self.publish(&channel).await, End::Done) {
                        let closed = channel.close(200, ShortString::from("done"));
                        drop(self.link.answers().within(closed).await);
                        return;
                    }
                }
                // The connection is being closed under it.
                Err(_) if self.shutdown.is_cancelled() => return self.refuse_rest(),
                Err(error) => tracing::warn!(%error, "cannot open a channel to publish on"),
            }
            self.link.answers().doubt.raise();
            failures += 1;
            if failures > 1 {
                let wait = Duration::from_millis(50).saturating_mul(1 << failures.min(6));
                tokio::select! {
                    () = sleep(wait) => {}
                    () = self.close.cancelled() => return self.refuse_rest(),
                }
            }
        }
    }

    /// Gives back what was never sent.
    fn refuse_rest(&mut self) {
        self.queue.close();
        while let Ok(job) = self.queue.try_recv() {
            tell(job.answer, Err(Fault::Closed));
        }
    }

    async fn open(&self, session: &Session) -> Result<Channel, Fault> {
        let channel = session.channel().await?;
        let answers = self.link.answers();
        answers.within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        if let Some(replies) = &self.replies {
            replies.receive_on(&channel, answers).await?;
        }
        Ok(channel)
    }

    /// Publishes on a channel until it breaks or there is nothing more to publish.
    async fn publish(&mut self, channel: &Channel) -> End {
        let mut sending = FuturesUnordered::new();
        let mut confirms = Confirms::default();
        let mut completed = Vec::new();
        let quiet = Arc::new(Quiet::default());
        let waker = Waker::from(quiet.clone());
        let mut broken = false;
        let mut late = Late::new(self.link.answers().doubt.clone());
        let Self { queue, keys, window, close, .. } = self;
        let mut closing = std::pin::pin!(close.cancelled());
        poll_fn(|cx| {
            quiet.task.register(cx.waker());
            if closing.as_mut().poll(cx).is_ready() {
                queue.close();
            }
            loop {
                let mut pinned = Pin::new(&mut sending);
                quiet.drain(&waker, pinned.as_mut(), |sent| match sent {
                    Ok(confirmed) => completed.push(confirmed),
                    Err((waiter, error)) => {
                        broken = true;
                        tell(waiter, Err(error));
                    }
                });
                if !completed.is_empty() {
                    late.confirmed();
                    // What broke took no return with it, so counting proves nothing any more.
                    let outstanding = if broken { usize::MAX } else { sending.len() };
                    confirms.round(&mut completed, outstanding, |waiter, fate| {
                        tell(waiter, Ok(fate));
                    });
                }
                if broken || !channel.status().connected() {
                    broken = true;
                    if !sending.is_empty() {
                        return Poll::Pending;
                    }
                    confirms.abandon().for_each(|waiter| {
                        tell(waiter, Err(Fault::Disconnected("the channel was lost".to_owned())));
                    });
                    return Poll::Ready(End::Broken);
                }
                let mut progress = false;
                while sending.len() < *window {
                    match queue.poll_recv(cx) {
                        Poll::Ready(Some(job)) if job.answer.is_closed() => {}
                        Poll::Ready(Some(job)) => {
                            sending.push(send(channel, job, keys));
                            progress = true;
                        }
                        Poll::Ready(None) if sending.is_empty() => {
                            return Poll::Ready(End::Done);
                        }
                        Poll::Ready(None) | Poll::Pending => break,
                    }
                }
                if !progress {
                    late.watch(cx, !sending.is_empty());
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

type Waiter = oneshot::Sender<Answer>;

fn tell(waiter: Waiter, answer: Answer) {
    // Whoever asked may have given up.
    drop(waiter.send(answer));
}

/// Sends a message and waits for its confirmation.
async fn send(
    channel: &Channel,
    job: Job,
    keys: &Keys,
) -> Result<Confirmed<Waiter>, (Waiter, Fault)> {
    let Job { message, answer: waiter } = job;
    let key = key_of(keys, &message.properties, &message.exchange, &message.routing_key);
    let options =
        BasicPublishOptions { mandatory: message.mandatory, ..BasicPublishOptions::default() };
    let sent = channel.basic_publish(
        message.exchange,
        message.routing_key,
        options,
        &message.payload,
        message.properties,
    );
    let confirmation = match sent.await {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    let (taken, returned) = match confirmation {
        Ok(Confirmation::Ack(returned)) => (true, returned),
        Ok(Confirmation::Nack(returned)) => (false, returned),
        // The channel is in confirm mode, so this cannot be; it must not pass for success.
        Ok(Confirmation::NotRequested) => {
            let reason = "the channel does not confirm".to_owned();
            return Err((waiter, Fault::Disconnected(reason)));
        }
        Err(error) => return Err((waiter, error.into())),
    };
    let returned = returned
        .map(|message| key_of(keys, &message.properties, &message.exchange, &message.routing_key));
    Ok(Confirmed { key, taken, returned, waiter })
}

fn key_of(
    keys: &Keys,
    properties: &BasicProperties,
    exchange: &ShortString,
    routing_key: &ShortString,
) -> Key {
    let id = properties.message_id().as_ref().map_or("", ShortString::as_str);
    keys.key(id, exchange.as_str(), routing_key.as_str())
}

/// Raises a doubt of the connection while nothing is confirmed and something should be.
struct Late {
    doubt: Doubt,
    look: Pin<Box<Sleep>>,
    /// Whether it looks at all: not while nothing is outstanding.
    looks: bool,
    confirmed: bool,
}

impl Late {
    fn new(doubt: Doubt) -> Self {
        Self { doubt, look: Box::pin(sleep(LATE)), looks: false, confirmed: false }
    }

    fn confirmed(&mut self) {
        self.confirmed = true;
    }

    /// Goes on for as long as something is outstanding; the timer is set once in its period, however
    /// many messages there are.
    fn watch(&mut self, cx: &mut Context<'_>, outstanding: bool) {
        if outstanding && !self.looks {
            (self.looks, self.confirmed) = (true, false);
            self.look.as_mut().reset(Instant::now() + LATE);
        }
        while self.looks && self.look.as_mut().poll(cx).is_ready() {
            self.looks = outstanding;
            if outstanding && !self.confirmed {
                self.doubt.raise();
            }
            self.confirmed = false;
            self.look.as_mut().reset(Instant::now() + LATE);
        }
    }
}

/// Tells when nothing more is complete: `FuturesUnordered` also says `Pending` when it only
/// yields, and to resolve a message then could miss a return that another one brought.
#[derive(Debug, Default)]
struct Quiet {
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Quiet {
    /// Takes everything that is complete.
    fn drain<S: Stream>(
        &self,
        waker: &Waker,
        mut stream: Pin<&mut S>,
        mut take: impl FnMut(S::Item),
    ) {
        loop {
            self.woken.store(false, Ordering::SeqCst);
            match stream.as_mut().poll_next(&mut Context::from_waker(waker)) {
                Poll::Ready(Some(item)) => take(item),
                Poll::Pending if self.woken.load(Ordering::SeqCst) => {}
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }
}

impl Wake for Quiet {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.task.wake();
    }
}
