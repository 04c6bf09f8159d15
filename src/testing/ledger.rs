//! The books of a bus: who holds what, and what followed from it.
//!
//! Everything is told from what passes between clients and broker, so that nothing in an agent
//! has to be changed to be watched: a copy that goes to the queue its original came from is a
//! retry, one with a failure is a dead letter, and what is acked without either was handled.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    books::{Books, Declared, Held, Keeper, Owed},
    history::{Entry, Event, History, Outcome},
};
use crate::{
    broker::{Destination, PublishError, QueueRole, QueueSpec, Verdict},
    contract::Name,
    message::{Envelope, Timestamp},
};

#[derive(Debug)]
pub(super) struct Ledger {
    start: Instant,
    queue_prefix: String,
    books: Mutex<Books>,
    /// Raised by whatever happens.
    version: watch::Sender<u64>,
}

/// How a publish that has begun is known.
#[derive(Debug)]
pub(super) struct Sending {
    entry: usize,
    copy_of: Option<u64>,
}

/// What there is to do yet.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) version: u64,
    pub(super) in_flight: usize,
    /// What is held, in words.
    pub(super) held: Vec<String>,
    /// Queues that somebody consumes from, with how many messages are owed to each now.
    pub(super) consumed: Vec<(Name, usize)>,
    /// When the next delayed message for such a queue is due.
    pub(super) next_due: Option<Timestamp>,
    /// How many are delayed.
    pub(super) delayed: usize,
}

