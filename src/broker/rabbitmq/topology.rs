//! Exchanges and queues: declared, remembered, and declared again on a new connection.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    StreamExt as _,
    future::{try_join, try_join_all},
    stream,
};
use lapin::{
    Channel, ExchangeKind,
    options::{
        ExchangeBindOptions, ExchangeDeclareOptions, ExchangeUnbindOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{FieldTable, ShortString},
};
use tokio::{sync::Notify, time::sleep};

use super::{
    ConnectError, Declare, RabbitOptions, arguments,
    delay::{self, Delays},
    dial,
    fault::{Answers, Fault},
    known_queues::{self, KnownQueues},
    lane_queues::{self, LaneExchange},
    link::Session,
};
use crate::{
    broker::{QueueSpec, TopologyError},
    contract::Name,
    message::{Lane, Priorities},
};

/// How many queues are declared at a time, each on a channel.
const RESTORED_AT_ONCE: usize = 8;

/// How long to wait, each time, until others have made up their minds about a queue.
const OTHERS_AT_IT: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
];

/// What RabbitMQ says of a queue that exists, but not where it could be used.
const HOME_NODE_DOWN: &str = "home node";

/// What is declared, kept as data.
#[derive(Debug)]
pub(super) struct Topology {
    options: RabbitOptions,
    answers: Answers,
    pub(super) delays: Delays,
    /// Whether the delivery exchange is there; without it, nothing can be delayed.
    can_delay: AtomicBool,
    pub(super) queues: KnownQueues,
    /// Those that were declared again on the present connection, until their consumers know.
    restored: Mutex<(u64, BTreeSet<Name>)>,
    /// A queue was declared to which something undeliverable may belong.
    declared: Notify,
}

impl Topology {
    pub(super) fn new(options: &RabbitOptions, answers: Answers) -> Self {
        Self {
            options: options.clone(),
            delays: Delays::new(options, answers.clone()),
            answers,
            can_delay: AtomicBool::new(false),
            queues: KnownQueues::default(),
            restored: Mutex::default(),
            declared: Notify::new(),
        }
    }

    /// Tells whether publishes can be delayed.
    pub(super) fn can_delay(&self) -> bool {
        self.can_delay.load(Ordering::Relaxed)
    }

    /// Declares the exchanges, or checks that they are there.
    pub(super) async fn declare_exchanges(&self, session: &Session) -> Result<(), ConnectError> {
        let fail = |fault| dial::without_exchange(fault, &self.options);
        let passive = self.options.declare == Declare::Passive;
        let theirs = self.options.declare != Declare::Active;
        let channel = session.channel().await.map_err(fail)?;
        let main = self.exchange(&channel, self.main(), theirs);
        if passive {
            main.await.map_err(fail)?;
            match self.exchange(&channel, self.delays.delivery(), true).await {
                Err(fault) if fault.code() == Some(404) => return Ok(()),
                other => other.map_err(fail)?,
            }
        } else {
            // Both are sent before the first answer is waited for.
            try_join(main, self.delays.declare_delivery(&channel)).await.map_err(fail)?;
        }
        self.can_delay.store(true, Ordering::Relaxed);
        self.close(channel);
        Ok(())
    }

