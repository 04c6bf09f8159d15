//! Who is told of dead letters: the runtime's hook, and whoever listens to the event.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::task::TaskTracker;

use crate::{
    broker::PublishError,
    client::{Client, DeadLetter, Origin, PublishOptions},
    config::Config,
    contract::{Name, Topic, full_name},
    message::{Envelope, Failure, Metadata},
    proto::v1::DeadLettered,
};

/// The event that an agent has moved a message to its dead letters.
///
/// Published where [`DeadLetters::announce`](crate::config::DeadLetters::announce) is on, by the
/// agent that failed, once the dead letter is confirmed. Best effort: at most 64 are on their way at
/// a time, and one that cannot be published is logged and dropped, since the dead letter itself is
/// kept. A dead letter that is such an event causes none.
pub const DEAD_LETTERED: Topic<DeadLettered> = Topic::new("agentbus.dead-lettered");

/// How long a hook may take.
const HOOK: Duration = Duration::from_secs(10);

/// How many events are on their way at most.
const EVENTS: usize = 64;

type Hook = Box<dyn Fn(DeadLetter) -> BoxFuture<'static, ()> + Send + Sync>;

/// Tells of dead letters.
pub(super) struct Notices {
    hook: Option<Hook>,
    events: Arc<Semaphore>,
}

impl Default for Notices {
    fn default() -> Self {
        Self { hook: None, events: Arc::new(Semaphore::new(EVENTS)) }
    }
}

impl Notices {
    /// Sets who is called.
    pub(super) fn hook<F, Fut>(&mut self, hook: F)
    where
        F: Fn(DeadLetter) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hook = Some(Box::new(move |letter| Box::pin(hook(letter))));
    }

    /// Tells whether anybody wants to be told.
    pub(super) fn are_wanted(&self, config: &Config) -> bool {
        self.hook.is_some() || config.dead_letters.announce
    }

    /// Tells of a dead letter that was confirmed. Takes no longer than the hook may.
    pub(super) async fn tell(
        &self,
        client: &Client,
        tasks: &TaskTracker,
        queue: &Name,
        letter: Envelope,
    ) {
        if client.config().dead_letters.announce {
            self.announce(client, tasks, queue, &letter);
        }
        let Some(hook) = &self.hook else { return };
        let call = AssertUnwindSafe(async { hook(DeadLetter::new(letter)).await }).catch_unwind();
        match timeout(HOOK, call).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => tracing::error!(%queue, "the hook for dead letters panicked"),
            Err(_) => {
                tracing::error!(%queue, limit = ?HOOK, "the hook for dead letters took too long");
            }
        }
    }

    /// Publishes the event, without waiting for it.
    fn announce(&self, client: &Client, tasks: &TaskTracker, queue: &Name, letter: &Envelope) {
        let Envelope { topic, metadata, .. } = letter;
        let is_event =
            metadata.message_type.as_ref().is_some_and(|name| *name == full_name::<DeadLettered>())
                || topic.as_ref() == Some(DEAD_LETTERED.name());
        let Some(failure) = metadata.failure.as_deref().filter(|_| !is_event) else { return };
        let event = event(queue, topic.as_ref(), metadata, failure);
        let Ok(permit) = Arc::clone(&self.events).try_acquire_owned() else {
            tracing::warn!(%queue, "dropped the event of a dead letter: too many are on their way");
            return;
        };
        let (client, queue) = (client.clone(), queue.clone());
        let cause = Metadata { deadline: None, failure: None, ..metadata.clone() };
        tasks.spawn(async move {
            let _permit = permit;
            let origin = Origin::of(&cause);
            let published =
                client.publish_from(origin, DEAD_LETTERED, &event, PublishOptions::default());
            match published.await {
                Ok(_) => {}
                Err(PublishError::Unroutable { .. }) => {
                    tracing::debug!(%queue, "nobody listens to the events of dead letters");
                }
                Err(error) => {
                    tracing::warn!(%queue, %error, "could not publish the event of a dead letter");
                }
            }
        });
    }
}

fn event(
    queue: &Name,
    topic: Option<&Name>,
    metadata: &Metadata,
    failure: &Failure,
) -> DeadLettered {
    let text = |name: Option<&Name>| name.map(ToString::to_string).unwrap_or_default();
    DeadLettered {
        agent: failure.agent.to_string(),
        queue: queue.to_string(),
        message_id: metadata.message_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        message_type: text(metadata.message_type.as_ref()),
        topic: text(topic),
        kind: failure.kind.to_string(),
        error: failure.error.to_string(),
        attempts: failure.attempts,
        at: i64::try_from(failure.at.as_millis()).unwrap_or(i64::MAX),
        instance: text(failure.instance.as_ref()),
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notices").field("hook", &self.hook.is_some()).finish_non_exhaustive()
    }
}
