//! Works through an agent's queues: finds the route of each delivery and calls its handler.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Agent, Context, HandlerError, Middleware, Next,
    answers::STORE_RETRY,
    batch::BatchItem,
    context::Duty,
    conversation::FollowUps,
    counts::Counters,
    crew::{self, Crew, Hand, Task},
    endpoint::{Endpoint, Reply},
    error::Fault,
    health::{HealthBoard, Noted, Trouble},
    middleware::Innermost,
    notices::Notices,
    route::{Audience, Route, Target},
    route_table::RouteTable,
};
use crate::{
    broker::{Deliveries, Delivery, Held, QueueError, QueueSpec, Stage},
    client::Client,
    contract::Name,
    message::{Envelope, Timestamp, fill_from_body},
    proto::v1::StopReason,
    retry::RetryPolicy,
    store::Scope,
};

/// How long to wait before a queue that cannot be consumed from is tried again.
const CONSUME_RETRY: Duration = Duration::from_secs(1);

/// How long to wait after a queue was declared again.
const CONSUME_PAUSE: Duration = Duration::from_millis(100);

/// One agent at work.
pub(super) struct Worker<A> {
    pub(super) agent: A,
    pub(super) name: Name,
    pub(super) instance: Name,
    pub(super) routes: RouteTable<A>,
    pub(super) client: Client,
    /// The agent's queues, to be declared again when somebody deletes them.
    pub(super) queues: Vec<QueueSpec>,
    pub(super) prefetch: u16,
    pub(super) follow_ups: Arc<FollowUps>,
    pub(super) chain: Arc<[Arc<dyn Middleware>]>,
    /// The policy of routes that have none of their own.
    pub(super) retry: RetryPolicy,
    pub(super) notices: Arc<Notices>,
    pub(super) counters: Arc<Counters>,
    pub(super) duty: Arc<Duty>,
    /// By route; none where a route has no batches.
    pub(super) batches: Vec<Option<mpsc::Sender<BatchItem>>>,
    pub(super) lifecycle: Lifecycle,
    /// Where it reports what keeps it from its work.
    pub(super) board: Arc<HealthBoard>,
}

/// The stages of stopping, and the tasks that have to end.
#[derive(Clone, Debug)]
pub(super) struct Lifecycle {
    /// Take no more messages.
    pub(super) stop: CancellationToken,
    /// Handlers should end.
    pub(super) hurry: CancellationToken,
    /// Handlers are dropped, and their messages given back.
    pub(super) abandon: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Why, once it is known.
    pub(super) why: Arc<OnceLock<StopReason>>,
}

/// The queue a delivery came from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) queue: Name,
    pub(super) audience: Audience,
}

impl<A: Agent> Worker<A> {
    /// Has a crew handle the deliveries, until told to stop.
    ///
    /// The prefetch bounds how many there are at a time.
    pub(super) async fn consume(self: Arc<Self>, mut deliveries: Deliveries, source: Source) {
        // Tokens of the crew's own, since each look at one takes its lock.
        let abandon = self.lifecycle.abandon.child_token();
        let stop = self.lifecycle.stop.child_token();
        loop {
            let (crew, first) = Crew::new(deliveries, stop.clone());
            self.put_to_work(first, &source, &abandon);
            let ended = stop.run_until_cancelled(crew.ended()).await;
            // What was fetched and not begun goes back.
            crew.close();
            if ended.is_none() {
                break;
            }
            match stop.run_until_cancelled(self.consume_again(&source)).await.flatten() {
                Some(renewed) => deliveries = renewed,
                None => break,
            }
        }
    }

    fn put_to_work(self: &Arc<Self>, mut hand: Hand, source: &Source, abandon: &CancellationToken) {
        let (worker, source, abandon) = (Arc::clone(self), source.clone(), abandon.clone());
        self.lifecycle.tasks.spawn(async move {
            let work = worker.work(&mut hand, &source, &abandon);
            abandon.run_until_cancelled(work).await;
        });
        crew::make_room();
    }

    /// Handles one delivery after the other.
    async fn work(self: &Arc<Self>, hand: &mut Hand, source: &Source, abandon: &CancellationToken) {
        while let Task::Handle(delivery, another) = hand.next().await {
            if let Some(another) = another {
                self.put_to_work(another, source, abandon);
            }
            if delivery.envelope().topic.is_none() {
                // Watches for itself: what it takes out of the store must go back there.
                let (worker, source) = (Arc::clone(self), source.clone());
                self.lifecycle.tasks.spawn(async move {
                    let _in_flight = worker.counters.in_flight.hold();
                    worker.process(delivery, &source).await;
                });
            } else {
                let _in_flight = self.counters.in_flight.hold();
                self.process(delivery, source).await;
            }
        }
    }

