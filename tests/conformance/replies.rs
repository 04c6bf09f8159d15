//! Replies: to inboxes, to queues, and to addresses that nobody has.

use std::{collections::HashMap, sync::Arc};

use agentbus::{
    Envelope, Id, Name,
    broker::{Broker, Destination, Inbox, PublishError},
};
use futures::future::join_all;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::bench::{Bench, SILENCE, ack_next, consume, error, numbered, within};

async fn open(broker: &dyn Broker) -> (Arc<dyn Inbox>, mpsc::UnboundedReceiver<Envelope>) {
    let (sender, replies) = mpsc::unbounded_channel();
    let sink = Arc::new(move |reply| drop(sender.send(reply)));
    (within("an inbox", broker.inbox(sink)).await.expect("an inbox opens"), replies)
}

/// Answers each request with its own body, over a connection of its own.
async fn echo(bench: &Bench, topic: &Name) -> JoinHandle<()> {
    let queue = bench.work("echo", &[topic]).await;
    let broker = bench.connect().await;
    let mut requests = consume(&*broker, &queue, 32).await;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let asked = request.envelope();
            let to = asked.metadata.reply_to.clone().expect("a request says where");
            let mut reply = Envelope { topic: None, ..asked.clone() };
            reply.metadata.reply_to = None;
            broker.publish(Destination::Reply(&to), reply).await.expect("somebody waits");
            request.ack();
        }
    })
}

async fn a_request_is_answered(bench: &Bench) {
    let topic = bench.name("t");
    let echo = echo(bench, &topic).await;
    let (inbox, mut replies) = open(&*bench.broker).await;
    let mut request = numbered(7);
    request.metadata.correlation_id = Some(Id::new());
    request.metadata.headers.set("tenant", "größe").unwrap();
    inbox.publish(Destination::Topic(&topic), request.clone()).await.expect("somebody listens");
    let reply = within("a reply", replies.recv()).await.expect("the inbox is open");
    assert_eq!(reply.payload, request.payload);
    assert_eq!(reply.metadata.correlation_id, request.metadata.correlation_id);
    assert_eq!(reply.metadata.headers, request.metadata.headers);
    assert_eq!(reply.topic, None);
    echo.abort();
}

async fn a_hundred_requests_at_once_are_answered(bench: &Bench) {
    let topic = bench.name("t");
    let echo = echo(bench, &topic).await;
    let (inbox, mut replies) = open(&*bench.broker).await;
    let mut asked = HashMap::new();
    let mut requests = Vec::new();
    for number in 0..100 {
        let mut request = numbered(number);
        let id = Id::new();
        request.metadata.correlation_id = Some(id.clone());
        asked.insert(id, request.payload.clone());
        requests.push(inbox.publish(Destination::Topic(&topic), request));
    }
    for asked in join_all(requests).await {
        asked.expect("somebody listens");
    }
    while !asked.is_empty() {
        let reply = within("all replies", replies.recv()).await.expect("the inbox is open");
        let id = reply.metadata.correlation_id.expect("a reply says to what");
        assert_eq!(asked.remove(&id), Some(reply.payload));
    }
    echo.abort();
}

async fn replies_come_to_the_inbox_that_asked(bench: &Bench) {
    let topic = bench.name("t");
    let echo = echo(bench, &topic).await;
    let other = bench.connect().await;
    let (ours, mut our_replies) = open(&*bench.broker).await;
    let (theirs, mut their_replies) = open(&*other).await;
    ours.publish(Destination::Topic(&topic), numbered(1)).await.expect("somebody listens");
    theirs.publish(Destination::Topic(&topic), numbered(2)).await.expect("somebody listens");
    let ours = within("our reply", our_replies.recv()).await.unwrap();
    let theirs = within("their reply", their_replies.recv()).await.unwrap();
    assert_eq!((ours.payload, theirs.payload), (numbered(1).payload, numbered(2).payload));
    assert!(our_replies.try_recv().is_err() && their_replies.try_recv().is_err());
    echo.abort();
}

async fn a_request_that_nobody_hears_comes_back(bench: &Bench) {
    let (inbox, _replies) = open(&*bench.broker).await;
    let nowhere = bench.name("nowhere");
    let unheard = within("publish", inbox.publish(Destination::Topic(&nowhere), numbered(1))).await;
    assert!(matches!(error(unheard), PublishError::Unroutable { .. }));
}

async fn a_reply_to_a_closed_inbox_does_no_harm(bench: &Bench) {
    let topic = bench.name("t");
    let queue = bench.work("q", &[&topic]).await;
    let (inbox, mut replies) = open(&*bench.broker).await;
    inbox.publish(Destination::Topic(&topic), numbered(1)).await.expect("somebody listens");
    let mut requests = bench.consume(&queue, 1).await;
    let request = crate::bench::next(&mut requests).await;
    let to = request.envelope().metadata.reply_to.clone().expect("a request says where");
    drop(inbox);
    let other = bench.connect().await;
    let replied = within("publish", other.publish(Destination::Reply(&to), numbered(2))).await;
    if bench.knows_gone_inboxes() {
        assert!(matches!(error(replied), PublishError::Unroutable { .. }));
    }
    let silent = tokio::time::timeout(SILENCE, replies.recv()).await;
    assert!(!matches!(silent, Ok(Some(_))), "the sink was called after the inbox was closed");
    request.ack();
}

async fn a_reply_goes_to_a_queue_by_its_name(bench: &Bench) {
    let queue = bench.work("q", &[]).await;
    let other = bench.connect().await;
    other.publish(Destination::Reply(&queue), numbered(5)).await.expect("the queue is there");
    let mut deliveries = bench.consume(&queue, 1).await;
    assert_eq!(ack_next(&mut deliveries, 1).await, [5]);
}

/// `reply_to` comes from a stranger, so it may be anything.
async fn a_reply_to_a_forged_address_ends(bench: &Bench) {
    let forged = bench.name("inbox.nobody");
    let reply = within("publish", bench.broker.publish(Destination::Reply(&forged), numbered(1)));
    assert!(matches!(error(reply.await), PublishError::Unroutable { .. }));
    let long = "a".repeat(300);
    for address in [
        "",
        "#",
        "inbox.",
        "amq.rabbitmq.reply-to",
        "amq.rabbitmq.reply-to.g1h2AA5yZXBseUA2NjY2NjY2NjY.forged==",
        "with space\n",
        "größe",
        &long,
    ] {
        // How it ends is for the engine to say; that it ends is not.
        let reply = bench.broker.publish(Destination::Reply(address), numbered(1));
        let _ = within(&format!("a reply to `{address}`"), reply).await;
    }
    let topic = bench.name("t");
    let echo = echo(bench, &topic).await;
    let (inbox, mut replies) = open(&*bench.broker).await;
    inbox.publish(Destination::Topic(&topic), numbered(1)).await.expect("somebody listens");
    assert!(within("a reply after all that", replies.recv()).await.is_some());
    echo.abort();
}

cases! {
    a_request_is_answered,
    a_hundred_requests_at_once_are_answered,
    replies_come_to_the_inbox_that_asked,
    a_request_that_nobody_hears_comes_back,
    a_reply_to_a_closed_inbox_does_no_harm,
    a_reply_goes_to_a_queue_by_its_name,
    a_reply_to_a_forged_address_ends,
}
