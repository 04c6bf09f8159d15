//! One queue as this process reads it: for all its consumers here, in turns.
//!
//! A turn settles what was handled and claims what there is room for, in one call. Between turns the
//! reader sleeps until something is settled, the queue's bell rings, or a lease somewhere ends. What
//! is held is held on to before its lease runs out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    select,
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    bus::Bus,
    fault::Fault,
    record,
    rhythm::Rhythm,
    turn::{AT_ONCE, Answer, HandOut, Presence, Turn},
};
use crate::{
    broker::{
        Deliveries, Delivery, QueueError, Settle, Verdict,
        consumers::{Consumer, Consumers},
        limits::Limits,
    },
    contract::Name,
};

/// How long what was settled waits for more of it, while other messages are being handled.
const GATHER: Duration = Duration::from_millis(2);

/// How long is waited after an error that does not pass by itself, or for a queue that is missing.
const TROUBLE: Duration = Duration::from_secs(5);

/// Reads one queue for all its consumers in this process.
#[derive(Debug)]
pub(super) struct Reader {
    queue: Name,
    id: String,
    /// As the health board knows it.
    number: u64,
    state: Mutex<State>,
    work: Notify,
}

#[derive(Debug, Default)]
struct State {
    consumers: Consumers,
    held: HashMap<u64, Held>,
    next_tag: u64,
    next_consumer: u64,
    done: Vec<HandOut>,
    back: Vec<HandOut>,
    joining: Vec<(u64, Joined)>,
    /// How many settled deliveries are worth a turn.
    enough: usize,
    /// Nobody may join any more.
    ended: bool,
}

/// A message as it was claimed.
type Claimed = (HandOut, Vec<u8>);

type Joined = oneshot::Sender<Result<(), QueueError>>;

#[derive(Debug)]
struct Held {
    /// None once the queue has gone with it: then there is nothing to settle.
    what: Option<HandOut>,
    consumer: u64,
    /// When it was last said that it is held.
    told: Instant,
}

impl Reader {
    /// Adds a consumer to the reader of a queue, which is started where there is none.
    pub(super) async fn consume(
        bus: &Arc<Bus>,
        queue: &str,
        prefetch: u16,
    ) -> Result<Deliveries, QueueError> {
        let (joined, answer) = oneshot::channel();
        let (deliveries, leave) = {
            let mut readers = bus.readers();
            if bus.is_closed() {
                return Err(QueueError::Closed);
            }
            let there = readers.get(queue).and_then(|reader| {
                let mut state = reader.state();
                (!state.ended).then(|| reader.add(&mut state, prefetch))
            });
            let (reader, consumer, deliveries) = there.unwrap_or_else(|| {
                let reader = Self::new(queue.into());
                readers.insert(reader.queue.clone(), reader.clone());
                tokio::spawn(reader.clone().run(bus.clone()));
                reader.add(&mut reader.state(), prefetch)
            });
            reader.state().joining.push((consumer, joined));
            reader.work.notify_one();
            (deliveries, Leave { reader: Arc::downgrade(&reader), consumer })
        };
        let cancelled = deliveries.1.clone();
        // Ends the stream of a consumer that is cancelled while nothing arrives, and goes with the
        // runtime of the consumer.
        tokio::spawn(async move {
            let _leave = leave;
            cancelled.cancelled().await;
        });
        match tokio::time::timeout(bus.patience(), answer).await {
            Ok(Ok(joined)) => joined.map(|()| deliveries.0),
            Ok(Err(_)) => Err(QueueError::Closed),
            Err(_) => Err(QueueError::Unavailable { reason: bus.link.trouble(), source: None }),
        }
    }

    fn new(queue: Name) -> Arc<Self> {
        Arc::new(Self {
            queue,
            id: Uuid::now_v7().simple().to_string(),
            number: fastrand::u64(..),
            state: Mutex::default(),
            work: Notify::new(),
        })
    }

    fn add(self: &Arc<Self>, state: &mut State, prefetch: u16) -> (Arc<Self>, u64, Stream) {
        let prefetch = prefetch.max(1);
        let (sender, receiver) = mpsc::channel(prefetch.into());
        let cancel = CancellationToken::new();
        let id = state.next_consumer;
        state.next_consumer += 1;
        state.consumers.add(Consumer {
            id,
            connection: 0,
            sender,
            cancel: cancel.clone(),
            settle: Arc::new(Settler(Arc::downgrade(self))),
            prefetch,
            unsettled: 0,
        });
        (self.clone(), id, Stream(Deliveries::new(receiver, cancel.clone()), cancel))
    }

