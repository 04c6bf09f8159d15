//! Clients publish, ask and subscribe without an agent, and leave nothing behind.

mod support;

use std::{sync::Arc, time::Duration};

use agentbus::{
    Config, Envelope, Pattern, PublishOptions, RequestError, RequestOptions, Rpc,
    broker::{
        Broker, Delivery, Destination, MAX_DELAY, PublishError, QueueRole, QueueSpec,
        memory::Memory,
    },
    client::{Client, SubscribeError, Subscription},
    message::{FailureKind, Timestamp},
};
use futures::{StreamExt, stream};
use support::{
    eventually,
    messages::{ASK, Answer, Event, HAPPENED, Question, question},
};
use tokio::time::{Instant, sleep};

/// A message with room for metadata, of which a peer reads and writes one field.
#[derive(Clone, PartialEq, prost::Message)]
struct Described {
    #[prost(message, optional, tag = "1")]
    request: Option<InBody>,
    #[prost(message, optional, tag = "2")]
    reply: Option<InBody>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InBody {
    #[prost(string, tag = "2")]
    correlation_id: String,
}

impl prost::Name for Described {
    const NAME: &'static str = "Described";
    const PACKAGE: &'static str = "test.v1";
}

/// Answers a request as a peer of another make does.
async fn answer(broker: &Arc<dyn Broker>, request: &Envelope) {
    let mut reply = Envelope::encode(&Answer { text: "here".into() });
    reply.metadata.correlation_id.clone_from(&request.metadata.correlation_id);
    let to = request.metadata.reply_to.clone().unwrap();
    broker.publish(Destination::Reply(&to), reply).await.unwrap();
}

on_each_bus! {
    async fn a_reply_that_comes_twice_counts_once(bus: Bus) {
        let client = bus.client();
        let mut requests = client.subscribe(ASK.topic().clone()).await.unwrap();
        let broker = Arc::clone(bus.broker());
        let peer = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                for _ in 0..2 {
                    let mut reply = Envelope::encode(&Answer { text: request.message().text.clone() });
                    let asked = &request.envelope().metadata;
                    reply.metadata.correlation_id.clone_from(&asked.correlation_id);
                    let to = asked.reply_to.clone().unwrap();
                    broker.publish(Destination::Reply(&to), reply).await.unwrap();
                }
                request.ack();
            }
        });
        for number in 0..20 {
            let text = format!("question {number}");
            let options = RequestOptions::default().idempotent();
            let answer = client.request_with(ASK, &question(&text), options).await.unwrap();
            assert_eq!(answer.text, text);
        }
        peer.abort();
    }

    async fn a_subscriber_gets_typed_messages_in_order(bus: Bus) {
        let client = bus.client();
        let mut events = client.subscribe(HAPPENED).await.unwrap();
        let publisher = client.publisher(HAPPENED);
        let results: Vec<_> =
            publisher.publish_many(stream::iter((0..500).map(|number| Event { number }))).collect().await;
        assert!(results.iter().all(Result::is_ok));
        for number in 0..500 {
            let event = events.next().await.unwrap();
            assert_eq!(event.message().number, number);
            assert_eq!(event.envelope().topic.as_deref(), Some("test.happened"));
            event.ack();
        }
    }

    async fn subscribers_of_one_queue_share_its_messages(bus: Bus) {
        let client = bus.client();
        let shared = || Subscription::from(HAPPENED).queue("log");
        let mut first = client.subscribe(shared()).await.unwrap();
        let mut second = client.subscribe(shared()).await.unwrap();
        for number in 0..100 {
            client.publish(HAPPENED, &Event { number }).await.unwrap();
        }
        let mut numbers = Vec::new();
        while numbers.len() < 100 {
            let received = tokio::select! {
                received = first.next() => received,
                received = second.next() => received,
            };
            numbers.push(received.unwrap().ack().number);
        }
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..100));
    }

    async fn a_subscriber_keeps_what_it_cannot_read(bus: Bus) {
        let client = bus.client();
        let mut events = client.subscribe(Subscription::from(HAPPENED).queue("log")).await.unwrap();
        let mut wrong = Envelope::encode(&Answer::default());
        wrong.topic = Some(HAPPENED.name().clone());
        client.publish_envelope(wrong).await.unwrap();
        client.publish(HAPPENED, &Event { number: 7 }).await.unwrap();
        assert_eq!(events.next().await.unwrap().ack().number, 7);
        let mut letters = bus.broker().consume(&bus.queue("log.dlq"), 1).await.unwrap();
        let letter = letters.next().await.unwrap();
        assert_eq!(letter.envelope().metadata.failure.as_ref().unwrap().kind, FailureKind::WrongType);
    }

    async fn an_unroutable_message_comes_back(bus: Bus) {
        let error = bus.client().publish(HAPPENED, &Event { number: 7 }).await.unwrap_err();
        assert!(matches!(error, PublishError::Unroutable { .. }), "{error:?}");
        assert_eq!(error.into_envelope().decode::<Event>().unwrap().number, 7);
    }

    async fn an_envelope_goes_under_a_proper_topic_only(bus: Bus) {
        for topic in ["", "a b", "a.*", "a..b", &"x".repeat(198)] {
            let mut envelope = Envelope::encode(&Event { number: 7 });
            envelope.topic = Some(topic.into());
            let error = bus.client().publish_envelope(envelope).await.unwrap_err();
            assert!(matches!(error, PublishError::Invalid { .. }), "{topic}: {error:?}");
        }
    }

    async fn a_delayed_message_is_never_early(bus: Bus) {
        let client = bus.client();
        let mut events = client.subscribe(HAPPENED).await.unwrap();
        let due = Timestamp::now().after(Duration::from_millis(700));
        let options = PublishOptions::default().deliver_at(due);
        client.publish_with(HAPPENED, &Event { number: 1 }, options).await.unwrap();
        client.publish(HAPPENED, &Event { number: 2 }).await.unwrap();
        assert_eq!(events.next().await.unwrap().ack().number, 2);
        assert_eq!(events.next().await.unwrap().ack().number, 1);
        assert!(due.has_passed());
    }

    async fn a_message_waits_for_two_years_and_no_longer(bus: Bus) {
        let client = bus.client();
        let _events = client.subscribe(HAPPENED).await.unwrap();
        let publish = async |delay| {
            let options = PublishOptions::default().deliver_after(delay);
            client.publish_with(HAPPENED, &Event { number: 1 }, options).await
        };
        publish(MAX_DELAY).await.unwrap();
        for delay in [MAX_DELAY + Duration::from_mins(1), Duration::MAX] {
            let error = publish(delay).await.unwrap_err();
            assert!(matches!(error, PublishError::Invalid { .. }), "{error:?}");
        }
    }

    async fn a_queue_cannot_be_named_like_dead_letters(bus: Bus) {
        let subscription = Subscription::from(HAPPENED).queue("log.dlq");
        let error = bus.client().subscribe(subscription).await.unwrap_err();
        assert!(matches!(error, SubscribeError::Reserved { .. }), "{error:?}");
    }

    async fn requests_that_are_dropped_or_time_out_leave_no_room_taken(bus: Bus) {
        let mut config = bus.config.clone();
        config.max_pending_replies = 8;
        let client = Client::with_config(bus.broker().clone(), config);
        // Somebody listens and never answers.
        let _silent = client.subscribe(ASK.topic().clone()).await.unwrap();
        let ask = || {
            let options = RequestOptions::default().timeout(Duration::from_millis(200));
            let client = client.clone();
            async move { client.request_with(ASK, &question("hello?"), options).await }
        };
        for _ in 0..100 {
            let dropped = tokio::time::timeout(Duration::from_millis(1), ask()).await;
            assert!(dropped.is_err() || dropped.unwrap().is_err());
        }
        let results = futures::future::join_all((0..9).map(|_| ask())).await;
        let refused = results.iter().filter(|result| matches!(result, Err(RequestError::TooManyPending { limit: 8 })));
        assert_eq!(refused.count(), 1, "{results:?}");
        let timed_out = results.iter().filter(|result| matches!(result, Err(RequestError::TimedOut { .. })));
        assert_eq!(timed_out.count(), 8, "{results:?}");
    }

    async fn a_subscriber_outlives_its_queues(bus: Bus) {
        let client = bus.client();
        let mut events = client.subscribe(Subscription::from(HAPPENED).queue("log")).await.unwrap();
        for queue in ["log", "log.dlq"] {
            bus.broker().delete(&bus.queue(queue)).await.unwrap();
        }
        let (event, ()) = tokio::join!(events.next(), async {
            let publish = async || client.publish(HAPPENED, &Event { number: 1 }).await.ok();
            eventually("the queue", publish).await;
        });
        bus.broker().delete(&bus.queue("log.dlq")).await.unwrap();
        event.unwrap().reject("no good").await.unwrap();
        let mut letters = bus.broker().consume(&bus.queue("log.dlq"), 1).await.unwrap();
        let letter = letters.next().await.unwrap();
        assert_eq!(letter.envelope().metadata.failure.as_ref().unwrap().error.as_str(), "no good");
    }

    async fn a_subscriber_ends_with_the_bus(bus: Bus) {
        let client = bus.client();
        let mut logged = client.subscribe(Subscription::from(HAPPENED).queue("log")).await.unwrap();
        let mut own = client.subscribe(HAPPENED).await.unwrap();
        // Cannot be read, nor written to the dead letters any more.
        let mut wrong = Envelope::encode(&Answer::default());
        wrong.topic = Some(HAPPENED.name().clone());
        client.publish_envelope(wrong).await.unwrap();
        client.close().await;
        for _ in 0..2 {
            assert!(logged.next().await.is_none());
            assert!(own.next().await.is_none());
        }
    }

    async fn a_reply_is_paired_by_the_metadata_in_its_body(bus: Bus) {
        const TELL: Rpc<Described, Described> =
            Rpc::new("test.tell").with_metadata_fields(Some(1), Some(2));
        let client = bus.client();
        let mut asked = client.subscribe(TELL.topic().clone()).await.unwrap();
        let broker = Arc::clone(bus.broker());
        let answer = async move {
            for _ in 0..3 {
                let received = asked.next().await.unwrap();
                let asked_for = &received.message().request.as_ref().unwrap().correlation_id;
                let reply = Described {
                    request: None,
                    reply: Some(InBody { correlation_id: asked_for.clone() }),
                };
                // As of a peer that knows no properties but where the reply goes.
                let envelope = Envelope {
                    payload: prost::Message::encode_to_vec(&reply).into(),
                    ..Envelope::default()
                };
                let to = received.envelope().metadata.reply_to.clone().unwrap();
                broker.publish(Destination::Reply(&to), envelope).await.unwrap();
                received.ack();
            }
        };
        // Other fields, and none, are waited for as well.
        let other = Rpc::new("test.tell").with_metadata_fields(Some(1), Some(7));
        let options = || RequestOptions::default().timeout(Duration::from_secs(2));
        let none = Described::default();
        let (first, second, unpaired, ()) = tokio::join!(
            client.request(TELL, &none),
            client.request(TELL, &none),
            client.request_with::<_, Described>(other, &none, options()),
            answer,
        );
        let ids = [first.unwrap(), second.unwrap()].map(|reply| reply.reply.unwrap());
        assert_ne!(ids[0], ids[1]);
        assert!(matches!(unpaired, Err(RequestError::TimedOut { .. })), "{unpaired:?}");
    }

    async fn a_request_without_a_time_limit_is_answered(bus: Bus) {
        let client = bus.client();
        let mut asked = client.subscribe(ASK.topic().clone()).await.unwrap();
        let options = || RequestOptions::default().timeout(Duration::MAX).at_most(1);
        let question = question("hello?");
        let (reply, replies, ()) = tokio::join!(
            client.request_with(ASK, &question, options()),
            async { client.request_many(ASK, &question, options()).await?.next().await.unwrap() },
            async {
                for _ in 0..2 {
                    let received = asked.next().await.unwrap();
                    answer(bus.broker(), received.envelope()).await;
                    received.ack();
                }
            },
        );
        assert_eq!((reply.unwrap().text, replies.unwrap().text), ("here".into(), "here".into()));
    }

    async fn a_message_over_the_limit_is_refused_before_it_is_sent(bus: Bus) {
        let client = bus.client();
        let _asked = client.subscribe(ASK.topic().clone()).await.unwrap();
        let huge = Question { text: "x".repeat(64 << 20), number: 0 };
        let error = client.publish(ASK.topic().clone(), &huge).await.unwrap_err();
        assert!(matches!(error, PublishError::TooLarge { .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_publishing_wait_and_then_refuses() {
    let broker = std::sync::Arc::new(Memory::default());
    let mut config = Config::default();
    config.max_queue_length = 10;
    let client = Client::with_config(broker.clone(), config);
    let subscription = Subscription::from(HAPPENED).queue("log").prefetch(1);
    let mut events = client.subscribe(subscription).await.unwrap();
    let first = events.next();
    client.publish(HAPPENED, &Event { number: 0 }).await.unwrap();
    let first = first.await.unwrap();
    let mut refused = 0;
    for number in 1..=11 {
        match client.publish(HAPPENED, &Event { number }).await {
            Ok(_) => {}
            Err(PublishError::Refused { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!((1..=2).contains(&refused), "{refused} of 11 beyond the limit of 10");
    first.ack();
    client.publish(HAPPENED, &Event { number: 99 }).await.unwrap_or_else(|_| unreachable!());
    broker.close().await;
}

/// A bus on which one queue that is asked is full, and another one's answer comes after `delay`.
async fn asked_of_two(delay: Duration) -> (Client, impl Future<Output = Delivery>) {
    let broker: Arc<dyn Broker> = Arc::new(Memory::default());
    for (name, max_length) in [("full", 1), ("free", 10)] {
        let role = QueueRole::Work { dead_letters: "dlq".into(), max_length };
        let spec = QueueSpec::new(name, role).bind(Pattern::from(ASK.topic()));
        broker.declare(&spec).await.unwrap();
    }
    broker.publish(Destination::Queue("full"), Envelope::default()).await.unwrap();
    let mut requests = broker.consume("free", 1).await.unwrap();
    let client = Client::with_config(Arc::clone(&broker), Config::default());
    let responder = async move {
        let request = requests.next().await.unwrap();
        sleep(delay).await;
        answer(&broker, request.envelope()).await;
        request
    };
    (client, responder)
}

fn within(seconds: u64) -> RequestOptions {
    RequestOptions::default().timeout(Duration::from_secs(seconds))
}

#[tokio::test(start_paused = true)]
async fn a_request_that_one_queue_refuses_is_answered_by_another() {
    // Before and after the full queue has refused.
    for delay in [1, 10] {
        let (client, responder) = asked_of_two(Duration::from_secs(delay)).await;
        let question = question("anybody?");
        let (reply, _) = tokio::join!(client.request_with(ASK, &question, within(20)), responder);
        assert_eq!(reply.unwrap().text, "here");
        let (client, responder) = asked_of_two(Duration::from_secs(delay)).await;
        let asking = async {
            let mut replies = client.request_many(ASK, &question, within(20)).await.unwrap();
            assert_eq!(replies.next().await.unwrap().unwrap().text, "here");
            assert!(replies.next().await.is_none());
        };
        let ((), _) = tokio::join!(asking, responder);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_refused_and_not_answered_says_so_at_its_deadline() {
    let (client, _unanswered) = asked_of_two(Duration::ZERO).await;
    let question = question("anybody?");
    let started = Instant::now();
    let one = client.request_with(ASK, &question, within(20)).await.unwrap_err();
    let many = client.request_many(ASK, &question, within(20)).await.unwrap_err();
    for error in [one, many] {
        assert_eq!(error.to_string(), "the request on `test.ask` was not confirmed");
        let RequestError::Publish { source, .. } = error else { panic!("{error}") };
        assert!(matches!(source, PublishError::Refused { .. }), "{source}");
    }
    assert_eq!(started.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_request_to_many_keeps_to_its_deadline() {
    let (client, responder) = asked_of_two(Duration::from_secs(1)).await;
    let question = question("anybody?");
    // The full queue has not refused by then.
    let started = Instant::now();
    let asking = client.request_many(ASK, &question, within(3));
    let (replies, _) = tokio::join!(asking, responder);
    assert_eq!(started.elapsed().as_secs(), 3);
    assert_eq!(replies.unwrap().next().await.unwrap().unwrap().text, "here");
    let error = client.request_many(ASK, &question, within(3)).await.unwrap_err();
    assert!(matches!(error, RequestError::TimedOut { .. }), "{error}");
    assert_eq!(started.elapsed().as_secs(), 6);
}
