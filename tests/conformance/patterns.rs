//! Topic patterns, as AMQP defines them.

use std::sync::Arc;

use agentbus::{
    Name,
    broker::{Destination, PublishError},
    message::Id,
};
use tokio::sync::mpsc;

use crate::bench::{Bench, ack_next, next, numbered, publish, silent, within};

/// A pattern, topics it matches, and topics it does not.
type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

const TABLE: &[Row] = &[
    ("a.b", &["a.b"], &["a", "a.c", "a.b.c", "x.a.b", "A.b"]),
    ("*", &["a", "b"], &["a.b"]),
    ("a.*", &["a.b", "a.c"], &["a", "a.b.c", "b.a"]),
    ("*.b", &["a.b"], &["b", "a.b.c", "a.c"]),
    ("a.*.c", &["a.b.c", "a.x.c"], &["a.c", "a.b.b.c"]),
    ("*.*", &["a.b"], &["a", "a.b.c"]),
    ("#", &["a", "a.b", "a.b.c.d.e"], &[]),
    ("a.#", &["a", "a.b", "a.b.c"], &["b", "b.a", "ab"]),
    ("#.b", &["b", "a.b", "a.a.b", "b.b"], &["a", "b.a"]),
    ("a.#.c", &["a.c", "a.b.c", "a.b.b.c", "a.c.c"], &["a", "c", "a.c.b"]),
    ("#.b.#", &["b", "a.b", "b.c", "a.b.c", "a.a.b.c.c"], &["a", "a.c"]),
    ("*.#", &["a", "a.b", "a.b.c"], &[]),
    ("#.*", &["a", "a.b", "a.b.c"], &[]),
    ("*.#.*", &["a.b", "a.b.c"], &["a"]),
    ("#.#", &["a", "a.b"], &[]),
    ("a.*.#", &["a.b", "a.b.c"], &["a", "b.a"]),
    ("a.#.*", &["a.b", "a.b.c"], &["a"]),
    ("#.a.*.#", &["a.b", "x.a.b", "x.a.b.c"], &["a", "x.a"]),
    ("größe.*", &["größe.ü"], &["grosse.u"]),
];

async fn wildcards_match_as_amqp_defines_them(bench: &Bench) {
    for (row, (pattern, matching, others)) in TABLE.iter().enumerate() {
        let queue = bench.private(&format!("q{row}"), &[pattern]).await;
        for topic in *matching {
            let published = publish(&*bench.broker, &Name::from(*topic), numbered(1)).await;
            assert!(published.is_ok(), "`{pattern}` matches `{topic}`: {published:?}");
        }
        for topic in *others {
            let published = publish(&*bench.broker, &Name::from(*topic), numbered(1)).await;
            assert!(
                matches!(published, Err(PublishError::Unroutable { .. })),
                "`{pattern}` does not match `{topic}`: {published:?}"
            );
        }
        bench.ready(&queue, matching.len() as u64).await;
        bench.broker.delete(&queue).await.expect("the queue is deleted");
    }
}

async fn a_queue_gets_one_copy_by_however_many_patterns(bench: &Bench) {
    let queue = bench.work("q", &["#", "a.#", "a.b", "*.b"]).await;
    bench.publish_numbers(&"a.b".into(), 0..3).await;
    let mut deliveries = bench.consume(&queue, 10).await;
    assert_eq!(ack_next(&mut deliveries, 3).await, [0, 1, 2]);
    silent(&mut deliveries).await;
}

async fn everybody_some_and_one(bench: &Bench) {
    let mut agents = Vec::new();
    for (name, kind) in [("one", "data"), ("two", "data"), ("three", "query")] {
        let patterns =
            [format!("message.{name}"), format!("message.{kind}"), "message.all".to_owned()];
        let queue = bench.private(name, &patterns.each_ref().map(String::as_str)).await;
        agents.push(bench.consume(&queue, 10).await);
    }
    bench.publish_numbers(&"message.one".into(), [1]).await;
    bench.publish_numbers(&"message.data".into(), [2]).await;
    bench.publish_numbers(&"message.all".into(), [3]).await;
    for (deliveries, expected) in agents.iter_mut().zip([&[1, 2, 3][..], &[2, 3], &[3]]) {
        assert_eq!(ack_next(deliveries, expected.len()).await, expected);
        silent(deliveries).await;
    }
}

/// An observer on `#` that never settles well must not keep a request from its reply.
async fn a_failing_observer_does_not_disturb_a_request(bench: &Bench) {
    let topic = bench.name("data.request");
    let observer = bench.work("observer", &["#"]).await;
    let responder = bench.work("responder", &[&topic]).await;
    let mut observed = bench.consume(&observer, 1).await;
    let mut requests = bench.consume(&responder, 10).await;

    let (replies, mut replied) = mpsc::unbounded_channel();
    let sink = Arc::new(move |reply| drop(replies.send(reply)));
    let inbox = bench.broker.inbox(sink).await.expect("an inbox opens");
    let asking = async {
        for number in 0..20 {
            let mut request = numbered(number);
            request.metadata.correlation_id = Some(Id::new());
            let id = request.metadata.correlation_id.clone();
            inbox.publish(Destination::Topic(&topic), request).await.expect("somebody listens");
            let reply = within("a reply", replied.recv()).await.expect("the inbox is open");
            assert_eq!(reply.metadata.correlation_id, id);
        }
    };
    let other = bench.connect().await;
    let answering = async {
        loop {
            let request = next(&mut requests).await;
            let to = request.envelope().metadata.reply_to.clone().expect("a request says where");
            let mut reply = numbered(0);
            reply.metadata.correlation_id = request.envelope().metadata.correlation_id.clone();
            other.publish(Destination::Reply(&to), reply).await.expect("somebody waits");
            request.ack();
        }
    };
    let failing = async {
        loop {
            next(&mut observed).await.release();
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        () = asking => {}
        () = answering => unreachable!("it answers as long as it is asked"),
        () = failing => unreachable!("it fails as long as it is asked"),
    }
}

cases! {
    wildcards_match_as_amqp_defines_them,
    a_queue_gets_one_copy_by_however_many_patterns,
    everybody_some_and_one,
    a_failing_observer_does_not_disturb_a_request,
}
