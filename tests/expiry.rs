//! A message that has expired is not handled: dropped and counted, or kept, as its route says.

mod support;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use agentbus::{
    Agent, Context, Envelope, HandlerError, PublishOptions, RequestOptions, Routes, Running,
    Runtime, Topic,
    broker::Destination,
    client::Subscription,
    message::{Code, FailureKind, Timestamp},
    retry::{Backoff, RetryPolicy},
};
use support::{
    bus::Bus,
    eventually,
    messages::{ASK, Answer, Event, HAPPENED, Question, question},
};

const KEPT: Topic<Event> = Topic::new("test.kept");
const BULK: Topic<Event> = Topic::new("test.bulk");
const NEXT: Topic<Event> = Topic::new("test.next");
const FORWARDED: Topic<Event> = Topic::new("test.forwarded");

/// Events of this number fail.
const BAD: u32 = 13;

/// Numbers of what was handled, each with when it would have expired.
type Sold = Vec<(u32, Option<Timestamp>)>;

/// Knows what is past its date.
#[derive(Clone, Default)]
struct Grocer {
    sold: Arc<Mutex<Sold>>,
}

impl Agent for Grocer {
    fn name(&self) -> &'static str {
        "grocer"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new()
            .on(HAPPENED, Self::sell)
            .on(KEPT, Self::sell)
            .keep_expired()
            .on_batch(BULK, 10, Duration::from_millis(5), Self::sell_bulk)
            .on(ASK, Self::answer)
    }

    fn retry(&self) -> Option<RetryPolicy> {
        Some(RetryPolicy::default().with_backoff(Backoff::constant(Duration::from_hours(2))))
    }
}

impl Grocer {
    fn sold(&self) -> Sold {
        self.sold.lock().unwrap().clone()
    }

    async fn sell(&self, event: Event, ctx: &Context) -> Result<(), HandlerError> {
        if event.number == BAD {
            return Err(io::Error::other("out of bags"))?;
        }
        ctx.publish(NEXT, &event).await.ok();
        ctx.forward(FORWARDED.name().clone()).await.ok();
        self.sold.lock().unwrap().push((event.number, ctx.expires_at()));
        Ok(())
    }

    async fn sell_bulk(&self, events: Vec<Event>, _: &Context) -> Result<(), HandlerError> {
        self.sold.lock().unwrap().extend(events.iter().map(|event| (event.number, None)));
        Ok(())
    }

    async fn answer(&self, asked: Question, _: &Context) -> Result<Answer, HandlerError> {
        Ok(Answer { text: asked.text })
    }
}

fn ago(duration: Duration) -> Timestamp {
    let millis = u64::try_from(duration.as_millis()).unwrap();
    Timestamp::from_millis(Timestamp::now().as_millis() - millis)
}

fn stale() -> PublishOptions {
    PublishOptions::default().expires_at(ago(Duration::from_secs(5)))
}

fn fresh() -> PublishOptions {
    PublishOptions::default().expires_after(Duration::from_mins(10))
}

async fn start(bus: &Bus, grocer: &Grocer) -> Running {
    Runtime::new(bus.client()).agent(grocer.clone()).start().await.unwrap()
}

async fn publish(agents: &Running, topic: Topic<Event>, number: u32, options: PublishOptions) {
    agents.client().publish_with(topic, &Event { number }, options).await.unwrap();
}

async fn expired(agents: &Running, count: u64) {
    eventually("the count", async || (agents.counts("grocer")?.expired == count).then_some(()))
        .await;
}

async fn dead_letter(bus: &Bus, queue: &str) -> Envelope {
    let mut letters = bus.broker().consume(&bus.queue(queue), 1).await.unwrap();
    let letter = tokio::time::timeout(Duration::from_mins(1), letters.next()).await;
    let letter = letter.expect("a dead letter").expect("an open queue");
    let envelope = letter.envelope().clone();
    letter.ack();
    envelope
}