    async fn exchange(
        &self,
        channel: &Channel,
        name: ShortString,
        passive: bool,
    ) -> Result<(), Fault> {
        let options = ExchangeDeclareOptions { durable: true, passive, ..Default::default() };
        let declared =
            channel.exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default());
        self.answers.within(declared).await
    }

    /// Declares a queue with its bindings, and remembers it.
    pub(super) async fn declare(
        &self,
        session: &Session,
        spec: &QueueSpec,
    ) -> Result<(), TopologyError> {
        spec.check_name()?;
        let mut waits = OTHERS_AT_IT.iter();
        loop {
            match self.declare_once(session, spec).await {
                Err(error) if self.is_passing(&error, spec) => match waits.next() {
                    Some(wait) => sleep(*wait).await,
                    None => return Err(error),
                },
                outcome => return outcome,
            }
        }
    }

    /// Tells whether it is probably others who declare or delete the same queue right now: of one
    /// that is being made on another connection, RabbitMQ may say that its node is down.
    fn is_passing(&self, error: &TopologyError, spec: &QueueSpec) -> bool {
        match error {
            TopologyError::Missing { name } => {
                self.options.declare != Declare::Passive && name.starts_with(&*spec.name)
            }
            TopologyError::Unavailable { reason, .. } => reason.contains(HOME_NODE_DOWN),
            _ => false,
        }
    }

    async fn declare_once(&self, session: &Session, spec: &QueueSpec) -> Result<(), TopologyError> {
        // Its own channel: what goes wrong here closes the channel.
        let channel = session.channel().await.map_err(|fault| unavailable(&spec.name, fault))?;
        self.declare_queue(&channel, spec).await?;
        if spec.order() == Priorities::Lanes {
            self.declare_lanes(&channel, spec).await?;
        }
        self.bind(&channel, spec).await?;
        self.close(channel);
        self.queues.remember(spec);
        if known_queues::has_delayed(&spec.role) {
            self.declared.notify_one();
        }
        Ok(())
    }

    /// Waits until a queue is declared, or declared again, that delayed messages are meant for.
    ///
    /// For one task; what was declared since its last call counts.
    pub(super) async fn declared(&self) {
        self.declared.notified().await;
    }

    async fn declare_queue(
        &self,
        channel: &Channel,
        spec: &QueueSpec,
    ) -> Result<(), TopologyError> {
        let passive = self.options.declare == Declare::Passive;
        let options = QueueDeclareOptions { durable: true, passive, ..Default::default() };
        let table =
            if passive { FieldTable::default() } else { arguments::of(&spec.role, spec.order()) };
        let declared = channel.queue_declare(short(&spec.name), options, table);
        match self.answers.within(declared).await {
            Ok(_) => Ok(()),
            Err(fault) => Err(understood(&spec.name, fault)),
        }
    }

    /// Declares the queues of the lanes but the normal one, and the exchanges that lead to them.
    async fn declare_lanes(
        &self,
        channel: &Channel,
        spec: &QueueSpec,
    ) -> Result<(), TopologyError> {
        for lane in Lane::ALL.into_iter().filter(|lane| *lane != Lane::Normal) {
            let lane = QueueSpec::new(lane_queues::queue(&spec.name, lane), spec.role.clone());
            self.declare_queue(channel, &lane).await?;
        }
        let passive = self.options.declare == Declare::Passive;
        for exchange in lane_queues::exchanges(&spec.name) {
            let options = ExchangeDeclareOptions { durable: true, passive, ..Default::default() };
            let LaneExchange { name, kind, arguments } = exchange;
            let declared = channel.exchange_declare(name, kind, options, arguments);
            self.answers.within(declared).await.map_err(|fault| understood(&spec.name, fault))?;
        }
        self.bind_lanes(channel, spec, |_| true).await
    }

    /// Binds queues of lanes to the exchanges that lead to them.
    async fn bind_lanes(
        &self,
        channel: &Channel,
        spec: &QueueSpec,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), TopologyError> {
        let bindings = lane_queues::bindings(&spec.name).into_iter();
        let bound = bindings.filter(|(queue, ..)| wanted(queue.as_str())).map(
            |(queue, exchange, arguments)| {
                let options = QueueBindOptions::default();
                channel.queue_bind(queue, exchange, short(""), options, arguments)
            },
        );
        let outcome = self.answers.within(try_join_all(bound)).await;
        outcome.map(drop).map_err(|fault| understood(&spec.name, fault))
    }

    async fn bind(&self, channel: &Channel, spec: &QueueSpec) -> Result<(), TopologyError> {
        let queue = short(&spec.name);
        let bindings = |patterns: &[crate::contract::Pattern]| {
            let mut bindings = Vec::with_capacity(2 * patterns.len());
            for pattern in patterns {
                bindings.push((self.main(), short(pattern.as_str())));
                if self.can_delay() {
                    let key = delay::binding(&delay::topic_address(pattern.as_str()));
                    bindings.push((self.delays.delivery(), short(&key)));
                }
            }
            bindings
        };
        let mut bound = bindings(&spec.bindings);
        if self.can_delay() {
            let key = delay::binding(&delay::queue_address(&spec.name));
            bound.push((self.delays.delivery(), short(&key)));
        }
        let retired = bindings(&spec.retired);
        let unbound = if spec.order() == Priorities::Lanes {
            let lanes = lane_queues::exchange(&spec.name);
            let binds = bound.iter().cloned().map(|(exchange, key)| {
                let options = ExchangeBindOptions::default();
                let arguments = FieldTable::default();
                channel.exchange_bind(lanes.clone(), exchange, key, options, arguments)
            });
            // All are sent before the first answer is waited for.
            let outcome = self.answers.within(try_join_all(binds)).await;
            outcome.map_err(|fault| understood(&spec.name, fault))?;
            let unbinds = retired.iter().cloned().map(|(exchange, key)| {
                let options = ExchangeUnbindOptions::default();
                let arguments = FieldTable::default();
                channel.exchange_unbind(lanes.clone(), exchange, key, options, arguments)
            });
            let outcome = self.answers.within(try_join_all(unbinds)).await;
            outcome.map_err(|fault| understood(&spec.name, fault))?;
            // A queue that had no lanes before would have a second copy of everything.
            bound.into_iter().chain(retired).collect()
        } else {
            let binds = bound.into_iter().map(|(exchange, key)| {
                let options = QueueBindOptions::default();
                channel.queue_bind(queue.clone(), exchange, key, options, FieldTable::default())
            });
            let outcome = self.answers.within(try_join_all(binds)).await;
            outcome.map_err(|fault| understood(&spec.name, fault))?;
            retired
        };
        let unbound = unbound.into_iter().map(|(exchange, key)| {
            channel.queue_unbind(queue.clone(), exchange, key, FieldTable::default())
        });
        let outcome = self.answers.within(try_join_all(unbound)).await;
        outcome.map_err(|fault| understood(&spec.name, fault))?;
        Ok(())
    }

    /// Declares everything again, on a new connection.
    ///
    /// A queue that cannot be declared is left to whoever consumes from it to report; only what
    /// concerns all is an error.
    pub(super) async fn restore(&self, session: &Session) -> Result<(), ConnectError> {
        self.declare_exchanges(session).await?;
        // Several at a time: everybody waits for this.
        *self.restored() = (session.number, BTreeSet::new());
        let declare = async |spec: QueueSpec| match self.declare(session, &spec).await {
            Ok(()) => drop(self.restored().1.insert(spec.name)),
            Err(error) => tracing::warn!(%error, "cannot declare a queue again"),
        };
        stream::iter(self.queues.all()).for_each_concurrent(RESTORED_AT_ONCE, declare).await;
        Ok(())
    }

    /// Declares one queue again, where it was declared before; nothing the first time that it is asked
    /// to on a connection where [`restore`](Self::restore) has done that.
    pub(super) async fn restore_queue(
        &self,
        session: &Session,
        queue: &str,
    ) -> Result<(), TopologyError> {
        let spec = self.queues.find(queue);
        let is_restored = {
            let mut restored = self.restored();
            restored.0 == session.number && restored.1.remove(queue)
        };
        match spec {
            Some(_) if is_restored => Ok(()),
            Some(spec) if *spec.name == *queue => self.declare(session, &spec).await,
            Some(spec) => self.restore_lane(session, &spec, queue).await,
            None => Ok(()),
        }
    }

    /// Declares one lane again. The others are left alone: while the broker is deleting one of them,
    /// a declaration could find it still there.
    async fn restore_lane(
        &self,
        session: &Session,
        agent: &QueueSpec,
        queue: &str,
    ) -> Result<(), TopologyError> {
        let channel = session.channel().await;
        let channel = channel.map_err(|fault| unavailable(&agent.name, fault))?;
        let lane = QueueSpec::new(queue, agent.role.clone());
        self.declare_queue(&channel, &lane).await?;
        self.bind_lanes(&channel, agent, |bound| bound == queue).await?;
        self.close(channel);
        Ok(())
    }

    /// Closes a channel; nobody has to wait for that.
    fn close(&self, channel: Channel) {
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let closed = channel.close(200, ShortString::from("done"));
            if let Err(error) = answers.within(closed).await {
                tracing::debug!(%error, "a channel did not close cleanly");
            }
        });
    }

    fn main(&self) -> ShortString {
        short(&self.options.exchange)
    }

    fn restored(&self) -> MutexGuard<'_, (u64, BTreeSet<Name>)> {
        self.restored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names and patterns are checked before: the longest key has 255 bytes.
