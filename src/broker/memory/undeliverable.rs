//! What cannot be delivered: kept aside, and brought back once its queue is there.

use std::sync::Arc;

use super::{address::Address, engine::Engine, ready::Message, state::Left};
use crate::{
    broker::{DeadLetterLimits, Overflow, QueueRole, QueueSpec},
    contract::Name,
    message::{Envelope, Failure, FailureKind, Timestamp},
};

/// Queue of delayed messages that nobody was bound to when they were due, and of crash loops whose
/// dead-letter queue does not exist.
///
/// It is made when first needed, and bounded as dead letters are by default, except that the
/// oldest makes room.
pub const UNDELIVERABLE: &str = "agentbus.events.delay.v1.undeliverable";

impl Engine {
    /// Delivers what was undeliverable, where its destination is there now.
    pub(super) fn bring_back(&self, belongs: impl Fn(&Address) -> bool) {
        let mut meant = self.astray.meant_for(belongs);
        if meant.is_empty() {
            return;
        }
        let Some(queue) = self.exchange.queue(UNDELIVERABLE) else { return };
        let found = queue.take_out(|envelope| meant.contains_key(&Arc::as_ptr(envelope)));
        for envelope in found {
            if let Some(to) = meant.remove(&Arc::as_ptr(&envelope)) {
                self.hand_out(to.as_destination(), &envelope);
            }
        }
    }

    /// Moves a message that came back too often to where the queue's failures go.
    pub(super) fn give_up(&self, queue: &Name, dead_letters: Option<&Name>, message: &Message) {
        let Some(dead_letters) = dead_letters else { return };
        let mut envelope = (*message.envelope).clone();
        envelope.metadata.failure = Some(Box::new(Failure {
            kind: FailureKind::CrashLoop,
            error: format!("handed out {} times and never settled", message.releases).into(),
            agent: queue.clone(),
            instance: None,
            topic: envelope.topic.clone(),
            attempts: envelope.metadata.attempt(),
            at: Timestamp::now(),
        }));
        let envelope = Arc::new(envelope);
        let kept = self.exchange.queue(dead_letters);
        let left = kept.map(|queue| queue.leave_here(&envelope, &self.unattended));
        if left != Some(Left::Here) {
            self.keep_undeliverable(&envelope);
        }
    }

    pub(super) fn keep_undeliverable(&self, envelope: &Arc<Envelope>) {
        let limits = DeadLetterLimits { overflow: Overflow::DropOldest, ..Default::default() };
        let spec = QueueSpec::new(Name::from_static(UNDELIVERABLE), QueueRole::DeadLetters(limits));
        match self.declare(&spec) {
            Ok(queue) => _ = queue.leave_here(envelope, &self.unattended),
            Err(error) => tracing::error!(%error, "an undeliverable message is lost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Memory,
            tests::{HOUR, body, dead_letters, next, private, work},
        },
        *,
    };
    use crate::broker::{Broker as _, Destination};

    async fn crash(bus: &Memory, queue: &str) {
        let mut deliveries = bus.consume(queue, 1).await.unwrap();
        for _ in 0..=crate::broker::limits::RELEASE_LIMIT {
            next(&mut deliveries).await.release();
        }
        assert_eq!(bus.stats(queue).await.unwrap().ready, 0);
    }

    #[tokio::test]
    async fn a_crash_loop_ends_in_the_dead_letters_with_its_reason() {
        let bus = Memory::default();
        bus.declare(&work("data", 10)).await.unwrap();
        bus.declare(&dead_letters("data.dlq", DeadLetterLimits::default())).await.unwrap();
        bus.publish(Destination::Queue("data"), body("crash")).await.unwrap();
        crash(&bus, "data").await;
        let mut dead = bus.consume("data.dlq", 1).await.unwrap();
        let delivery = next(&mut dead).await;
        let failure = delivery.envelope().metadata.failure.clone().unwrap();
        assert_eq!((failure.kind, failure.agent), (FailureKind::CrashLoop, "data".into()));
        assert_eq!(delivery.envelope().payload, "crash");
    }

    #[tokio::test]
    async fn a_crash_loop_without_dead_letters_is_kept_aside_or_dropped() {
        let bus = Memory::default();
        bus.declare(&work("data", 10)).await.unwrap();
        bus.publish(Destination::Queue("data"), body("crash")).await.unwrap();
        crash(&bus, "data").await;
        assert_eq!(bus.stats(UNDELIVERABLE).await.unwrap().ready, 1);
        bus.declare(&private("mine", HOUR)).await.unwrap();
        bus.publish(Destination::Queue("mine"), body("crash")).await.unwrap();
        crash(&bus, "mine").await;
        assert_eq!(bus.stats(UNDELIVERABLE).await.unwrap().ready, 1);
    }
}