    /// Declares the queues and consumes once more, after somebody has deleted the queue; `None`
    /// once the bus was closed.
    async fn consume_again(&self, source: &Source) -> Option<Deliveries> {
        let mut idle = self.idle(source, "the queue is gone");
        loop {
            if self.client.broker().health().borrow().stage == Stage::Closed {
                return None;
            }
            tracing::error!(agent = %self.name, queue = %source.queue, "the queue is gone; declaring it again");
            self.declare_again().await;
            match self.client.broker().consume(&source.queue, self.prefetch).await {
                Ok(deliveries) => {
                    drop(idle);
                    // A queue that goes as fast as it comes must not be a hot loop.
                    tokio::time::sleep(CONSUME_PAUSE).await;
                    return Some(deliveries);
                }
                Err(QueueError::Closed) => return None,
                Err(error) => {
                    tracing::error!(agent = %self.name, queue = %source.queue, %error, "cannot consume");
                    idle = self.idle(source, &error.to_string());
                    tokio::time::sleep(CONSUME_RETRY).await;
                }
            }
        }
    }

    /// Notes that nothing consumes from a queue.
    fn idle(&self, source: &Source, reason: &str) -> Noted {
        let (agent, queue, reason) = (self.name.clone(), source.queue.clone(), reason.to_owned());
        self.board.note(Trouble::Idle { agent, queue, reason })
    }

    /// Declares the agent's queues again.
    pub(super) async fn declare_again(&self) {
        for spec in &self.queues {
            if let Err(error) = self.client.broker().declare(spec).await {
                tracing::error!(agent = %self.name, %error, "cannot declare a queue again");
            }
        }
    }

    /// Ends the agent, after its last message: the replica's own queue goes, so that what is
    /// published to it is not lost in silence.
    pub(super) async fn end(&self, replica: Option<Name>) {
        if self.follow_ups.store().scope() == Scope::Process
            && let Ok(waiting @ 1..) = self.follow_ups.store().count().await
        {
            tracing::warn!(agent = %self.name, waiting, "stopped with requests unanswered, whose state ends with this process");
        }
        let stopped = AssertUnwindSafe(async { self.agent.on_stop().await }).catch_unwind();
        if let Err(panic) = stopped.await {
            tracing::error!(agent = %self.name, panic = panic_text(&*panic), "`on_stop` panicked");
        }
        if let Some(replica) = replica
            && let Err(error) = self.client.broker().delete(&replica).await
        {
            tracing::warn!(queue = %replica, %error, "could not delete the replica's queue, which expires by itself");
        }
    }

    /// Fires the follow-ups of requests that nobody answered in time.
    pub(super) async fn watch_deadlines(self: Arc<Self>) {
        let turns = Arc::new(Semaphore::new(self.prefetch.into()));
        let expire = async {
            loop {
                let turn = Arc::clone(&turns).acquire_owned().await;
                match self.follow_ups.store().next_expired(&self.name).await {
                    Ok(conversation) => {
                        let worker = Arc::clone(&self);
                        self.lifecycle.tasks.spawn(async move {
                            let _turn = turn;
                            Box::pin(worker.deadline_missed(conversation)).await;
                        });
                    }
                    Err(error) => {
                        tracing::error!(agent = %self.name, %error, "cannot look for expired conversations");
                        tokio::time::sleep(STORE_RETRY).await;
                    }
                }
            }
        };
        self.lifecycle.stop.run_until_cancelled(expire).await;
    }

