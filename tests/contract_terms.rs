//! What a contract states of a route holds where code says nothing else.

mod support;

use std::time::Duration;

use agentbus::{
    Agent, Client, Context, Envelope, HandlerError, PublishOptions, RequestError, RequestOptions,
    Routes, Rpc, Runtime, Subscriber, Topic,
    contract::{Contract, Retries},
    message::{FromEnvelope, Priority},
    retry::{Backoff, RetryPolicy},
};
use support::{
    bus::Bus,
    messages::{Answer, Event, HAPPENED, Question, question},
};

static CONTRACT: Contract = Contract::new(&[], "0123456789abcdef");

/// As generated code has it.
const STATED: Topic<Event> = Topic::new("test.stated")
    .with_retry(Retries::new().attempts(2).first_delay(Duration::from_millis(250)))
    .with_priority(8)
    .with_contract(&CONTRACT);

const ALSO_STATED: Topic<Event> = Topic::new("test.also-stated")
    .with_retry(Retries::new().attempts(2).first_delay(Duration::from_millis(250)));

const ASK: Rpc<Question, Answer> = Rpc::new("test.terms")
    .with_deadline(Duration::from_millis(50))
    .with_priority(9)
    .with_contract(&CONTRACT);

/// Fails at events, answers questions.
struct Clumsy {
    name: &'static str,
    policy: Option<RetryPolicy>,
}

impl Agent for Clumsy {
    fn name(&self) -> &str {
        self.name
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new()
            .on(STATED, Self::fail)
            .on(ALSO_STATED, Self::fail)
            .retry(every(3))
            .on(HAPPENED, Self::fail)
            .on(ASK, Self::answer)
    }

    fn retry(&self) -> Option<RetryPolicy> {
        self.policy.clone()
    }
}

impl Clumsy {
    async fn fail(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        Err(std::io::Error::other("a broken leg"))?
    }

    async fn answer(&self, question: Question, _: &Context) -> Result<Answer, HandlerError> {
        Ok(Answer { text: question.text })
    }
}

fn every(attempts: u32) -> RetryPolicy {
    let delay = Duration::from_millis(250);
    RetryPolicy::attempts(attempts).with_backoff(Backoff::constant(delay))
}

/// Takes `count` dead letters; returns the topic of each and how often it was tried, in order.
async fn attempts(bus: &Bus, agent: &str, count: usize) -> Vec<(String, u32)> {
    let queue = bus.queue(&format!("{agent}.dlq"));
    let mut letters = bus.broker().consume(&queue, 100).await.unwrap();
    let mut taken = Vec::new();
    while taken.len() < count {
        let letter = tokio::time::timeout(Duration::from_mins(1), letters.next()).await;
        let letter = letter.expect("a dead letter").expect("an open queue");
        let failure = letter.envelope().metadata.failure.clone().expect("a failure");
        taken.push((failure.topic.expect("a topic").to_string(), failure.attempts));
        letter.ack();
    }
    taken.sort();
    taken
}

/// Takes the next message, for good.
async fn take<M: FromEnvelope>(subscriber: &mut Subscriber<M>) -> Envelope {
    let next = tokio::time::timeout(Duration::from_mins(1), subscriber.next()).await;
    let received = next.expect("a message comes").expect("an open bus");
    let envelope = received.envelope().clone();
    received.ack();
    envelope
}

fn sending_contracts(bus: &Bus) -> Client {
    let mut config = bus.config.clone();
    config.send_contract = true;
    Client::with_config(std::sync::Arc::clone(bus.broker()), config)
}

