//! Closing: nothing that was taken is lost, and nothing hangs.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use agentbus::broker::{Destination, PublishError, QueueError, Stage, TopologyError};

use crate::bench::{
    Bench, ack_next, consume, error, next, number, numbered, publish, rest, within,
};

async fn closing_twice_is_fine(bench: &Bench) {
    let broker = bench.connect().await;
    within("close", broker.close()).await;
    within("close", broker.close()).await;
    let both = async { tokio::join!(bench.broker.close(), bench.broker.close()) };
    within("closing at once", both).await;
}

async fn whatever_comes_after_it_is_an_error(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let broker = bench.connect().await;
    let inbox = broker.inbox(Arc::new(|_| {})).await.expect("an inbox opens");
    broker.close().await;
    for published in [
        within("publish", broker.publish(Destination::Topic(&topic), numbered(7))).await,
        within("publish", broker.publish(Destination::Queue(&queue), numbered(7))).await,
        within("publish", inbox.publish(Destination::Topic(&topic), numbered(7))).await,
    ] {
        match error(published) {
            PublishError::Closed { envelope, .. } => {
                assert_eq!(envelope.payload, numbered(7).payload);
            }
            other => panic!("expected `Closed`, got {other:?}"),
        }
    }
    let spec = bench.spec("q2", bench.work_role("q2", 10), &[]);
    let declared = error(within("declare", broker.declare(&spec)).await);
    assert!(matches!(declared, TopologyError::Closed { .. }), "{declared:?}");
    for failed in [
        error(within("consume", broker.consume(&queue, 1)).await),
        error(within("stats", broker.stats(&queue)).await),
        error(within("purge", broker.purge(&queue)).await),
        error(within("delete", broker.delete(&queue)).await),
        within("inbox", broker.inbox(Arc::new(|_| {}))).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(failed, QueueError::Closed), "{failed:?}");
    }
    bench.ready(&queue, 0).await;
}

async fn health_says_that_it_is_closed(bench: &Bench) {
    let broker = bench.connect().await;
    let mut health = broker.health();
    let consuming = health.wait_for(|health| health.stage == Stage::Consuming);
    drop(within("a healthy connection", consuming).await.expect("the connection is there"));
    broker.close().await;
    let closed = health.wait_for(|health| health.stage == Stage::Closed);
    within("the news of the end", closed).await.expect("the connection is there");
}

async fn another_connection_goes_on(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let broker = bench.connect().await;
    let theirs = consume(&*broker, &queue, 1).await;
    let mut ours = bench.consume(&queue, 10).await;
    broker.close().await;
    assert!(rest(theirs).await.is_empty());
    bench.publish_numbers(&topic, 0..10).await;
    assert_eq!(ack_next(&mut ours, 10).await, (0..10).collect::<Vec<_>>());
}

/// 10 000 messages by 20 publishers, closed in the middle.
async fn what_was_taken_is_there_after_closing(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let broker = bench.connect().await;
    let taken_so_far = Arc::new(AtomicU32::new(0));
    let mut publishers = Vec::new();
    for publisher in 0..20 {
        let (broker, topic, count) = (broker.clone(), topic.clone(), taken_so_far.clone());
        publishers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            for number in publisher * 500..(publisher + 1) * 500 {
                match broker.publish(Destination::Topic(&topic), numbered(number)).await {
                    Ok(()) => {
                        taken.push(number);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(PublishError::Closed { .. } | PublishError::Unconfirmed { .. }) => break,
                    Err(other) => panic!("{other:?}"),
                }
            }
            taken
        }));
    }
    while taken_so_far.load(Ordering::Relaxed) < 1000 {
        tokio::task::yield_now().await;
    }
    within("close", broker.close()).await;
    let mut taken = HashSet::new();
    for publisher in publishers {
        taken.extend(within("the end of a publisher", publisher).await.expect("it does not panic"));
    }
    let mut deliveries = bench.consume(&queue, 500).await;
    while !taken.is_empty() {
        let delivery = next(&mut deliveries).await;
        taken.remove(&number(&delivery));
        delivery.ack();
    }
}

async fn a_publish_that_waits_for_room_ends(bench: &Bench) {
    let topic = bench.name("t");
    bench.bounded("q", 1, &[&topic]).await;
    let broker = bench.connect().await;
    bench.publish_numbers(&topic, [1]).await;
    let waiting = async {
        loop {
            if let Err(error) = publish(&*broker, &topic, numbered(2)).await {
                return error;
            }
        }
    };
    let (ended, ()) = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        broker.close().await;
    });
    if bench.waits_for_room() {
        assert!(matches!(ended, PublishError::Closed { .. }), "{ended:?}");
    }
}

async fn closing_while_consuming_gives_back_what_is_unsettled(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let broker = bench.connect().await;
    let mut deliveries = consume(&*broker, &queue, 10).await;
    bench.publish_numbers(&topic, 0..30).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(next(&mut deliveries).await);
    }
    within("close with deliveries in hand", broker.close()).await;
    rest(deliveries).await;
    let mut again = bench.consume(&queue, 10).await;
    // Settling what was taken back has no effect.
    held.pop().expect("five are held").ack();
    drop(held);
    assert_eq!(ack_next(&mut again, 30).await, (0..30).collect::<Vec<_>>());
}

async fn closing_while_publishing_and_consuming_ends_both(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let broker = bench.connect().await;
    let mut deliveries = consume(&*broker, &queue, 10).await;
    let consuming = tokio::spawn(async move {
        let mut count = 0;
        while let Some(delivery) = deliveries.next().await {
            delivery.ack();
            count += 1;
        }
        count
    });
    let publisher = broker.clone();
    let publishing = tokio::spawn(async move {
        for number in 0.. {
            if publisher.publish(Destination::Topic(&topic), numbered(number)).await.is_err() {
                return number;
            }
        }
        unreachable!("it is closed before the numbers end")
    });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    within("close", broker.close()).await;
    let taken = within("the end of publishing", publishing).await.expect("it does not panic");
    let consumed = within("the end of consuming", consuming).await.expect("it does not panic");
    // What was on its way to the consumer comes back a moment after its channel is closed.
    bench.counts(&queue, |stats| stats.ready + consumed >= u64::from(taken)).await;
}

async fn an_inbox_ends_with_its_connection(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let broker = bench.connect().await;
    let (sender, mut replies) = tokio::sync::mpsc::unbounded_channel();
    let inbox = broker
        .inbox(Arc::new(move |reply| drop(sender.send(reply))))
        .await
        .expect("an inbox opens");
    inbox.publish(Destination::Topic(&topic), numbered(1)).await.expect("somebody listens");
    broker.close().await;
    let mut requests = bench.consume(&queue, 1).await;
    let request = next(&mut requests).await;
    let to = request.envelope().metadata.reply_to.clone().expect("a request says where");
    let reply = bench.broker.publish(Destination::Reply(&to), numbered(2));
    let replied = within("publish", reply).await;
    if bench.knows_gone_inboxes() {
        assert!(matches!(error(replied), PublishError::Unroutable { .. }));
    }
    assert!(replies.try_recv().is_err());
    request.ack();
}

cases! {
    closing_twice_is_fine,
    whatever_comes_after_it_is_an_error,
    health_says_that_it_is_closed,
    another_connection_goes_on,
    what_was_taken_is_there_after_closing,
    a_publish_that_waits_for_room_ends,
    closing_while_consuming_gives_back_what_is_unsettled,
    closing_while_publishing_and_consuming_ends_both,
    an_inbox_ends_with_its_connection,
}
