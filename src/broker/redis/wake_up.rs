//! Wakes those who wait for something to do.
//!
//! Whoever puts something into a queue says so on one channel of the bus. What is said while nobody
//! listens is lost: after each loss of the connection all are woken, and whoever waits does so with a
//! timer beside.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use redis::{FromRedisValue, PushInfo, PushKind};
use tokio::sync::Notify;

/// All who wait in this process, by the name they wait for.
#[derive(Clone, Debug, Default)]
pub(super) struct Bells(Arc<Shared>);

/// Those who wait for each name, numbered.
type Waiting = HashMap<String, Vec<(u64, Arc<Notify>)>>;

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    next: AtomicU64,
}

impl Bells {
    /// Listens for a name, such as a queue's, until the bell is dropped.
    pub(super) fn listen(&self, name: &str) -> Bell {
        let (id, notify) = (self.0.next.fetch_add(1, Relaxed), Arc::new(Notify::new()));
        self.waiting().entry(name.to_owned()).or_default().push((id, notify.clone()));
        Bell { id, name: name.to_owned(), notify, bells: self.clone() }
    }

    /// Wakes all who wait for `name`.
    pub(super) fn ring(&self, name: &str) {
        for (_, notify) in self.waiting().get(name).into_iter().flatten() {
            notify.notify_one();
        }
    }

    /// Wakes everybody: nobody knows what was missed.
    pub(super) fn ring_all(&self) {
        for (_, notify) in self.waiting().values().flatten() {
            notify.notify_one();
        }
    }

    /// Takes what arrives on a subscription: names, one a line.
    pub(super) fn hear(&self, push: PushInfo) {
        if push.kind != PushKind::Message {
            return;
        }
        let Some(said) = push.data.into_iter().nth(1) else { return };
        let Ok(names) = <Vec<u8> as FromRedisValue>::from_redis_value(said) else { return };
        // What cannot be read is somebody else's.
        std::str::from_utf8(&names).unwrap_or_default().lines().for_each(|name| self.ring(name));
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rings when something may be to be done.
#[derive(Debug)]
pub(super) struct Bell {
    id: u64,
    name: String,
    notify: Arc<Notify>,
    bells: Bells,
}

impl Bell {
    /// Waits until it rings; for one task. Rings before count once.
    ///
    /// # Cancel safety
    ///
    /// A ring is not lost with a dropped future that has not returned.
    pub(super) async fn rung(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let mut waiting = self.bells.waiting();
        if let Some(of_name) = waiting.get_mut(&self.name) {
            of_name.retain(|(id, _)| *id != self.id);
            if of_name.is_empty() {
                waiting.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use redis::Value;

    use super::*;

    fn rings(bell: &Bell) -> bool {
        bell.rung().now_or_never().is_some()
    }

    fn message(text: &[u8]) -> PushInfo {
        let data = [b"channel".as_slice(), text].map(|bytes| Value::BulkString(bytes.to_vec()));
        PushInfo { kind: PushKind::Message, data: data.to_vec() }
    }

    #[test]
    fn those_who_wait_for_a_name_are_woken_once_however_often_it_is_said() {
        let bells = Bells::default();
        let (data, again, news) =
            (bells.listen("data"), bells.listen("data"), bells.listen("news"));
        bells.hear(message(b"data"));
        bells.hear(message(b"data"));
        assert!(rings(&data) && rings(&again) && !rings(&news));
        assert!(!rings(&data));
        bells.hear(message(b"other\nnews"));
        assert!(rings(&news) && !rings(&data));
        bells.ring_all();
        assert!(rings(&news) && rings(&data));
    }

    #[test]
    fn what_is_no_message_of_ours_wakes_nobody() {
        let bells = Bells::default();
        let data = bells.listen("data");
        bells.hear(message(&[0xff, 0xfe]));
        bells.hear(PushInfo { kind: PushKind::Message, data: vec![Value::Int(1)] });
        bells.hear(PushInfo { kind: PushKind::Subscribe, ..message(b"data") });
        assert!(!rings(&data));
    }

    #[test]
    fn a_bell_that_is_gone_leaves_nothing_behind() {
        let bells = Bells::default();
        let (one, other) = (bells.listen("data"), bells.listen("data"));
        drop(one);
        bells.ring("data");
        assert!(rings(&other));
        drop(other);
        assert!(bells.waiting().is_empty());
    }
}