on_each_bus! {
    async fn what_has_expired_is_dropped_and_counted(bus: Bus) {
        let grocer = Grocer::default();
        let agents = start(&bus, &grocer).await;
        publish(&agents, HAPPENED, 1, stale()).await;
        publish(&agents, BULK, 2, stale()).await;
        expired(&agents, 2).await;
        publish(&agents, HAPPENED, 3, PublishOptions::default()).await;
        publish(&agents, BULK, 4, fresh()).await;
        eventually("the others", async || (agents.counts("grocer")?.handled == 2).then_some(())).await;
        let mut sold = grocer.sold();
        sold.sort_by_key(|(number, _)| *number);
        assert_eq!(sold, [(3, None), (4, None)]);
        assert_eq!(agents.counts("grocer").unwrap().dead_lettered, 0);
        agents.stop().await;
    }

    async fn a_route_may_keep_what_has_expired(bus: Bus) {
        let grocer = Grocer::default();
        let agents = start(&bus, &grocer).await;
        let options = stale().header("tenant", "acme").unwrap();
        publish(&agents, KEPT, 1, options).await;
        let letter = dead_letter(&bus, "grocer.dlq").await;
        let failure = letter.metadata.failure.clone().unwrap();
        assert_eq!((failure.kind, &*failure.error), (FailureKind::Expired, "expired before it was handled"));
        assert_eq!(failure.topic.as_ref(), Some(KEPT.name()));
        assert_eq!(letter.metadata.headers.text("tenant"), Some("acme"));
        assert_eq!(letter.decode::<Event>().unwrap().number, 1);
        assert_eq!(agents.counts("grocer").unwrap().expired, 0);
        assert!(grocer.sold().is_empty());
        agents.stop().await;
    }

    async fn what_has_not_expired_is_handled_and_what_follows_does_not_inherit(bus: Bus) {
        let client = bus.client();
        let mut next = client.subscribe(NEXT).await.unwrap();
        let mut forwarded = client.subscribe(FORWARDED).await.unwrap();
        let grocer = Grocer::default();
        let agents = start(&bus, &grocer).await;
        let best_before = Timestamp::now().after(Duration::from_mins(10));
        publish(&agents, HAPPENED, 1, PublishOptions::default().expires_at(best_before)).await;
        let next = next.next().await.unwrap();
        assert_eq!(next.envelope().metadata.expires_at, None);
        next.ack();
        let forwarded = forwarded.next().await.unwrap();
        assert_eq!(forwarded.envelope().metadata.expires_at, Some(best_before));
        forwarded.ack();
        eventually("it", async || (grocer.sold() == [(1, Some(best_before))]).then_some(())).await;
        agents.stop().await;
    }

    async fn a_retry_after_the_expiry_is_not_scheduled(bus: Bus) {
        let agents = start(&bus, &Grocer::default()).await;
        publish(&agents, HAPPENED, BAD, fresh()).await;
        expired(&agents, 1).await;
        publish(&agents, KEPT, BAD, fresh()).await;
        let failure = dead_letter(&bus, "grocer.dlq").await.metadata.failure.unwrap();
        assert_eq!(failure.kind, FailureKind::Expired);
        assert_eq!(&*failure.error, "expired before the next attempt, after: out of bags");
        let counts = eventually("the count", async || {
            agents.counts("grocer").filter(|counts| counts.dead_lettered == 1)
        }).await;
        assert_eq!((counts.retried, counts.expired), (0, 1));
        agents.stop().await;
    }

    async fn a_delayed_message_that_expires_before_it_is_due_is_not_handled(bus: Bus) {
        let grocer = Grocer::default();
        let agents = start(&bus, &grocer).await;
        let options = PublishOptions::default().deliver_after(Duration::from_millis(250));
        publish(&agents, HAPPENED, 1, options.expires_after(Duration::from_millis(100))).await;
        expired(&agents, 1).await;
        assert!(grocer.sold().is_empty());
        agents.stop().await;
    }

    async fn who_asks_with_a_request_that_has_expired_is_told(bus: Bus) {
        let agents = start(&bus, &Grocer::default()).await;
        let options = RequestOptions::default().timeout(Duration::from_mins(5)).publish(stale());
        let asked = question("any eggs?");
        let asked = agents.client().request_with(ASK, &asked, options);
        let error = tokio::time::timeout(Duration::from_mins(1), asked).await.unwrap().unwrap_err();
        assert_eq!(error.reply().map(|reply| reply.code), Some(Code::DeadlineExceeded), "{error:?}");
        expired(&agents, 1).await;
        agents.stop().await;
    }

    async fn a_subscriber_skips_what_has_expired_or_keeps_it(bus: Bus) {
        let client = bus.client();
        let mut events = client.subscribe(HAPPENED).await.unwrap();
        let kept = Subscription::from(HAPPENED).queue("log").keep_expired();
        let mut log = client.subscribe(kept).await.unwrap();
        client.publish_with(HAPPENED, &Event { number: 1 }, stale()).await.unwrap();
        client.publish_with(HAPPENED, &Event { number: 2 }, fresh()).await.unwrap();
        assert_eq!(events.next().await.unwrap().ack().number, 2);
        assert_eq!(log.next().await.unwrap().ack().number, 2);
        assert_eq!((events.expired(), log.expired()), (1, 0));
        let letter = dead_letter(&bus, "log.dlq").await;
        assert_eq!(letter.metadata.failure.as_ref().unwrap().kind, FailureKind::Expired);
        assert_eq!(letter.decode::<Event>().unwrap().number, 1);
    }

    async fn a_subscriber_skips_what_comes_after_its_deadline(bus: Bus) {
        let client = bus.client();
        let mut events = client.subscribe(HAPPENED).await.unwrap();
        for (number, deadline) in [(1, ago(Duration::from_secs(1))), (2, Timestamp::now().after(Duration::from_hours(1)))] {
            let mut envelope = Envelope::encode(&Event { number });
            envelope.metadata.deadline = Some(deadline);
            bus.broker().publish(Destination::Topic(HAPPENED.name()), envelope).await.unwrap();
        }
        assert_eq!(events.next().await.unwrap().ack().number, 2);
        assert_eq!(events.expired(), 1);
        let queue = events.queue().clone();
        eventually("an empty queue", async || {
            let stats = bus.broker().stats(&queue).await.unwrap();
            (stats.ready == 0 && stats.unsettled.unwrap_or(0) == 0).then_some(())
        }).await;
    }
}

