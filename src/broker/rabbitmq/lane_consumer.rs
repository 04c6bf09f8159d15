//! Consumes from an agent's lanes: a consumer each, and one stream that takes from them by weight.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _};
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_util::sync::CancellationToken;

use super::{Core, consumer::ConsumerLoop, lane_queues};
use crate::{
    broker::{Deliveries, Delivery, QueueError, Settle, Verdict},
    message::{Lane, Turns},
};

/// Starts consumers of all lanes; returns once they are registered.
///
/// At most `prefetch` deliveries are handed out and unsettled. The broker sends each lane that many
/// and, so that there is one to choose while the next is on its way, what the lane may have in one
/// round.
pub(super) async fn start(
    core: &Arc<Core>,
    agent: &str,
    prefetch: u16,
) -> Result<Deliveries, QueueError> {
    let prefetch = prefetch.max(1);
    let mut streams = Vec::with_capacity(Lane::ALL.len());
    // The most urgent first, so that its backlog is there first.
    for lane in Lane::ALL {
        let id = core.consumers.fetch_add(1, Ordering::Relaxed);
        let sent = prefetch.saturating_add(lane.weight());
        let queue = lane_queues::queue(agent, lane);
        streams.push(ConsumerLoop::start(core, id, &queue, sent).await?);
    }
    let lanes = Lanes::new(streams);
    let cancel = core.closing.child_token();
    let (sender, receiver) = mpsc::channel(prefetch.into());
    let slots = Arc::new(Semaphore::new(prefetch.into()));
    tokio::spawn(hand_out(lanes, slots, sender, cancel.clone()));
    Ok(Deliveries::new(receiver, cancel))
}

/// Hands on deliveries, each as soon as one of the slots is free. What is not handed on is released
/// with the lanes.
async fn hand_out<S: Stream<Item = Delivery> + Unpin>(
    mut lanes: Lanes<S>,
    slots: Arc<Semaphore>,
    sender: mpsc::Sender<Delivery>,
    cancel: CancellationToken,
) {
    let forward = async {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let Some(delivery) = lanes.next().await else { return };
            let delivery = delivery.settled_by(|settle| Arc::new(Slot { settle, _permit: slot }));
            if sender.send(delivery).await.is_err() {
                return;
            }
        }
    };
    select! {
        biased;
        () = cancel.cancelled() => {}
        () = forward => {}
    }
}

/// A place among those that are handed out; free again once the delivery is settled.
#[derive(Debug)]
struct Slot {
    settle: Arc<dyn Settle>,
    _permit: OwnedSemaphorePermit,
}

impl Settle for Slot {
    fn settle(&self, tag: u64, verdict: Verdict) {
        self.settle.settle(tag, verdict);
    }
}

/// The streams of all lanes, the most urgent first, as one.
struct Lanes<S: Stream> {
    streams: Vec<Head<S>>,
    turns: Turns,
}

/// A stream and the first of its items.
struct Head<S: Stream> {
    /// None once it has ended.
    stream: Option<S>,
    first: Option<S::Item>,
}

impl<S: Stream> Lanes<S> {
    fn new(streams: Vec<S>) -> Self {
        let head = |stream| Head { stream: Some(stream), first: None };
        Self { streams: streams.into_iter().map(head).collect(), turns: Turns::default() }
    }
}

impl<S: Stream + Unpin> Head<S> {
    fn fill(&mut self, cx: &mut Context<'_>) {
        if self.first.is_some() {
            return;
        }
        let Some(stream) = &mut self.stream else { return };
        if let Poll::Ready(next) = stream.poll_next_unpin(cx) {
            if next.is_none() {
                self.stream = None;
            }
            self.first = next;
        }
    }
}

impl<S: Stream<Item: Unpin> + Unpin> Stream for Lanes<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.get_mut();
        for head in &mut this.streams {
            head.fill(cx);
        }
        let next = this.turns.next(|lane| this.streams[lane.index()].first.is_some());
        let Some(lane) = next else {
            let ended = this.streams.iter().all(|head| head.stream.is_none());
            return if ended { Poll::Ready(None) } else { Poll::Pending };
        };
        this.turns.served(lane);
        Poll::Ready(this.streams[lane.index()].first.take())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::message::Envelope;

    fn lanes(backlog: usize) -> Lanes<futures::stream::Iter<std::vec::IntoIter<Lane>>> {
        let stream = |lane| futures::stream::iter(vec![lane; backlog]);
        Lanes::new(Lane::ALL.into_iter().map(stream).collect())
    }

    #[tokio::test]
    async fn all_lanes_have_their_share_and_nothing_is_left() {
        let order: Vec<Lane> = lanes(30).collect().await;
        let count = |lane| order[..45].iter().filter(|it| **it == lane).count();
        assert_eq!(Lane::ALL.map(count), [24, 12, 6, 3]);
        let all = |lane| order.iter().filter(|it| **it == lane).count();
        assert_eq!(Lane::ALL.map(all), [30; 4]);
    }

    #[derive(Debug, Default)]
    struct Settled(Mutex<Vec<u64>>);

    impl Settle for Settled {
        fn settle(&self, tag: u64, _: Verdict) {
            self.0.lock().unwrap().push(tag);
        }
    }

    #[tokio::test]
    async fn no_more_are_handed_out_than_there_are_slots() {
        let settled = Arc::new(Settled::default());
        let deliveries = (0..3).map({
            let settled = settled.clone();
            move |tag| Delivery::new(Envelope::default(), false, settled.clone(), tag)
        });
        let streams: Vec<_> = Lane::ALL
            .map(|lane| match lane {
                Lane::Low => futures::stream::iter(deliveries.clone().collect::<Vec<_>>()),
                _ => futures::stream::iter(Vec::new()),
            })
            .into();
        let (sender, mut handed_out) = mpsc::channel(2);
        let slots = Arc::new(Semaphore::new(2));
        let cancel = CancellationToken::new();
        let task = tokio::spawn(hand_out(Lanes::new(streams), slots, sender, cancel));
        let (first, second) = (handed_out.recv().await.unwrap(), handed_out.recv().await.unwrap());
        tokio::task::yield_now().await;
        assert!(handed_out.try_recv().is_err());
        second.ack();
        let third = handed_out.recv().await.unwrap();
        first.release();
        drop(third);
        task.await.unwrap();
        assert!(handed_out.recv().await.is_none());
        assert_eq!(*settled.0.lock().unwrap(), [1, 0, 2]);
    }
}
