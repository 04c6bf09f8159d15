//! Publishing: one script writes to all queues that are to have the message.

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    bindings::Known,
    bus::Bus,
    fault::Fault,
    link::Again,
    record,
    scripts::HOLD,
    sender::{Outgoing, Written},
    turn::millis,
};
use crate::{
    broker::{Destination, MAX_DELAY, PublishError},
    contract::Name,
    message::{Envelope, Timestamp},
};

/// How many messages are held until they are due; beyond it, publishing one is refused.
pub const MAX_DELAYED: usize = 1_000_000;

/// How long a full queue is not asked for room, at most, while nothing is heard of it.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How long an address may be that a delayed message is to go to.
const MAX_ADDRESS_BYTES: usize = 255;

/// How a publish ended that Redis has answered.
enum Fate {
    Taken,
    Unroutable,
    /// This queue is full, and perhaps others.
    Full(Name),
    TooManyHeld,
    Closed,
}

impl Bus {
    pub(super) async fn publish(
        &self,
        to: Destination<'_>,
        mut envelope: Envelope,
    ) -> Result<(), PublishError> {
        if self.is_closed() {
            return Err(PublishError::Closed { to: to.to_string(), envelope: envelope.into() });
        }
        let (bytes, limit) = (envelope.payload.len(), self.options.max_message_bytes);
        // What was taken once must find its way to the dead letters, however large it is.
        if bytes > limit && !matches!(to, Destination::Queue(_)) {
            let to = to.to_string();
            return Err(PublishError::TooLarge { to, bytes, limit, envelope: envelope.into() });
        }
        let remaining = envelope.metadata.due_at.map(Timestamp::remaining).unwrap_or_default();
        if remaining > MAX_DELAY {
            let (to, envelope) = (to.to_string(), envelope.into());
            let reason = "a message cannot be delayed for more than two years".to_owned();
            return Err(PublishError::Invalid { to, reason, envelope });
        }
        if let Destination::Topic(topic) = to {
            envelope.topic = Some(topic.clone());
        }
        let deadline = Instant::now() + self.options.publish_timeout;
        let fate = if remaining.is_zero() {
            self.write(to, &envelope, deadline).await
        } else {
            self.hold(to, &envelope, remaining, deadline).await
        };
        let (name, boxed) = (to.to_string(), |envelope: Envelope| Box::new(envelope));
        match fate {
            Ok(Fate::Taken) => Ok(()),
            Ok(Fate::Unroutable) => Err(PublishError::unroutable(to, envelope)),
            Ok(Fate::Full(queue)) => {
                let waited = self.options.publish_timeout;
                let reason = format!("queue `{queue}` is full, and had no room within {waited:?}");
                Err(PublishError::Refused { to: name, reason, envelope: boxed(envelope) })
            }
            Ok(Fate::TooManyHeld) => {
                let reason = format!("{MAX_DELAYED} messages are held until they are due");
                Err(PublishError::Refused { to: name, reason, envelope: boxed(envelope) })
            }
            Ok(Fate::Closed) | Err(Fault::Closed) => {
                Err(PublishError::Closed { to: name, envelope: boxed(envelope) })
            }
            // The server says that it did not take it.
            Err(fault @ (Fault::Full(_) | Fault::Unwritable(_))) => {
                let reason = fault.to_string();
                Err(PublishError::Refused { to: name, reason, envelope: boxed(envelope) })
            }
            Err(fault) => {
                let (reason, envelope) = (fault.to_string(), boxed(envelope));
                Err(PublishError::Unconfirmed { to: name, reason, source: None, envelope })
            }
        }
    }