    /// Ends all consumers; what they hold is nobody's any more.
    pub(super) fn end(&self) {
        let gone = {
            let mut state = self.state();
            state.held.clear();
            state.consumers.remove_all()
        };
        // Streams that ended may hold deliveries, which settle as they are dropped.
        drop(gone);
        self.work.notify_one();
    }

    async fn run(self: Arc<Self>, bus: Arc<Bus>) {
        let bell = bus.link.listen(&format!("q{}", self.queue));
        let mut rhythm = Rhythm::new(bus.lease());
        // What the last turn claimed is read while the next one is on its way.
        let mut claimed = Vec::new();
        loop {
            if bus.is_closed() {
                self.hand_out(std::mem::take(&mut claimed));
                self.give_everything_back();
            }
            let Some(turn) = self.plan(&mut rhythm, claimed.len()) else {
                if !claimed.is_empty() {
                    self.hand_out(std::mem::take(&mut claimed));
                    continue;
                }
                if self.leave(&bus, &rhythm) {
                    break;
                }
                let until = self.sleep_until(&rhythm);
                select! {
                    () = self.work.notified() => {}
                    () = bell.rung() => rhythm.look = true,
                    () = sleep_until(until) => {}
                    () = bus.closing.cancelled(), if !bus.is_closed() => {}
                }
                continue;
            };
            let before = std::mem::take(&mut claimed);
            let Some(now) = self.take_turn(&bus, turn, before, &mut rhythm).await else {
                self.close(&bus);
                break;
            };
            claimed = now;
        }
        bus.health.consumer(self.number, None);
    }

    /// Ends all streams, with a bus that was closed and cannot be told of it: leases give back what is
    /// held.
    fn close(&self, bus: &Bus) {
        self.give_everything_back();
        self.state().ended = true;
        bus.readers().remove(&self.queue);
    }

    /// Takes a turn, however often it is tried, and hands out meanwhile what was claimed before.
    /// Returns what is claimed now; `None` once the bus is closed and it cannot be.
    async fn take_turn(
        &self,
        bus: &Arc<Bus>,
        turn: Turn,
        before: Vec<Claimed>,
        rhythm: &mut Rhythm,
    ) -> Option<Vec<Claimed>> {
        let (mut before, mut is_repeated) = (Some(before), false);
        loop {
            let lease = bus.lease();
            let (keys, number) = (&bus.keys, rhythm.number);
            let call = turn.call(keys, &self.queue, &self.id, number, is_repeated, lease);
            let handed_out = async {
                if let Some(before) = before.take() {
                    self.hand_out(before);
                }
            };
            let (answer, ()) = tokio::join!(bus.link.call(bus.patience(), &call), handed_out);
            is_repeated = true;
            match answer.and_then(Answer::read) {
                Ok(Answer::Claimed { more, messages }) => {
                    if std::mem::take(&mut rhythm.is_troubled) {
                        bus.health.consumer(self.number, None);
                    }
                    rhythm.after(&turn, more);
                    self.joined(turn.consumers);
                    return Some(messages);
                }
                Ok(Answer::Gone) => {
                    self.gone(bus, rhythm).await;
                    return Some(Vec::new());
                }
                Err(Fault::Closed) => return None,
                Err(_) if bus.is_closed() => return None,
                Err(fault) => {
                    rhythm.is_troubled = true;
                    self.troubled(bus, &fault).await;
                }
            }
        }
    }

