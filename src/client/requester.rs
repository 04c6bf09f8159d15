//! Pairs replies with the requests that wait for them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::pending,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OnceCell, mpsc, oneshot},
    task::coop::consume_budget,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::RequestError;
use crate::{
    broker::{Broker, Destination, Inbox, PublishError, ReplySink},
    contract::Name,
    message::{Envelope, Id, fill_from_body},
};

/// How many replies to one request may wait to be read.
const REPLY_BUFFER: usize = 1024;

/// How long to wait before a request that was perhaps lost is sent again.
const SEND_AGAIN: Duration = Duration::from_millis(250);

/// The clock does not go as far as `Duration::MAX`, by which no limit is meant.
const LONGEST_TIMEOUT: Duration = Duration::from_hours(24 * 365);

/// Publishes requests and waits for their replies, over one inbox opened when first needed.
pub(super) struct Requester {
    broker: Arc<dyn Broker>,
    inbox: OnceCell<Arc<dyn Inbox>>,
    pending: Arc<Pending>,
}

struct Pending {
    limit: usize,
    // A std mutex: it is held for one map operation and never across an await.
    waiting: Mutex<Waiting>,
    late: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    by_id: HashMap<Id, Waiter>,
    /// The fields that hold the metadata of replies, with how many wait for such.
    fields: BTreeMap<u32, usize>,
}

/// Who waits for replies.
struct Waiter {
    sender: Sender,
    /// The field of the reply that holds its metadata.
    metadata_field: Option<u32>,
}

/// Where replies go.
enum Sender {
    /// To who waits for one, which is taken by it.
    One(Option<oneshot::Sender<Envelope>>),
    Many(mpsc::Sender<Envelope>),
}

impl Requester {
    pub(super) fn new(broker: Arc<dyn Broker>, limit: usize) -> Self {
        let pending = Pending { limit, waiting: Mutex::default(), late: AtomicU64::new(0) };
        Self { broker, inbox: OnceCell::new(), pending: Arc::new(pending) }
    }

    /// Publishes a request and waits for its first reply.
    ///
    /// `metadata_field` is the field of the reply that holds its metadata.
    pub(super) async fn ask(
        &self,
        topic: &Name,
        envelope: Envelope,
        metadata_field: Option<u32>,
        timeout: Duration,
        idempotent: bool,
    ) -> Result<Envelope, RequestError> {
        let (sender, mut reply) = oneshot::channel();
        let sender = Sender::One(Some(sender));
        let _place = self.pending.reserve(&envelope, metadata_field, sender)?;
        let deadline = deadline(timeout);
        // Why there may be no reply, as long as there is none.
        let doubt = Mutex::new(None);
        let mut sending = pin!(self.keep_sending(topic, envelope, idempotent, &doubt));
        tokio::select! {
            biased;
            // A reply may overtake the confirmation of its request.
            Ok(reply) = &mut reply => Ok(reply),
            error = &mut sending => Err(error),
            () = sleep_until(deadline) => {
                let doubt = doubt.lock().unwrap_or_else(PoisonError::into_inner).take();
                let timed_out = || RequestError::TimedOut { topic: topic.clone(), timeout };
                Err(doubt.unwrap_or_else(timed_out))
            }
        }
    }

    /// Sends a request, and sends an idempotent one again whenever it or its reply may have been
    /// lost; ends where no reply can come.
    async fn keep_sending(
        &self,
        topic: &Name,
        envelope: Envelope,
        idempotent: bool,
        doubt: &Mutex<Option<RequestError>>,
    ) -> RequestError {
        let inbox = match self.inbox().await {
            Ok(inbox) => inbox,
            Err(error) => return error,
        };
        let again = idempotent.then(|| (envelope.clone(), inbox.losses()));
        let first = publish(&**inbox, topic, envelope).await;
        let mut lost = match first {
            Err(error) => return error,
            Ok(unsure) => note(doubt, unsure),
        };
        let Some((envelope, mut losses)) = again else { return pending().await };
        loop {
            if lost {
                // Publishing waits for a connection, but may fail at once, too.
                sleep(SEND_AGAIN).await;
            } else if losses.changed().await.is_err() {
                return pending().await;
            }
            losses.borrow_and_update();
            tracing::debug!(%topic, "sending an idempotent request again");
            lost = match publish(&**inbox, topic, envelope.clone()).await {
                Ok(unsure) => note(doubt, unsure),
                Err(error @ RequestError::Publish { source: PublishError::Closed { .. }, .. }) => {
                    return error;
                }
                // The first one may be answered yet.
                Err(_) => false,
            };
        }
    }

    /// Publishes a request and returns where its replies arrive.
    pub(super) async fn ask_many(
        &self,
        topic: &Name,
        envelope: Envelope,
        metadata_field: Option<u32>,
        timeout: Duration,
    ) -> Result<Slot, RequestError> {
        let (sender, replies) = mpsc::channel(REPLY_BUFFER);
        let place = self.pending.reserve(&envelope, metadata_field, Sender::Many(sender))?;
        let mut slot = Slot { place, replies, first: None, deadline: deadline(timeout) };
        let send = async { publish(&**self.inbox().await?, topic, envelope).await };
        let doubt = match timeout_at(slot.deadline, send).await {
            Ok(result) => result?,
            Err(_) => Some(RequestError::TimedOut { topic: topic.clone(), timeout }),
        };
        match doubt {
            Some(error) if !slot.is_answered().await => Err(error),
            _ => Ok(slot),
        }
    }