on_each_bus! {
    async fn code_goes_before_the_contract_and_the_contract_before_the_runtime(bus: Bus) {
        let plain = Clumsy { name: "plain", policy: None };
        let strict = Clumsy { name: "strict", policy: Some(RetryPolicy::none()) };
        let runtime = Runtime::new(bus.client()).retry(every(4)).agent(plain).agent(strict);
        let agents = runtime.start().await.unwrap();
        for topic in [STATED, ALSO_STATED, HAPPENED] {
            agents.client().publish(topic, &Event { number: 1 }).await.unwrap();
        }
        let expected = |of: [(&Topic<Event>, u32); 3]| {
            of.map(|(topic, attempts)| (topic.name().to_string(), attempts)).to_vec()
        };
        let found = attempts(&bus, "plain", 3).await;
        // The route's, the runtime's, the contract's.
        assert_eq!(found, expected([(&ALSO_STATED, 3), (&HAPPENED, 4), (&STATED, 2)]));
        let found = attempts(&bus, "strict", 3).await;
        // The route's, and the agent's wherever a route has none.
        assert_eq!(found, expected([(&ALSO_STATED, 3), (&HAPPENED, 1), (&STATED, 1)]));
        agents.shutdown().await;
    }

    async fn a_request_waits_as_long_as_the_contract_says_or_the_caller(bus: Bus) {
        let client = bus.client();
        // Gets requests and answers none.
        let _silent = client.subscribe(ASK.topic().clone()).await.unwrap();
        let waited = |ended: Result<Answer, RequestError>| match ended {
            Err(RequestError::TimedOut { timeout, .. }) => timeout,
            other => panic!("it was to time out: {other:?}"),
        };
        let ended = client.request(ASK, &question("?")).await;
        assert_eq!(waited(ended), Duration::from_millis(50));
        let options = RequestOptions::default().timeout(Duration::from_millis(70));
        let ended = client.request_with(ASK, &question("?"), options).await;
        assert_eq!(waited(ended), Duration::from_millis(70));
    }

    async fn messages_have_the_priority_the_contract_says_or_the_sender(bus: Bus) {
        let client = bus.client();
        let mut events = client.subscribe(STATED).await.unwrap();
        let mut requests = client.subscribe(ASK.topic().clone()).await.unwrap();
        client.publish(STATED, &Event { number: 1 }).await.unwrap();
        let urgent = PublishOptions::default().priority(Priority::URGENT);
        client.publish_with(STATED, &Event { number: 2 }, urgent).await.unwrap();
        let mut priorities = [take(&mut events).await, take(&mut events).await]
            .map(|event| event.metadata.priority.map(Priority::level));
        priorities.sort_unstable();
        assert_eq!(priorities, [Some(8), Some(10)]);
        // After its deadline, a subscriber would not see it.
        let patient = RequestOptions::default().timeout(Duration::from_mins(2));
        let asking = question("?");
        let request = tokio::select! {
            request = take(&mut requests) => request,
            reply = client.request_with(ASK, &asking, patient) => panic!("nobody replies: {reply:?}"),
        };
        assert_eq!(request.metadata.priority.map(Priority::level), Some(9));
    }

    async fn the_contract_is_named_where_that_is_switched_on(bus: Bus) {
        let quiet = bus.client();
        let client = sending_contracts(&bus);
        let mut events = quiet.subscribe(STATED).await.unwrap();
        let mut others = quiet.subscribe(HAPPENED).await.unwrap();
        let named = |envelope: &Envelope| envelope.metadata.contract.as_ref().map(ToString::to_string);
        quiet.publish(STATED, &Event { number: 1 }).await.unwrap();
        assert_eq!(named(&take(&mut events).await), None);
        client.publish(STATED, &Event { number: 2 }).await.unwrap();
        let hash = Some("0123456789abcdef".to_owned());
        assert_eq!(named(&take(&mut events).await), hash);
        client.publish(HAPPENED, &Event { number: 3 }).await.unwrap();
        assert_eq!(named(&take(&mut others).await), None, "of no contract");

        let clumsy = Clumsy { name: "clumsy", policy: None };
        let agents = Runtime::new(client.clone()).agent(clumsy).start().await.unwrap();
        let mut request = Envelope::encode(&question("?"));
        request.topic = Some(ASK.name().clone());
        let reply = quiet.request_envelope(request, RequestOptions::default()).await.unwrap();
        assert_eq!(named(&reply), hash, "a reply is named, too");
        agents.shutdown().await;
    }
}