#[cfg(feature = "rabbitmq")]
mod foreign_clients {
    use lapin::{
        BasicProperties,
        types::{AMQPValue, FieldTable},
    };
    use support::foreign::Foreign;

    use super::*;

    #[tokio::test]
    async fn headers_of_other_programs_are_read_as_numbers_or_as_text() {
        let Some(bus) = Bus::rabbitmq().await else { return };
        let agents = start(&bus, &Grocer::default()).await;
        let foreign = Foreign::connect(&bus.config, None).await;
        let past = ago(Duration::from_secs(5)).as_millis();
        let values = [
            AMQPValue::LongLongInt(past.cast_signed()),
            AMQPValue::LongString(past.to_string().into()),
        ];
        for (count, value) in (1..).zip(values) {
            let mut headers = FieldTable::default();
            headers.insert("agentbus-expires-at".into(), value);
            let properties = BasicProperties::default().with_headers(headers);
            foreign.publish(&bus.config.exchange, HAPPENED.name(), properties, &[8, 1]).await;
            expired(&agents, count).await;
        }
        for value in [AMQPValue::ShortShortUInt(1), AMQPValue::LongString("1".into())] {
            let mut headers = FieldTable::default();
            headers.insert("agentbus-max-attempts".into(), value);
            let properties = BasicProperties::default().with_headers(headers);
            // The agent's own policy allows more, hours later.
            foreign.publish(&bus.config.exchange, HAPPENED.name(), properties, &[8, 13]).await;
            let failure = dead_letter(&bus, "grocer.dlq").await.metadata.failure.unwrap();
            assert_eq!((failure.kind, failure.attempts), (FailureKind::Handler, 1));
        }
        agents.stop().await;
    }

    #[tokio::test]
    async fn what_the_broker_lets_expire_is_among_the_dead_letters() {
        let Some(bus) = Bus::rabbitmq().await else { return };
        // The queue is there, and nobody consumes from it.
        start(&bus, &Grocer::default()).await.stop().await;
        let foreign = Foreign::connect(&bus.config, None).await;
        let properties = BasicProperties::default().with_expiration("50".into());
        foreign.publish(&bus.config.exchange, HAPPENED.name(), properties, &[8, 1]).await;
        let letter = dead_letter(&bus, "grocer.dlq").await;
        assert_eq!(letter.topic.as_ref(), Some(HAPPENED.name()));
        let failure = letter.metadata.failure.unwrap();
        assert_eq!((failure.kind, &*failure.agent), (FailureKind::Expired, &*bus.queue("grocer")));
    }
}
