//! The limit of what is in one process: channels of encoded messages.

use std::time::Instant;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

use super::{
    measure::{Figures, Meter},
    message::{Sample, samples},
    plan::{Kind, Run},
};

/// As many as agentbus has unconfirmed.
const BOUND: usize = 256;

pub async fn measure(run: &Run) -> Figures {
    match run.workload.kind {
        Kind::Request { in_flight } => requests(run, in_flight).await,
        Kind::Fanout { agents } => flow(run, agents, agents).await,
        Kind::Agents { agents } => flow(run, agents, 1).await,
        Kind::Publish | Kind::Handle | Kind::Pipe => flow(run, 1, 1).await,
    }
}

/// Sends each message to `copies` of the receivers.
async fn flow(run: &Run, receivers: usize, copies: usize) -> Figures {
    let each = run.count * copies / receivers;
    let meter = Meter::start();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..receivers)
        .map(|_| {
            let (sender, mut receiver) = mpsc::channel::<Bytes>(BOUND);
            let receiver = tokio::spawn(async move {
                for _ in 0..each {
                    let encoded = receiver.recv().await.expect("a message");
                    std::hint::black_box(Sample::decode(encoded).expect("a sample"));
                }
            });
            (sender, receiver)
        })
        .unzip();
    for (i, sample) in samples(run.workload.body, run.count).enumerate() {
        let encoded = Bytes::from(sample.encode_to_vec());
        for copy in 0..copies {
            let sender = &senders[(i + copy) % senders.len()];
            sender.send(encoded.clone()).await.expect("a receiver");
        }
    }
    for receiver in receivers {
        receiver.await.expect("a receiver");
    }
    meter.stop(run.count * copies)
}

async fn requests(run: &Run, in_flight: usize) -> Figures {
    let (sender, mut receiver) = mpsc::channel::<(Bytes, oneshot::Sender<Bytes>)>(BOUND);
    tokio::spawn(async move {
        while let Some((encoded, reply)) = receiver.recv().await {
            let sample = Sample::decode(encoded).expect("a sample");
            let _ = reply.send(Bytes::from(sample.encode_to_vec()));
        }
    });
    let mut meter = Meter::start();
    let asked = samples(run.workload.body, run.count).map(|sample| {
        let sender = &sender;
        async move {
            let asked = Instant::now();
            let (reply, replied) = oneshot::channel();
            let encoded = Bytes::from(sample.encode_to_vec());
            sender.send((encoded, reply)).await.expect("a receiver");
            Sample::decode(replied.await.expect("a reply")).expect("a sample");
            asked.elapsed()
        }
    });
    let mut replies = stream::iter(asked).buffer_unordered(in_flight);
    while let Some(time) = replies.next().await {
        meter.took(time);
    }
    drop(replies);
    meter.stop(run.count)
}