    /// Gathers what is to be told, where so many messages are still to be handed out; `None` where
    /// there is nothing to tell and nothing to ask.
    fn plan(&self, rhythm: &mut Rhythm, claimed: usize) -> Option<Turn> {
        let now = Instant::now();
        let mut state = self.state();
        let consumers = state.consumers.len();
        let room = state.consumers.room().saturating_sub(claimed);
        if now >= rhythm.look_at {
            rhythm.look = true;
        }
        let presence = match (rhythm.told, consumers) {
            (None | Some(0), 0) => Presence::Known,
            (_, 0) => Presence::Leaves,
            (told, _) if told != Some(consumers) || now >= rhythm.tell_at => Presence::Here,
            _ => Presence::Known,
        };
        let mut hold = Vec::new();
        if now >= rhythm.tell_at {
            let old = |held: &&mut Held| now.duration_since(held.told) >= rhythm.lease / 3;
            for held in state.held.values_mut().filter(old).take(AT_ONCE) {
                held.told = now;
                hold.extend(held.what);
            }
            if hold.len() < AT_ONCE {
                rhythm.tell_at = now + rhythm.lease / 3;
            }
        }
        let settled = state.done.len() + state.back.len();
        let in_hand = state.held.len() + claimed;
        state.enough = (in_hand + room).div_ceil(4);
        let is_enough = in_hand == 0
            || !state.back.is_empty()
            || settled >= state.enough
            || now >= *rhythm.settle_at.get_or_insert(now + GATHER);
        if settled > 0 && !is_enough && hold.is_empty() && presence == Presence::Known {
            return None;
        }
        rhythm.settle_at = None;
        let first = |of: &mut Vec<HandOut>| {
            let rest = of.split_off(of.len().min(AT_ONCE));
            std::mem::replace(of, rest)
        };
        let (done, back) = (first(&mut state.done), first(&mut state.back));
        let is_needed = !done.is_empty()
            || !back.is_empty()
            || !hold.is_empty()
            || presence != Presence::Known
            || !state.joining.is_empty()
            || (rhythm.look && room > 0);
        is_needed.then_some(Turn { done, back, hold, room, consumers, presence })
    }

    fn sleep_until(&self, rhythm: &Rhythm) -> Instant {
        let until = match self.state().consumers.room() {
            0 => rhythm.tell_at,
            _ => rhythm.tell_at.min(rhythm.look_at),
        };
        rhythm.settle_at.map_or(until, |settle_at| settle_at.min(until))
    }

    /// Tells those who joined before the last turn that they did.
    fn joined(&self, consumers: usize) {
        if consumers > 0 {
            let joining = std::mem::take(&mut self.state().joining);
            for (_, joined) in joining {
                drop(joined.send(Ok(())));
            }
        }
    }

    /// Hands messages out to the consumers in turn.
    fn hand_out(&self, messages: Vec<Claimed>) {
        let decoded: Vec<_> =
            messages.into_iter().map(|(what, message)| (what, record::decode(message).0)).collect();
        let (mut gone, mut undelivered) = (Vec::new(), Vec::new());
        let mut state = self.state();
        let told = Instant::now();
        for (what, envelope) in decoded {
            let State { consumers, held, next_tag, back, .. } = &mut *state;
            let Some(consumer) = consumers.next(&mut gone) else {
                back.push(what);
                continue;
            };
            let (id, tag) = (consumer.id, *next_tag);
            *next_tag += 1;
            let returns = what.returns;
            let delivery = Delivery::new(envelope, returns > 0, consumer.settle.clone(), tag)
                .with_returns(returns);
            held.insert(tag, Held { what: Some(what), consumer: id, told });
            match consumer.sender.try_send(delivery) {
                Ok(()) => consumers.served(),
                Err(error) => {
                    // The stream was dropped this very moment; the tag is void before the delivery
                    // is dropped.
                    undelivered.push(error.into_inner());
                    gone.extend(consumers.remove(id));
                    held.remove(&tag);
                    back.push(what);
                }
            }
        }
        drop(state);
        // A stream that ended may hold deliveries, which settle as they are dropped.
        drop((gone, undelivered));
    }

    /// Deals with a queue that does not exist: it is made again, if it was declared here.
    async fn gone(&self, bus: &Arc<Bus>, rhythm: &mut Rhythm) {
        let missing = || QueueError::NotFound { queue: self.queue.to_string() };
        let (joining, gone) = {
            let mut state = self.state();
            // What is held still takes its place until it is settled, but by then another message
            // may lie where it did.
            state.held.values_mut().for_each(|held| held.what = None);
            state.done.clear();
            state.back.clear();
            let joining = std::mem::take(&mut state.joining);
            let gone: Vec<_> =
                joining.iter().filter_map(|(id, _)| state.consumers.remove(*id)).collect();
            (joining, gone)
        };
        drop(gone);
        for (_, joined) in joining {
            drop(joined.send(Err(missing())));
        }
        rhythm.told = None;
        rhythm.number += 1;
        if self.state().consumers.is_empty() || bus.is_closed() {
            return;
        }
        let known = bus.declared().get(&self.queue).cloned();
        let reason = match known {
            None => missing().to_string(),
            Some(spec) => match bus.declare_again(&spec).await {
                Ok(()) => {
                    tracing::warn!(queue = %self.queue, "the queue was gone, and was declared again");
                    rhythm.look = true;
                    return;
                }
                Err(error) => error.to_string(),
            },
        };
        rhythm.is_troubled = true;
        bus.health.consumer(self.number, Some(reason));
        select! {
            () = self.pause(bus, TROUBLE) => {}
            // Whoever joins wants to know.
            () = self.work.notified() => {}
        }
        rhythm.look = true;
    }