fn short(text: &str) -> ShortString {
    ShortString::try_new(text).expect("a checked name and its delay address fit 255 bytes")
}

/// Finds out what a refused declaration means.
fn understood(queue: &Name, fault: Fault) -> TopologyError {
    let reason = fault.to_string();
    match fault.code() {
        // NOT_FOUND - home node 'rabbit@host' of durable queue 'q' in vhost '/' is down or inaccessible
        Some(404) if reason.contains(HOME_NODE_DOWN) => unavailable(queue, fault),
        Some(404) => {
            // NOT_FOUND - no exchange 'agentbus.events' in vhost '/'
            let name = reason.split('\'').nth(1).map_or_else(|| queue.clone(), Name::from);
            TopologyError::Missing { name }
        }
        Some(403 | 405) => TopologyError::Denied { queue: queue.clone(), reason },
        Some(406) => arguments::mismatch(queue, &reason)
            .unwrap_or(TopologyError::Denied { queue: queue.clone(), reason }),
        _ => unavailable(queue, fault),
    }
}

/// Makes the error for a broker that does not answer.
pub(super) fn unavailable(queue: &Name, fault: Fault) -> TopologyError {
    if matches!(fault, Fault::Closed) {
        return TopologyError::Closed { queue: queue.clone() };
    }
    let reason = fault.to_string();
    TopologyError::Unavailable { queue: queue.clone(), reason, source: fault.source() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{QueueRole, rabbitmq::fault::Doubt};

    #[test]
    fn what_passes_is_tried_again() {
        let unavailable = |reason: &str| TopologyError::Unavailable {
            queue: "q".into(),
            reason: reason.to_owned(),
            source: None,
        };
        let missing = |name: &str| TopologyError::Missing { name: name.into() };
        let role = QueueRole::Private { max_length: 1, expires: Duration::from_secs(1) };
        let spec = QueueSpec::new("q", role);
        for (declare, error, passes) in [
            (Declare::Active, missing("q"), true),
            (Declare::Active, missing("q.urgent"), true),
            (Declare::Active, missing("agentbus.events"), false),
            (Declare::Passive, missing("q"), false),
            (
                Declare::Active,
                unavailable(
                    "NOT_FOUND - home node 'rabbit@a' of durable queue 'q' in vhost '/' is down or inaccessible",
                ),
                true,
            ),
            (Declare::Active, unavailable("no answer within 10s"), false),
        ] {
            let options = RabbitOptions { declare, ..RabbitOptions::default() };
            let answers = Answers::new(Duration::from_secs(1), Doubt::default());
            let topology = Topology::new(&options, answers);
            assert_eq!(topology.is_passing(&error, &spec), passes, "{declare:?}, {error}");
        }
    }
}