    async fn inbox(&self) -> Result<&Arc<dyn Inbox>, RequestError> {
        let open = || async {
            let pending = Arc::clone(&self.pending);
            let sink: ReplySink = Arc::new(move |reply| pending.deliver(reply));
            self.broker.inbox(sink).await.map_err(RequestError::Inbox)
        };
        self.inbox.get_or_try_init(open).await
    }
}

/// Publishes a request; an error after which a reply may come nevertheless is set aside: one queue
/// of several may have taken the request, or the only one without saying so.
async fn publish(
    inbox: &dyn Inbox,
    topic: &Name,
    envelope: Envelope,
) -> Result<Option<RequestError>, RequestError> {
    let sent = inbox.begin_publish(Destination::Topic(topic), envelope).await;
    consume_budget().await;
    let Err(source) = sent else { return Ok(None) };
    let answerable =
        matches!(source, PublishError::Refused { .. } | PublishError::Unconfirmed { .. });
    let error = RequestError::unsent(topic, source);
    if answerable { Ok(Some(error)) } else { Err(error) }
}

/// Keeps what puts a reply in doubt; tells whether the request itself may have been lost.
fn note(doubt: &Mutex<Option<RequestError>>, unsure: Option<RequestError>) -> bool {
    let unconfirmed = |error: &RequestError| {
        let RequestError::Publish { source, .. } = error else { return false };
        matches!(source, PublishError::Unconfirmed { .. })
    };
    let lost = unsure.as_ref().is_some_and(unconfirmed);
    *doubt.lock().unwrap_or_else(PoisonError::into_inner) = unsure;
    lost
}

impl Pending {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for the replies to a request, as long as the place lives.
    fn reserve(
        self: &Arc<Self>,
        request: &Envelope,
        metadata_field: Option<u32>,
        sender: Sender,
    ) -> Result<Place, RequestError> {
        let id = request.metadata.correlation_id.clone().unwrap_or_else(Id::new);
        let mut waiting = self.waiting();
        if waiting.by_id.len() >= self.limit {
            return Err(RequestError::TooManyPending { limit: self.limit });
        }
        waiting.add(id.clone(), Waiter { sender, metadata_field });
        Ok(Place { id, pending: Arc::clone(self) })
    }

    fn deliver(&self, mut reply: Envelope) {
        let sent = match self.who_waits(&mut reply) {
            // A second reply to a request that takes one finds the sender taken.
            None | Some(Sender::One(None)) => false,
            Some(Sender::One(Some(waiting))) => waiting.send(reply).is_ok(),
            Some(Sender::Many(waiting)) => waiting.try_send(reply).is_ok(),
        };
        if !sent {
            let late = self.late.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::debug!(late, "ignored a reply that nobody waits for");
        }
    }

    /// Finds who waits for a reply, by metadata in its body where the property is missing.
    fn who_waits(&self, reply: &mut Envelope) -> Option<Sender> {
        if let Some(id) = &reply.metadata.correlation_id {
            return self.waiting().by_id.get_mut(id).map(|waiter| waiter.sender.take());
        }
        // Which request it answers, and so which field to read, is what the field would say.
        let fields: Vec<u32> = self.waiting().fields.keys().copied().collect();
        fields.into_iter().find_map(|number| {
            let mut metadata = reply.metadata.clone();
            fill_from_body(&mut metadata, &reply.payload, number);
            let sender = {
                let mut waiting = self.waiting();
                let waiter = waiting.by_id.get_mut(metadata.correlation_id.as_ref()?)?;
                (waiter.metadata_field == Some(number)).then(|| waiter.sender.take())?
            };
            reply.metadata = metadata;
            Some(sender)
        })
    }
}

impl Sender {
    /// Returns what to send the next reply by.
    fn take(&mut self) -> Self {
        match self {
            Self::One(sender) => Self::One(sender.take()),
            Self::Many(sender) => Self::Many(sender.clone()),
        }
    }
}

impl Waiting {
    fn add(&mut self, id: Id, waiter: Waiter) {
        self.remove(&id);
        if let Some(number) = waiter.metadata_field {
            *self.fields.entry(number).or_default() += 1;
        }
        self.by_id.insert(id, waiter);
    }

    fn remove(&mut self, id: &Id) {
        let Some(Waiter { metadata_field: Some(number), .. }) = self.by_id.remove(id) else {
            return;
        };
        if let Some(count) = self.fields.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                self.fields.remove(&number);
            }
        }
    }
}

/// The place of one request among those pending; dropping it forgets the request.
struct Place {
    id: Id,
    pending: Arc<Pending>,
}

/// The replies to one request; dropping it forgets the request.
pub(super) struct Slot {
    place: Place,
    replies: mpsc::Receiver<Envelope>,
    /// Taken from `replies` to see that there is one.
    first: Option<Envelope>,
    deadline: Instant,
}

fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(LONGEST_TIMEOUT)
}

impl Slot {
    /// Waits for the next reply; `None` at the deadline. A dropped future takes none with it.
    pub(super) async fn next(&mut self) -> Option<Envelope> {
        match self.first.take() {
            Some(first) => Some(first),
            None => timeout_at(self.deadline, self.replies.recv()).await.ok()?,
        }
    }

    /// Waits for a first reply, which stays to be taken; `false` if none comes before the deadline.
    async fn is_answered(&mut self) -> bool {
        self.first = self.next().await;
        self.first.is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pending.waiting().remove(&self.id);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("id", &self.place.id).finish_non_exhaustive()
    }
}