    /// Says what keeps the queue from being read, and waits.
    async fn troubled(&self, bus: &Bus, fault: &Fault) {
        if fault.is_passing() {
            // The link itself says how it is; a server that is not ready is asked again soon.
            self.pause(bus, Duration::from_millis(fastrand::u64(50..250))).await;
            return;
        }
        let reason = format!("queue `{}` cannot be read: {fault}", self.queue);
        tracing::warn!(queue = %self.queue, error = %fault, "a queue cannot be read");
        bus.health.consumer(self.number, Some(reason.clone()));
        let (joining, gone) = {
            let mut state = self.state();
            let joining = std::mem::take(&mut state.joining);
            let gone: Vec<_> =
                joining.iter().filter_map(|(id, _)| state.consumers.remove(*id)).collect();
            (joining, gone)
        };
        drop(gone);
        for (_, joined) in joining {
            let unavailable = QueueError::Unavailable { reason: reason.clone(), source: None };
            drop(joined.send(Err(unavailable)));
        }
        self.pause(bus, TROUBLE).await;
    }

    async fn pause(&self, bus: &Bus, wait: Duration) {
        select! {
            () = sleep(wait) => {}
            () = bus.closing.cancelled() => {}
        }
    }

    /// Ends the consumers of a bus that is closed, and gives back what they hold.
    fn give_everything_back(&self) {
        let gone = {
            let mut state = self.state();
            let held: Vec<HandOut> = state.held.drain().filter_map(|(_, held)| held.what).collect();
            state.back.extend(held);
            (state.consumers.remove_all(), std::mem::take(&mut state.joining))
        };
        drop(gone);
    }

    /// Ends the reader if nobody needs it any more.
    fn leave(&self, bus: &Bus, rhythm: &Rhythm) -> bool {
        let mut readers = bus.readers();
        let mut state = self.state();
        let is_idle = state.consumers.is_empty()
            && state.held.is_empty()
            && state.done.is_empty()
            && state.back.is_empty()
            && state.joining.is_empty()
            && rhythm.told.unwrap_or_default() == 0;
        if is_idle {
            state.ended = true;
            if readers
                .get(&self.queue)
                .is_some_and(|reader| std::ptr::eq(Arc::as_ptr(reader), self))
            {
                readers.remove(&self.queue);
            }
            // What vanishes without consumers is not kept up any longer.
            let mut declared = bus.declared();
            if declared
                .get(&self.queue)
                .is_some_and(|spec| Limits::of(&spec.role).expires.is_some())
            {
                declared.remove(&self.queue);
            }
        }
        is_idle
    }

    fn settle(&self, tag: u64, verdict: Verdict) {
        let is_urgent = {
            let mut state = self.state();
            let Some(Held { what, consumer, .. }) = state.held.remove(&tag) else { return };
            state.consumers.settled(consumer);
            match verdict {
                Verdict::Ack => state.done.extend(what),
                Verdict::Release => state.back.extend(what),
            }
            let settled = state.done.len() + state.back.len();
            // The first sets the clock for those that follow; to wake the reader for each costs more
            // than handling it.
            settled == 1
                || settled >= state.enough
                || state.held.is_empty()
                || verdict == Verdict::Release
        };
        if is_urgent {
            self.work.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream, and what cancels it.
struct Stream(Deliveries, CancellationToken);

/// Settles the deliveries of a queue.
#[derive(Debug)]
struct Settler(Weak<Reader>);

impl Settle for Settler {
    fn settle(&self, tag: u64, verdict: Verdict) {
        if let Some(reader) = self.0.upgrade() {
            reader.settle(tag, verdict);
        }
    }
}

/// Removes a consumer when it is dropped.
struct Leave {
    reader: Weak<Reader>,
    consumer: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let Some(reader) = self.reader.upgrade() else { return };
        let gone = reader.state().consumers.remove(self.consumer);
        drop(gone);
        reader.work.notify_one();
    }
}