    async fn process(&self, delivery: Delivery, source: &Source) {
        let (envelope, delivery) = delivery.into_parts();
        let stands_in;
        let mut source = source;
        if envelope.metadata.replica.is_some() {
            // A replica's own copy, replayed: that replica is gone, so this one stands in for it.
            stands_in = Source { queue: source.queue.clone(), audience: Audience::Each };
            source = &stands_in;
        }
        if envelope.metadata.expires_at.is_some_and(Timestamp::has_passed) {
            let envelope = Arc::unwrap_or_clone(envelope);
            return Box::pin(self.expired(source, delivery, envelope)).await;
        }
        if envelope.metadata.deadline.is_some_and(Timestamp::has_passed) {
            return self.past_deadline(delivery, &envelope);
        }
        let limit = self.client.config().max_message_bytes;
        let bytes = envelope.payload.len();
        match &envelope.topic {
            _ if bytes > limit => {
                let route = self.route(source, &envelope);
                let error = Fault::TooLarge { bytes, limit }.into_error();
                let envelope = Arc::unwrap_or_clone(envelope);
                self.fail(source, delivery, envelope, error, route).await;
            }
            Some(topic) => {
                if let Some(route) = self.routes.find(source.audience, topic) {
                    self.dispatch(route, delivery, envelope, source).await;
                } else if self.routes.passes_over(source.audience, topic) {
                    delivery.ack();
                } else {
                    let error = Fault::NoRoute(topic.to_string()).into_error();
                    let envelope = Arc::unwrap_or_clone(envelope);
                    self.fail(source, delivery, envelope, error, None).await;
                }
            }
            None => {
                let envelope = Arc::unwrap_or_clone(envelope);
                Box::pin(self.answered(delivery, envelope, source.clone())).await;
            }
        }
    }

    /// Finds the route of a message that may not get there.
    pub(super) fn route(&self, source: &Source, envelope: &Envelope) -> Option<&Route<A>> {
        let index = self.routes.find(source.audience, envelope.topic.as_ref()?)?;
        self.routes.routes.get(index)
    }

    async fn dispatch(
        &self,
        index: usize,
        delivery: Held,
        mut envelope: Arc<Envelope>,
        source: &Source,
    ) {
        let route = &self.routes.routes[index];
        if let Some(number) = route.metadata_field {
            let envelope = Arc::make_mut(&mut envelope);
            fill_from_body(&mut envelope.metadata, &envelope.payload, number);
        }
        let endpoint = match &route.target {
            Target::Single(endpoint) => endpoint,
            Target::Batch { endpoint, .. } => {
                let collect = self.collect(index, endpoint, delivery, envelope, source.clone());
                return Box::pin(collect).await;
            }
        };
        let mut ctx = self.context(envelope, delivery.is_redelivered());
        ctx.audience = source.audience;
        ctx.replies = route.replies;
        let call = Call { agent: &self.agent, endpoint: &**endpoint };
        let result = self.run(&ctx, &call).await;
        let envelope = ctx.envelope;
        match result {
            Ok(reply) => {
                let reply = route.replies.then_some(reply);
                self.succeed(source, delivery, envelope, reply, Some(route)).await;
            }
            Err(error) => {
                let envelope = Arc::unwrap_or_clone(envelope);
                self.fail(source, delivery, envelope, error, Some(route)).await;
            }
        }
    }

    /// Runs the chain and the handler: panics are caught, and the deadline bounds them.
    pub(super) async fn run(
        &self,
        ctx: &Context,
        call: &dyn Innermost,
    ) -> Result<Reply, HandlerError> {
        let next = Next { chain: &self.chain, handler: call };
        let handling = AssertUnwindSafe(next.run(ctx)).catch_unwind();
        let outcome = match ctx.time_left() {
            None => handling.await,
            Some(left) => match tokio::time::timeout(left, handling).await {
                Ok(outcome) => outcome,
                Err(_) if ctx.has_begun() => return Err(Fault::Timeout(left).into_error()),
                Err(_) => return Err(Fault::TooLate("middleware").into_error()),
            },
        };
        let result =
            outcome.unwrap_or_else(|panic| Err(Fault::Panic(panic_text(&*panic)).into_error()));
        result.map_err(|error| {
            // An error is the user's code too: what shows it later must not panic.
            match std::panic::catch_unwind(AssertUnwindSafe(|| error.to_string())) {
                Ok(_) => error,
                Err(panic) => Fault::Panic(panic_text(&*panic)).into_error(),
            }
        })
    }

    pub(super) fn context(&self, envelope: impl Into<Arc<Envelope>>, redelivered: bool) -> Context {
        Context {
            envelope: envelope.into(),
            batch: Vec::new(),
            redelivered,
            duty: Arc::clone(&self.duty),
            audience: Audience::One,
            replies: false,
            begun: AtomicBool::new(false),
        }
    }
}

/// A route's handler and the agent it is called on.
struct Call<'a, A> {
    agent: &'a A,
    endpoint: &'a dyn Endpoint<A>,
}

impl<A: Agent> Innermost for Call<'_, A> {
    fn call<'a>(&'a self, ctx: &'a Context) -> BoxFuture<'a, Result<Reply, HandlerError>> {
        self.endpoint.call(self.agent, ctx)
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