impl Ledger {
    pub(super) fn new(queue_prefix: &str) -> Self {
        Self {
            start: Instant::now(),
            queue_prefix: queue_prefix.to_owned(),
            books: Mutex::default(),
            version: watch::Sender::new(0),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Tells those who wait that something has changed.
    pub(super) fn touch(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(super) fn history(&self) -> History {
        History { entries: self.books().entries.clone() }
    }

    pub(super) fn note(&self, text: impl Into<String>) {
        let entry = Entry {
            at: self.now(),
            event: Event::Test(text.into()),
            agent: None,
            topic: None,
            place: None,
            redelivered: false,
            envelope: Envelope::default(),
            outcome: Outcome::Taken,
        };
        self.books().entries.push(entry);
        self.touch();
    }

    /// Returns the names of the queues that were declared.
    pub(super) fn queues(&self) -> BTreeSet<Name> {
        self.books().queues.keys().cloned().collect()
    }

    pub(super) fn declared(&self, spec: &QueueSpec) {
        let keeper = match &spec.role {
            QueueRole::Work { dead_letters, .. } | QueueRole::Replica { dead_letters, .. } => {
                let owner = dead_letters.strip_suffix(".dlq").unwrap_or(&spec.name);
                Keeper::Agent(self.without_prefix(owner))
            }
            _ => Keeper::Nobody,
        };
        let mut books = self.books();
        let declared = books.queues.entry(spec.name.clone());
        let declared = declared.or_insert(Declared { keeper, bindings: Vec::new() });
        for pattern in &spec.bindings {
            if !declared.bindings.contains(pattern) {
                declared.bindings.push(pattern.clone());
            }
        }
        declared.bindings.retain(|pattern| !spec.retired.contains(pattern));
    }

    fn without_prefix(&self, queue: &str) -> Name {
        queue.strip_prefix(&*self.queue_prefix).unwrap_or(queue).into()
    }

    /// A queue is gone, or what was ready in it.
    pub(super) fn emptied(&self, queue: &str, gone: bool) {
        let now = Timestamp::now();
        let mut books = self.books();
        let Books { held, owed, queues, .. } = &mut *books;
        owed.retain(|owed| {
            let is_held = || held.values().any(|held| held.is(queue, &owed.key));
            *owed.queue != *queue || !gone && (owed.due.is_some_and(|due| due > now) || is_held())
        });
        if gone {
            queues.remove(queue);
        }
        drop(books);
        self.touch();
    }

    pub(super) fn consumes(&self, queue: &Name) {
        *self.books().consumers.entry(queue.clone()).or_default() += 1;
    }

    pub(super) fn consumes_no_more(&self, queue: &Name) {
        let mut books = self.books();
        if let Some(count) = books.consumers.get_mut(queue) {
            *count -= 1;
            if *count == 0 {
                books.consumers.remove(queue);
            }
        }
        drop(books);
        self.touch();
    }

    /// A publish begins.
    pub(super) fn sending(
        &self,
        to: Destination<'_>,
        envelope: &Envelope,
        has_inbox: bool,
    ) -> Sending {
        let at = self.now();
        let mut books = self.books();
        let metadata = &envelope.metadata;
        let (mut copy_of, mut agent) = (None, metadata.sender.clone());
        let mut topic = envelope.topic.clone();
        let event = match to {
            Destination::Topic(name) => {
                topic = Some(name.clone());
                if has_inbox || metadata.reply_to.is_some() {
                    let pairs_by =
                        metadata.correlation_id.as_ref().or(metadata.message_id.as_ref());
                    if let Some(id) = pairs_by {
                        books.requests.insert(id.clone(), name.clone());
                    }
                }
                Event::Published
            }
            Destination::Reply(_) => {
                let request = metadata.correlation_id.as_ref();
                topic = request.and_then(|id| books.requests.get(id)).cloned();
                Event::Replied
            }
            Destination::Queue(queue) => {
                if let Some(failure) = &metadata.failure {
                    agent = Some(failure.agent.clone());
                    copy_of = books.original(None, envelope);
                    Event::DeadLettered
                } else {
                    copy_of = books.original(Some(queue), envelope);
                    books.copy(copy_of, envelope, &mut agent)
                }
            }
        };
        let index = books.entries.len();
        books.owe(to, envelope, index);
        books.in_flight += 1;
        books.entries.push(Entry {
            at,
            event,
            agent,
            topic,
            place: Some(to.name().into()),
            redelivered: false,
            envelope: envelope.clone(),
            outcome: Outcome::Pending,
        });
        Sending { entry: index, copy_of }
    }

    /// A publish has ended.
    pub(super) fn sent(&self, sending: &Sending, outcome: Outcome) {
        let mut books = self.books();
        books.in_flight -= 1;
        if let Outcome::Taken | Outcome::TakenUnknown = outcome {
            if let Some(held) = sending.copy_of.and_then(|id| books.held.get_mut(&id)) {
                held.has_copy = true;
            }
        } else {
            books.owed.retain(|owed| owed.entry != sending.entry);
        }
        books.entries[sending.entry].outcome = outcome;
        drop(books);
        self.touch();
    }

    /// A message was handed to a consumer; returns the number it is known by until it is settled.
    pub(super) fn delivered(&self, queue: &Name, envelope: &Envelope, redelivered: bool) -> u64 {
        let at = self.now();
        let mut books = self.books();
        let agent = match books.queues.get(queue).map(|declared| &declared.keeper) {
            Some(Keeper::Agent(agent)) => Some(agent.clone()),
            Some(Keeper::Nobody) => None,
            // Declared by a program that is not watched.
            None if queue.ends_with(".dlq") => None,
            None => Some(self.without_prefix(queue)),
        };
        let id = books.next_delivery;
        books.next_delivery += 1;
        let held = Held {
            queue: queue.clone(),
            agent,
            envelope: envelope.clone(),
            at,
            expired: [envelope.metadata.deadline, envelope.metadata.expires_at]
                .into_iter()
                .flatten()
                .any(Timestamp::has_passed),
            has_copy: false,
        };
        books.entries.push(held.entry(at, Event::Delivered, redelivered));
        books.held.insert(id, held);
        drop(books);
        self.touch();
        id
    }

    /// A delivery was settled.
    pub(super) fn settled(&self, delivery: u64, verdict: Verdict) {
        let at = self.now();
        let mut books = self.books();
        if let Some(held) = books.held.remove(&delivery) {
            let event = match verdict {
                Verdict::Release => Event::Released,
                Verdict::Ack => {
                    books.settle(&held);
                    if held.agent.is_none() {
                        Event::Received
                    } else if held.expired {
                        Event::Expired
                    } else {
                        Event::Handled
                    }
                }
            };
            // What was copied has been told of.
            if verdict == Verdict::Release || !held.has_copy {
                let entry = held.entry(at, event, false);
                books.entries.push(entry);
            }
        }
        drop(books);
        self.touch();
    }

    /// A delivery goes back because its connection was lost.
    pub(super) fn taken_back(&self, delivery: u64) {
        let at = self.now();
        let mut books = self.books();
        if let Some(held) = books.held.remove(&delivery) {
            let entry = held.entry(at, Event::TakenBack, false);
            books.entries.push(entry);
        }
        drop(books);
        self.touch();
    }

    /// Forgets what is owed to a queue that the broker says is empty.
    pub(super) fn is_empty(&self, queue: &str, version: u64, patience: Duration) -> bool {
        let mut books = self.books();
        if *self.version.borrow() != version {
            return false;
        }
        let now = Timestamp::now();
        books.owed.retain(|owed| {
            // What is due only now may not be in the queue yet.
            *owed.queue != *queue || owed.due.is_some_and(|due| due.after(patience) > now)
        });
        true
    }

    pub(super) fn work(&self) -> Work {
        // First, so that what happens meanwhile is seen as a change.
        let version = *self.version.borrow();
        let at = self.now();
        let soon = Timestamp::now().after(Duration::from_millis(1));
        let books = self.books();
        let later = |owed: &&Owed| owed.due.is_some_and(|due| due > soon);
        let consumed =
            |owed: &&Owed| books.consumers.contains_key(&owed.queue) && books.is_work(&owed.queue);
        let owed_now = |queue: &Name| {
            books.owed.iter().filter(|owed| owed.queue == *queue && !later(owed)).count()
        };
        let delayed = || books.owed.iter().filter(consumed).filter(later);
        let queues = books.consumers.keys().filter(|queue| books.is_work(queue));
        let held = books.held.values().filter(|held| held.agent.is_some());
        Work {
            version,
            in_flight: books.in_flight,
            held: held.map(|held| held.describe(at)).collect(),
            consumed: queues.map(|queue| (queue.clone(), owed_now(queue))).collect(),
            next_due: delayed().filter_map(|owed| owed.due).min(),
            delayed: delayed().count(),
        }
    }
}

impl From<&Result<(), PublishError>> for Outcome {
    fn from(result: &Result<(), PublishError>) -> Self {
        match result {
            Ok(()) => Self::Taken,
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}
