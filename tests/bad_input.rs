//! Whatever arrives, an agent goes on, and nothing is lost: each message is handled, counted, or
//! among the dead letters.

mod support;

use std::{sync::Arc, time::Duration};

use agentbus::{
    Agent, Client, Context, Envelope, FollowUp, HandlerError, Name, RequestError, RequestOptions,
    Routes, Runtime, Topic,
    broker::{Destination, PublishError},
    client::Subscription,
    message::Timestamp,
    retry::RetryPolicy,
};
use fastrand::Rng;
use futures::{StreamExt, stream};
#[cfg(feature = "rabbitmq")]
use support::foreign::{self, Foreign};
use support::{
    bus::Bus,
    eventually, garbage,
    messages::{ASK, Answer, Event, HAPPENED, Question, question},
};

const SEED: u64 = 0x00ba_d1d0;
const GARBAGE: usize = 10_000;
const GOOD: usize = 200;
const MAX_PENDING: usize = 16;

const NOISE: Topic<Event> = Topic::new("test.noise");
const BULK: Topic<Event> = Topic::new("test.bulk");
const LATER: FollowUp<Question, Answer, u32> = FollowUp::new(ASK, "later");

/// Has every kind of route, and so every kind of queue.
struct Victim;

impl Agent for Victim {
    fn name(&self) -> &'static str {
        "victim"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new()
            .on(ASK, Self::answer)
            .on(HAPPENED, Self::happened)
            .on("raw.#", Self::raw)
            .on_each(NOISE, Self::happened)
            .on_batch(BULK, 10, Duration::from_millis(5), Self::bulk)
            .on_reply(LATER, Self::later)
    }
}