    /// Writes a message to the queues it reaches, and waits for room in those that are full.
    async fn write(
        &self,
        to: Destination<'_>,
        envelope: &Envelope,
        deadline: Instant,
    ) -> Result<Fate, Fault> {
        let record: Arc<[u8]> = record::encode(envelope, None).into();
        let level = envelope.metadata.priority.unwrap_or_default().level();
        let (mut known, mut taken) = (None, false);
        // Queues that have no room yet, each with what rings when it may.
        let mut full = loop {
            let queues = match to {
                Destination::Topic(topic) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let bindings = self.bindings.get(&self.link, &self.keys, left, known.as_ref());
                    known.insert(bindings.await?).bound_to(topic)
                }
                Destination::Queue(name) | Destination::Reply(name) => {
                    Arc::from([Name::from(name)])
                }
            };
            let written = self.write_once(known.clone(), level, &record, queues.clone(), deadline);
            match written.await? {
                Written::Stale => {}
                Written::Nowhere => return Ok(Fate::Unroutable),
                Written::Everywhere => return Ok(Fate::Taken),
                Written::Partly(any, full) => {
                    taken |= any;
                    let full = full.into_iter().filter_map(|at| queues.get(at).cloned());
                    break full.collect::<Vec<_>>();
                }
            }
        };
        let bells: Vec<_> =
            full.iter().map(|queue| self.link.listen(&format!("r{queue}"))).collect();
        let mut was_closed = false;
        loop {
            // Once more at once: there may have been room before the bell was there.
            let queues: Arc<[Name]> = full.clone().into();
            let written = self.write_once(None, level, &record, queues, deadline).await;
            match written.map_err(|fault| if taken { half_written(fault) } else { fault })? {
                Written::Everywhere => return Ok(Fate::Taken),
                Written::Nowhere | Written::Stale if taken => return Ok(Fate::Taken),
                Written::Nowhere | Written::Stale => return Ok(Fate::Unroutable),
                Written::Partly(any, still) => {
                    taken |= any;
                    full = still.into_iter().filter_map(|at| full.get(at).cloned()).collect();
                }
            }
            let Some(first) = full.first() else { return Ok(Fate::Taken) };
            if was_closed {
                return if taken { Err(half_written(Fault::Closed)) } else { Ok(Fate::Closed) };
            }
            if Instant::now() >= deadline {
                return Ok(Fate::Full(first.clone()));
            }
            let ring = futures::future::select_all(bells.iter().map(|bell| Box::pin(bell.rung())));
            let again = (Instant::now() + ASK_AGAIN).min(deadline);
            select! {
                _ = timeout_at(again, ring) => {}
                () = self.closing.cancelled() => was_closed = true,
            }
        }
    }

    async fn write_once(
        &self,
        known: Option<Arc<Known>>,
        level: u8,
        record: &Arc<[u8]>,
        queues: Arc<[Name]>,
        deadline: Instant,
    ) -> Result<Written, Fault> {
        let deadline = deadline.max(Instant::now() + LAST_TRY);
        let late = || Fault::Timeout(self.options.publish_timeout);
        let Ok(permit) = timeout_at(deadline, self.window.acquire()).await else {
            return Err(late());
        };
        let _permit = permit.map_err(|_| Fault::Closed)?;
        let (written, result) = oneshot::channel();
        let record = record.clone();
        let outgoing = Outgoing { known, level, record, queues, deadline, written };
        self.outgoing.send(outgoing).await.map_err(|_| Fault::Closed)?;
        match timeout_at(deadline + LAST_TRY, result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Fault::Closed),
            Err(_) => Err(late()),
        }
    }

    /// Lets Redis hold a message until it is due. Redis's clock counts, so only how long that is
    /// goes there.
    async fn hold(
        &self,
        to: Destination<'_>,
        envelope: &Envelope,
        remaining: Duration,
        deadline: Instant,
    ) -> Result<Fate, Fault> {
        let (kind, name) = match to {
            Destination::Topic(topic) => ('t', topic.as_str()),
            Destination::Queue(name) | Destination::Reply(name) => ('q', name),
        };
        let Some(length) =
            u8::try_from(name.len()).ok().filter(|_| name.len() <= MAX_ADDRESS_BYTES)
        else {
            return Ok(Fate::Unroutable);
        };
        let level = envelope.metadata.priority.unwrap_or_default().level();
        let mut held = vec![level, kind as u8, length];
        held.extend_from_slice(name.as_bytes());
        held.extend(record::encode(envelope, Some(format!("{kind}{name}"))));
        let left = deadline.saturating_duration_since(Instant::now()).max(LAST_TRY);
        let call = self.keys.call(&HOLD).arg(millis(remaining)).arg(MAX_DELAYED).arg(&held[..]);
        let Ok(permit) = timeout_at(deadline, self.window.acquire()).await else {
            return Err(Fault::Timeout(self.options.publish_timeout));
        };
        let _permit = permit.map_err(|_| Fault::Closed)?;
        match self.link.call_until(left, Again::Undone, &call).await? {
            1 => Ok(Fate::Taken),
            _ => Ok(Fate::TooManyHeld),
        }
    }
}

/// Some queues have the message: a bus that is closed then does not mean that it is nowhere.
fn half_written(fault: Fault) -> Fault {
    match fault {
        Fault::Closed => Fault::Down("the bus was closed when some queues had it".to_owned()),
        fault => fault,
    }
}

/// How long the last try may take that is made when the time is over.
const LAST_TRY: Duration = Duration::from_millis(50);