impl Victim {
    async fn answer(&self, asked: Question, _: &Context) -> Result<Answer, HandlerError> {
        Ok(Answer { text: asked.text })
    }

    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn raw(&self, _: Envelope, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn bulk(&self, _: Vec<Event>, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn later(
        &self,
        _: Result<Answer, RequestError>,
        _: u32,
        _: &Context,
    ) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// Answers more than anybody may hear.
struct Windbag;

impl Agent for Windbag {
    fn name(&self) -> &'static str {
        "windbag"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(ASK, Self::answer)
    }
}

impl Windbag {
    async fn answer(&self, _: Question, ctx: &Context) -> Result<Answer, HandlerError> {
        assert_eq!(ctx.attempt(), 1);
        Ok(Answer { text: "bla ".repeat(5 << 20) })
    }
}

/// Where a message is sent to.
#[derive(Clone, Debug)]
enum Target {
    Topic(Name),
    Queue(String),
    DeadLetters(String),
    /// Where a client waits for replies; nothing of this is kept.
    Inbox(String),
}

/// Every way to the victim and to the client that asks it.
async fn targets(bus: &Bus, client: &Client) -> Vec<Target> {
    let topics = ["test.ask", "test.happened", "raw.a", "raw", "test.noise", "test.bulk"];
    let mut targets: Vec<_> = topics.map(|topic| Target::Topic(topic.into())).into();
    targets.push(Target::Queue(bus.queue("victim")));
    targets.push(Target::DeadLetters(bus.queue("victim.dlq")));
    targets.push(Target::Queue(replica_queue(bus, client).await));
    targets.push(Target::Inbox(inbox(bus, client).await));
    targets
}

/// Finds out the name of the replica's queue, from a dead letter.
async fn replica_queue(bus: &Bus, client: &Client) -> String {
    let mut wrong = Envelope::encode(&Answer::default());
    wrong.topic = Some(NOISE.name().clone());
    client.publish_envelope(wrong).await.unwrap();
    let mut letters = bus.broker().consume(&bus.queue("victim.dlq"), 1).await.unwrap();
    let letter = letters.next().await.unwrap();
    let failure = letter.envelope().metadata.failure.clone().unwrap();
    letter.ack();
    bus.queue(&format!("victim.{}", failure.instance.unwrap()))
}

/// Finds out where the client waits for replies, by looking on while it asks.
async fn inbox(bus: &Bus, client: &Client) -> String {
    let mut spy = client.subscribe(Subscription::from(ASK.topic().clone())).await.unwrap();
    client.request(ASK, &question("who are you?")).await.unwrap();
    let asked = spy.next().await.unwrap();
    let address = asked.envelope().metadata.reply_to.clone().unwrap();
    asked.ack();
    let queue = spy.queue().clone();
    drop(spy);
    bus.broker().delete(&queue).await.unwrap();
    address.to_string()
}

/// What was sent and is to be accounted for.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    to_agent: u64,
    to_dead_letters: u64,
}

impl Sent {
    fn count(&mut self, target: &Target) {
        match target {
            Target::DeadLetters(_) => self.to_dead_letters += 1,
            Target::Topic(_) | Target::Queue(_) => self.to_agent += 1,
            Target::Inbox(_) => {}
        }
    }
}

async fn flood_by_the_port(bus: &Bus, targets: &[Target]) -> Sent {
    let mut rng = Rng::with_seed(SEED);
    let mut sent = Sent::default();
    let broker = bus.broker();
    for _ in 0..GARBAGE {
        let target = rng.choice(targets).unwrap();
        let garbage = garbage::envelope(&mut rng);
        let outcome = match target {
            Target::Topic(topic) => broker.publish(Destination::Topic(topic), garbage).await,
            Target::Queue(queue) | Target::DeadLetters(queue) => {
                broker.publish(Destination::Queue(queue), garbage).await
            }
            Target::Inbox(address) => broker.publish(Destination::Reply(address), garbage).await,
        };
        match outcome {
            Ok(()) => sent.count(target),
            Err(PublishError::Unroutable { .. }) if matches!(target, Target::Inbox(_)) => {}
            Err(error) => panic!("{target:?}: {error:?}"),
        }
    }
    sent
}

#[cfg(feature = "rabbitmq")]
async fn flood_from_elsewhere(bus: &Bus, targets: &[Target]) -> Sent {
    let foreign = Foreign::connect(&bus.config, None).await;
    let mut rng = Rng::with_seed(SEED);
    let mut sent = Sent::default();
    let publishes = stream::iter(0..GARBAGE).map(|_| {
        let target = rng.choice(targets).unwrap();
        sent.count(target);
        let (exchange, key) = match target {
            Target::Topic(topic) => (bus.config.exchange.as_str(), topic.as_str()),
            Target::Queue(name) | Target::DeadLetters(name) | Target::Inbox(name) => {
                ("", name.as_str())
            }
        };
        let (properties, body) = (foreign::properties(&mut rng), garbage::body(&mut rng));
        let foreign = &foreign;
        async move { foreign.publish(exchange, key, properties, &body).await }
    });
    publishes.buffered(128).for_each(|()| async {}).await;
    sent
}

async fn ask_good_questions(client: &Client) {
    let ask = |number| async move {
        let asked = Question { text: format!("question {number}"), number };
        let answer = client.request(ASK, &asked).await.unwrap();
        assert_eq!(answer.text, asked.text);
    };
    let numbers = stream::iter(0..u32::try_from(GOOD).unwrap());
    numbers.map(ask).buffer_unordered(8).for_each(|()| async {}).await;
}

on_each_bus! {
    async fn a_forged_reply_address_is_counted_and_the_request_is_done(bus: Bus) {
        let agents = Runtime::new(bus.client()).retry(RetryPolicy::none()).agent(Victim);
        let agents = agents.start().await.unwrap();
        let own_queue = bus.queue("victim");
        let literal = ["amq.rabbitmq.reply-to", "", "no.such.queue"];
        // A request of another program that names the literal address has it replaced by the
        // broker, which refuses it of a channel without an inbox.
        let on_a_broker = bus.broker().kind() == "rabbitmq";
        let mut forged: Vec<_> = garbage::FORGED.to_vec();
        forged.extend(literal.iter().filter(|address| !on_a_broker || **address != literal[0]));
        for (number, address) in forged.iter().enumerate() {
            let mut request = Envelope::encode(&question("who wants to know?"));
            request.topic = Some(ASK.name().clone());
            request.metadata.reply_to = Some((*address).into());
            agents.client().publish_envelope(request).await.unwrap();
            let counts = eventually(address, async || {
                let counts = agents.counts("victim")?;
                (counts.handled == number as u64 + 1).then_some(counts)
            }).await;
            assert_eq!(counts.dead_lettered, 0, "{address}");
            // A reply to an inbox may be lost without a word.
            let in_form = forged.iter().take(number + 1).filter(|address| address.ends_with("=="));
            let undeliverable = counts.undeliverable_replies + in_form.count() as u64;
            assert!(undeliverable > number as u64, "{address}: {counts:?}");
        }
        // A request that wants its answer in the queue it came by: the answer is nobody's.
        let mut request = Envelope::encode(&question("who wants to know?"));
        request.topic = Some(ASK.name().clone());
        request.metadata.reply_to = Some(own_queue.into());
        agents.client().publish_envelope(request).await.unwrap();
        eventually("the dead letter", async || (agents.counts("victim")?.dead_lettered == 1).then_some(())).await;
        let answer = agents.client().request(ASK, &question("still there?")).await.unwrap();
        assert_eq!(answer.text, "still there?");
        agents.stop().await;
    }

    async fn garbage_in_place_of_an_answer_is_a_typed_error(bus: Bus) {
        let client = bus.client();
        let mut asked = client.subscribe(ASK.topic().clone()).await.unwrap();
        for (wrong, body) in [(Some("test.v1.Question"), &b""[..]), (None, &[0xff; 20]), (Some(""), b"")] {
            let answer = async {
                let request = asked.next().await.unwrap();
                let metadata = &request.envelope().metadata;
                let mut garbage = Envelope { payload: body.to_vec().into(), ..Envelope::default() };
                garbage.metadata.correlation_id = metadata.correlation_id.clone();
                garbage.metadata.message_type = wrong.map(Into::into);
                let reply_to = metadata.reply_to.clone().unwrap();
                bus.broker().publish(Destination::Reply(&reply_to), garbage).await.unwrap();
                request.ack();
            };
            let question = question("well?");
            let (error, ()) = tokio::join!(client.request(ASK, &question), answer);
            assert!(matches!(error, Err(RequestError::BadReply { .. })), "{error:?}");
        }
    }

    async fn a_subscriber_buries_what_claims_to_be_due_in_a_thousand_years(bus: Bus) {
        let client = bus.client();
        let mut events = client.subscribe(Subscription::from(HAPPENED).queue("log")).await.unwrap();
        let mut garbage = vec![Envelope { payload: vec![0xff; 20].into(), ..Envelope::default() }];
        garbage[0].metadata.due_at = Some(Timestamp::now().after(Duration::from_millis(20)));
        garbage[0].metadata.correlation_id = Some("garbage".into());
        for garbage in garbage.drain(..) {
            let queue = bus.queue("log");
            bus.broker().publish(Destination::Queue(&queue), garbage).await.unwrap();
        }
        #[cfg(feature = "rabbitmq")]
        if bus.broker().kind() == "rabbitmq" {
            let mut headers = lapin::types::FieldTable::default();
            headers.insert("agentbus-due-at".into(), lapin::types::AMQPValue::LongLongInt(i64::MAX));
            let properties = lapin::BasicProperties::default().with_headers(headers);
            let foreign = Foreign::connect(&bus.config, None).await;
            foreign.publish("", &bus.queue("log"), properties, &[0xff; 20]).await;
        }
        let expected = if bus.broker().kind() == "rabbitmq" { 2 } else { 1 };
        let good = async {
            eventually("the dead letters", async || {
                let stats = bus.broker().stats(&bus.queue("log.dlq")).await.unwrap();
                (stats.ready == expected).then_some(())
            }).await;
            client.publish(HAPPENED, &Event { number: 7 }).await.unwrap();
        };
        let (event, ()) = tokio::join!(events.next(), good);
        assert_eq!(event.unwrap().ack().number, 7);
    }

    async fn a_reply_over_the_limit_is_an_error_at_once(bus: Bus) {
        let agents = Runtime::new(bus.client()).retry(RetryPolicy::none()).agent(Windbag);
        let agents = agents.start().await.unwrap();
        let options = RequestOptions::default().timeout(Duration::from_secs(20));
        let error = agents.client().request_with(ASK, &question("tell"), options).await.unwrap_err();
        assert!(error.reply().is_some(), "{error:?}");
        agents.stop().await;
    }

    async fn an_agent_answers_again_after_its_queue_was_deleted(bus: Bus) {
        let agents = Runtime::new(bus.client()).agent(Victim).start().await.unwrap();
        for round in 0..3 {
            // Each consumer's stream ends, and the agent begins anew.
            bus.broker().delete(&bus.queue("victim")).await.unwrap();
            let answer = eventually("an answer", async || {
                agents.client().request(ASK, &question(&format!("round {round}"))).await.ok()
            }).await;
            assert_eq!(answer.text, format!("round {round}"));
        }
        eventually("good health", async || bus.broker().health().borrow().is_healthy().then_some(())).await;
        agents.stop().await;
    }

    async fn ten_thousand_bad_messages_are_all_accounted_for(bus: Bus) {
        println!("seed {SEED:#x}");
        let mut config = bus.config.clone();
        config.max_pending_replies = MAX_PENDING;
        let client = Client::with_config(Arc::clone(bus.broker()), config);
        let runtime = Runtime::new(client.clone()).retry(RetryPolicy::none()).agent(Victim);
        let agents = runtime.start().await.unwrap();
        let targets = targets(&bus, &client).await;
        let before = agents.counts("victim").unwrap();

        let flood = async {
            match bus.broker().kind() {
                #[cfg(feature = "rabbitmq")]
                "rabbitmq" => flood_from_elsewhere(&bus, &targets).await,
                _ => flood_by_the_port(&bus, &targets).await,
            }
        };
        let (sent, ()) = tokio::join!(flood, ask_good_questions(&client));

        let expected = sent.to_agent + GOOD as u64;
        let mut ended = 0;
        let done = eventually("every message to end", async || {
            let counts = agents.counts("victim")?;
            let now = counts.handled + counts.dead_lettered + counts.expired
                - before.handled - before.dead_lettered - before.expired;
            if now != ended {
                ended = now;
                println!("{ended} of {expected}: {counts:?}");
            }
            (ended == expected).then_some(counts)
        }).await;
        assert_eq!((done.retried, done.snoozed), (0, 0));
        assert!(done.handled > before.handled + GOOD as u64, "some garbage is valid");
        assert!(done.expired > 0 && done.undeliverable_replies > 0, "{done:?}");
        let dead = done.dead_lettered - before.dead_lettered + sent.to_dead_letters;
        eventually("the dead letters", async || {
            let stats = bus.broker().stats(&bus.queue("victim.dlq")).await.unwrap();
            assert!(stats.ready <= dead, "{} of {dead}", stats.ready);
            (stats.ready == dead).then_some(())
        }).await;

        // As many as may wait at once: no request left its place taken.
        let last = (0..MAX_PENDING).map(|_| async { client.request(ASK, &question("still there?")).await });
        for answer in futures::future::join_all(last).await {
            assert_eq!(answer.unwrap().text, "still there?");
        }
        agents.stop().await;
        for target in &targets {
            if let Target::Queue(queue) = target {
                // What was not settled would be back in its queue now; a replica's own queue goes.
                let ready = bus.broker().stats(queue).await.map_or(0, |stats| stats.ready);
                assert_eq!(ready, 0, "{queue}");
            }
        }
        assert_eq!(bus.broker().stats(&bus.queue("victim.dlq")).await.unwrap().ready, dead);
        assert!(bus.broker().health().borrow().is_healthy());
    }
}

#[cfg(feature = "rabbitmq")]
mod foreign_clients {
    use agentbus::{
        Config, Report,
        agent::StartError,
        broker::{ConnectError, QueueRole, QueueSpec, TopologyError},
        message::FailureKind,
    };
    use lapin::{
        BasicProperties,
        options::QueueDeclareOptions,
        types::{AMQPValue, FieldTable},
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A port of this machine that leads to the broker and turns each `~` on the way there into a
    /// byte that UTF-8 does not have. lapin sends text only; other clients send what they like.
    async fn beyond_utf8(config: &Config) -> u16 {
        let agentbus::config::BusUrl::Amqp(url) = &config.bus else { panic!("no `amqp` address") };
        let (host, port) = url.hosts().next().unwrap();
        let broker = (host.to_owned(), port);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let broker = tokio::net::TcpStream::connect(broker).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_broker, mut to_broker) = broker.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_broker, &mut to_client).await });
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                let bytes = &mut buffer[..read];
                bytes.iter_mut().filter(|byte| **byte == b'~').for_each(|byte| *byte = 0xff);
                to_broker.write_all(bytes).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn names_that_are_not_utf8_harm_nobody() {
        let Some(bus) = Bus::rabbitmq().await else { return };
        let agents = Runtime::new(bus.client()).retry(RetryPolicy::none()).agent(Victim);
        let agents = agents.start().await.unwrap();
        let foreign = Foreign::connect(&bus.config, Some(beyond_utf8(&bus.config).await)).await;
        let mut headers = FieldTable::default();
        headers.insert("~~".into(), AMQPValue::LongLongInt(1));
        let bad = [
            BasicProperties::default().with_type("~~".into()),
            BasicProperties::default().with_message_id("~~".into()),
            BasicProperties::default().with_reply_to("~~".into()),
            BasicProperties::default().with_headers(headers),
        ];
        for properties in bad.clone() {
            foreign.publish(&bus.config.exchange, "test.ask", properties, &[0xff; 20]).await;
        }
        for number in 0..10 {
            let asked = question(&format!("good question {number}"));
            let answer = agents.client().request(ASK, &asked).await.unwrap();
            assert_eq!(answer.text, asked.text);
        }
        eventually("the bad ones to end", async || {
            let stats = bus.broker().stats(&bus.queue("victim.dlq")).await.unwrap();
            (stats.ready == bad.len() as u64).then_some(())
        })
        .await;
        agents.stop().await;
    }

    #[tokio::test]
    async fn a_broker_that_is_not_there_is_named_with_host_and_port() {
        let config = Config::default().with_bus("amqp://guest:hush@127.0.0.1:1/".parse().unwrap());
        let connected = tokio::time::timeout(Duration::from_secs(5), Client::connect(config)).await;
        let refused = std::net::TcpStream::connect("127.0.0.1:1").unwrap_err();
        assert_eq!(
            said(connected.expect("at once")),
            format!("RabbitMQ cannot be reached at 127.0.0.1:1: {refused}; is it running?")
        );
    }

    #[tokio::test]
    async fn wrong_credentials_and_missing_virtual_hosts_are_named() {
        let Some(bus) = Bus::rabbitmq().await else { return };
        let agentbus::config::BusUrl::Amqp(url) = &bus.config.bus else { return };
        let (host, port) = url.hosts().next().unwrap();
        let (user, vhost) = (url.username(), url.vhost().replace('/', "%2f"));
        let connect = async |address: String| {
            let config = bus.config.clone().with_bus(address.parse().unwrap());
            said(Client::connect(config).await)
        };
        assert_eq!(
            connect(format!("amqp://{user}:hush@{host}:{port}/{vhost}")).await,
            format!(
                "RabbitMQ at {host}:{port} refused user `{user}`: unknown user or wrong password"
            )
        );
        let password = url.password();
        assert_eq!(
            connect(format!("amqp://{user}:{password}@{host}:{port}/no-such-vhost")).await,
            format!(
                "RabbitMQ at {host}:{port} has no virtual host `no-such-vhost`; \
                 create it with `rabbitmqctl add_vhost`, or name another"
            )
        );
    }

    #[tokio::test]
    #[cfg(not(feature = "tls"))]
    async fn amqps_without_the_feature_is_refused_and_never_spoken_in_plain_text() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = format!("amqps://guest:hush@127.0.0.1:{port}/");
        let config = Config::default().with_bus(address.parse().unwrap());
        let text = with_sources(&Client::connect(config).await.unwrap_err());
        assert!(text.contains("tls") && !text.contains("hush"), "{text}");
        let nobody_called =
            tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(nobody_called.is_err());
    }

    #[tokio::test]
    async fn an_agents_queue_that_others_declared_is_an_error_that_says_what_to_do() {
        let Some(bus) = Bus::rabbitmq().await else { return };
        let foreign = Foreign::connect(&bus.config, None).await;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(7));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let queue = bus.queue("victim");
        let declared = foreign.channel.queue_declare(queue.as_str().into(), options, arguments);
        declared.await.unwrap();
        let error = Runtime::new(bus.client()).agent(Victim).start().await.unwrap_err();
        let StartError::Declare { source: TopologyError::Mismatch { .. }, .. } = &error else {
            panic!("{error:?}")
        };
        let text = with_sources(&error);
        for part in ["`victim`", &format!("`{queue}`"), "x-", "delete the queue", "passive"] {
            assert!(text.contains(part), "no {part} in: {text}");
        }
        println!("{text}");
    }

    #[tokio::test]
    async fn a_foreign_message_of_64_mib_is_kept_and_the_agent_goes_on() {
        let Some(bus) = Bus::rabbitmq().await else { return };
        let agents = Runtime::new(bus.client()).agent(Victim).start().await.unwrap();
        let foreign = Foreign::connect(&bus.config, None).await;
        let body = vec![7; 64 << 20];
        let asker = bus.queue("asker");
        let role = QueueRole::Private { max_length: 10, expires: Duration::from_mins(1) };
        bus.broker().declare(&QueueSpec::new(asker.clone(), role)).await.unwrap();
        let mut replies = bus.broker().consume(&asker, 1).await.unwrap();
        let properties = BasicProperties::default().with_reply_to(asker.as_str().into());
        foreign.publish(&bus.config.exchange, "test.ask", properties, &body).await;
        let mut letters = bus.broker().consume(&bus.queue("victim.dlq"), 1).await.unwrap();
        let letter = tokio::time::timeout(Duration::from_secs(20), letters.next()).await;
        let letter = letter.expect("a dead letter").unwrap();
        let failure = letter.envelope().metadata.failure.as_ref().unwrap();
        assert_eq!(failure.kind, FailureKind::TooLarge);
        assert!(letter.envelope().payload == body);
        letter.ack();
        let reply = replies.next().await.unwrap();
        let reply_type = reply.envelope().metadata.message_type.as_deref();
        assert_eq!(reply_type, Some("agentbus.v1.ErrorReply"), "who asked is told");
        reply.ack();
        let answer = agents.client().request(ASK, &question("still there?")).await.unwrap();
        assert_eq!(answer.text, "still there?");
        agents.stop().await;
    }

    /// What `main` prints, which is the same for whoever prints all causes.
    fn said(connected: Result<Client, ConnectError>) -> String {
        let error = connected.unwrap_err();
        let text = with_sources(&error);
        assert_eq!(Report::from(error).to_string(), text);
        text
    }

    fn with_sources(error: &dyn std::error::Error) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }
}
