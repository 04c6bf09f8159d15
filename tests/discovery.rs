//! Who is there: agents answer whoever asks, and announce their start and stop.

mod support;

use std::{sync::Arc, time::Duration};

use agentbus::{
    Agent, Client, Context, Envelope, HandlerError, Name, Pattern, RequestError, RequestOptions,
    Routes, Runtime, Subscription,
    client::{
        AGENT_STARTED, AGENT_STOPPED, AgentCard, DISCOVER, Discovery, RouteKind, SubscribeError,
        Subscriber,
    },
    config::Declare,
    contract::Contract,
    message::Code,
    proto::v1::{AgentStarted, AgentStopped, DiscoverRequest, FILE_DESCRIPTOR_SET, StopReason},
};
use support::{
    bus::Bus,
    eventually,
    messages::{ASK, Answer, Event, HAPPENED, Pending, Question, THEN, question},
    recorder::Recorder,
};
use tokio::{sync::mpsc, time::timeout};

/// For what hangs.
const LIMIT: Duration = Duration::from_mins(1);

static CONTRACT: Contract = Contract::new(FILE_DESCRIPTOR_SET, "00000000000000aa");
static OTHER: Contract = Contract::new(FILE_DESCRIPTOR_SET, "00000000000000bb");

/// Has a route of each kind; tells what its handlers get.
struct Oracle {
    name: &'static str,
    seen: mpsc::UnboundedSender<Name>,
}

impl Agent for Oracle {
    fn name(&self) -> &str {
        self.name
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new()
            .on(ASK.with_contract(&CONTRACT), Self::ask)
            .on_each(HAPPENED, Self::happened)
            .on("#", Self::any)
            .on_reply(THEN, Self::then)
    }
}

impl Oracle {
    fn new(name: &'static str) -> (Self, mpsc::UnboundedReceiver<Name>) {
        let (seen, all) = mpsc::unbounded_channel();
        (Self { name, seen }, all)
    }

    async fn ask(&self, question: Question, _: &Context) -> Result<Answer, HandlerError> {
        Ok(Answer { text: question.text })
    }

    async fn happened(&self, _: Event, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn any(&self, envelope: Envelope, _: &Context) -> Result<(), HandlerError> {
        Ok(self.seen.send(envelope.topic.unwrap_or_else(|| "".into())).map_err(Box::new)?)
    }

    async fn then(
        &self,
        _: Result<Answer, RequestError>,
        _: Pending,
        _: &Context,
    ) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// Makes a runtime whose agents are seen.
fn seen(bus: &Bus) -> Runtime {
    Runtime::new(bus.client()).discovery(true)
}

/// Looks for agents until there are as many.
async fn found(client: &Client, agent: &str, count: usize) -> Vec<AgentCard> {
    eventually("the agents to be found", async || {
        // Until they are bound, somebody else may have the question.
        let all = Discovery::default().agent(Pattern::parse(agent.to_owned()).unwrap());
        let all = all.within(Duration::from_secs(1)).at_most(count).with_contracts();
        let cards = client.discover(all).await.unwrap().all().await;
        (cards.len() == count).then_some(cards)
    })
    .await
}

async fn events(
    client: &Client,
) -> Result<(Subscriber<AgentStarted>, Subscriber<AgentStopped>), SubscribeError> {
    Ok((client.subscribe(AGENT_STARTED).await?, client.subscribe(AGENT_STOPPED).await?))
}

on_each_bus! {
    async fn an_agent_shows_its_card(bus: Bus) {
        let (oracle, _all) = Oracle::new("test.oracle");
        let agents = seen(&bus).version("1.2.3").contract(&OTHER).agent(oracle).start().await.unwrap();
        let client = bus.client();
        let card = found(&client, "test.oracle", 1).await.remove(0);
        assert_eq!(card.name, "test.oracle");
        assert_eq!(card.version.as_deref(), Some("1.2.3"));
        assert_eq!(*card.queue, *bus.queue("test.oracle"));
        assert_eq!(card.pid, std::process::id());
        assert!(card.trouble.is_none(), "{card:?}");
        assert!(card.library.starts_with("agentbus/"));

        let kinds: Vec<_> = card.routes.iter().map(|it| (&*it.topic, it.kind)).collect();
        let expected = [
            ("test.ask", RouteKind::Rpc),
            ("test.happened", RouteKind::Topic),
            ("#", RouteKind::Pattern),
            ("test.ask", RouteKind::FollowUp),
        ];
        assert_eq!(kinds, expected);
        let ask = &card.routes[0];
        assert_eq!(ask.request_type.as_deref(), Some("test.v1.Question"));
        assert_eq!(ask.reply_type.as_deref(), Some("test.v1.Answer"));
        assert_eq!(ask.contract_hash.as_deref(), Some(CONTRACT.hash()));
        let happened = &card.routes[1];
        assert!(happened.each_replica && happened.reply_type.is_none());
        assert_eq!(happened.contract_hash.as_deref(), Some(OTHER.hash()), "the runtime's");
        assert_eq!(card.routes[2].request_type, None);
        let then = &card.routes[3];
        assert_eq!(then.follow_up.as_deref(), Some("then"));
        assert_eq!(then.reply_type.as_deref(), Some("test.v1.Answer"));

        let hashes: Vec<_> = card.contracts.iter().map(|it| &*it.hash).collect();
        assert_eq!(hashes, [CONTRACT.hash(), OTHER.hash()]);
        for contract in &card.contracts {
            assert_eq!(contract.descriptor_set.as_deref(), Some(FILE_DESCRIPTOR_SET));
        }

        assert_eq!(card.load.handled, 0);
        client.request(ASK, &question("there?")).await.unwrap();
        eventually("the load to be told", async || {
            (found(&client, "#", 1).await[0].load.handled == 1).then_some(())
        })
        .await;
        agents.stop().await;
        client.close().await;
    }

    async fn every_agent_of_every_runtime_answers_once_and_for_itself(bus: Bus) {
        let client = bus.client();
        let runtime = |names: [&'static str; 2]| {
            let add = |runtime: Runtime, name| runtime.agent(Oracle::new(name).0);
            names.into_iter().fold(seen(&bus), add).start()
        };
        let first = runtime(["test.a", "test.b"]).await.unwrap();
        let second = runtime(["test.b", "other.c"]).await.unwrap();
        let cards = found(&client, "#", 4).await;
        let names: Vec<_> = cards.iter().map(|card| &*card.name).collect();
        assert_eq!(names, ["other.c", "test.a", "test.b", "test.b"]);
        assert_ne!(cards[2].instance, cards[3].instance);
        let matching: Vec<_> = found(&client, "*.b", 2).await;
        assert!(matching.iter().all(|card| card.name == "test.b"));
        assert_eq!(found(&client, "other.#", 1).await[0].name, "other.c");

        second.stop().await;
        eventually("those that have stopped to be missing", async || {
            let left = client.discover(Discovery::default()).await.unwrap().all().await;
            let names: Vec<_> = left.iter().map(|card| &*card.name).collect();
            (names == ["test.a", "test.b"]).then_some(())
        })
        .await;
        first.stop().await;
        client.close().await;
    }

    async fn starts_and_stops_are_announced_with_the_reason(bus: Bus) {
        let client = bus.client();
        let (mut started, mut stopped) = events(&client).await.unwrap();
        let agents = seen(&bus).version("7").agent(Oracle::new("test.one").0).start().await.unwrap();
        let said = timeout(LIMIT, started.next()).await.unwrap().unwrap().ack();
        let card = AgentCard::from(said.agent.unwrap());
        assert_eq!((&*card.name, card.version.as_deref()), ("test.one", Some("7")));
        assert_eq!(card.routes.len(), 4);
        agents.stop().await;
        let said = timeout(LIMIT, stopped.next()).await.unwrap().unwrap().ack();
        assert_eq!(said.reason(), StopReason::Requested);
        let gone = AgentCard::from(said.agent.unwrap());
        assert_eq!((gone.instance, gone.routes.len()), (card.instance, 0));

        let agents = seen(&bus).agent(Oracle::new("test.two").0).start().await.unwrap();
        timeout(LIMIT, started.next()).await.unwrap().unwrap().ack();
        drop(agents);
        let said = timeout(LIMIT, stopped.next()).await.unwrap().unwrap().ack();
        assert_eq!(said.reason(), StopReason::Dropped);
        client.close().await;
    }

    async fn who_listens_to_everything_gets_none_of_it(bus: Bus) {
        let client = bus.client();
        let mut everything =
            client.subscribe(Subscription::<Envelope>::pattern("#").unwrap()).await.unwrap();
        let reserved = Subscription::<Envelope>::pattern("agentbus.#").unwrap();
        let mut reserved = client.subscribe(reserved).await.unwrap();
        let (oracle, mut all) = Oracle::new("test.oracle");
        let agents = seen(&bus).agent(oracle).start().await.unwrap();
        found(&client, "test.oracle", 1).await;
        // Behind whatever came before it.
        let mut last = Envelope::encode(&Event { number: 1 });
        last.topic = Some("test.last".into());
        client.publish_envelope(last).await.unwrap();
        assert_eq!(timeout(LIMIT, all.recv()).await.unwrap().unwrap(), "test.last");
        let next = timeout(LIMIT, everything.next()).await.unwrap().unwrap();
        assert_eq!(next.envelope().topic.as_deref(), Some("test.last"));
        next.ack();
        let mut topics = Vec::new();
        while topics.len() < 2 {
            let event = timeout(LIMIT, reserved.next()).await.unwrap().unwrap().ack();
            let topic = event.topic.unwrap();
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        topics.sort();
        assert_eq!(topics, [AGENT_STARTED.name().clone(), DISCOVER.name().clone()]);
        agents.stop().await;
        // Nothing of it was work of the agent's, and nothing failed.
        let letters = client.broker().stats(&bus.queue("test.oracle.dlq")).await.unwrap();
        assert_eq!(letters.ready, 0);
        client.close().await;
    }

    async fn nobody_there_is_no_error(bus: Bus) {
        let client = bus.client();
        let soon = || Discovery::default().within(Duration::from_millis(300));
        assert_eq!(client.discover(soon()).await.unwrap().all().await, []);
        let quiet = Runtime::new(bus.client()).discovery(false).agent(Oracle::new("test.quiet").0);
        let quiet = quiet.start().await.unwrap();
        assert_eq!(client.discover(soon()).await.unwrap().all().await, []);
        quiet.stop().await;
        client.close().await;
    }

    async fn a_question_that_makes_no_sense_is_answered_so(bus: Bus) {
        let client = bus.client();
        let agents = seen(&bus).agent(Oracle::new("test.oracle").0).start().await.unwrap();
        found(&client, "#", 1).await;
        let request = DiscoverRequest { agent: "a..b".to_owned(), ..DiscoverRequest::default() };
        let options = RequestOptions::default().timeout(LIMIT);
        let error = client.request_with(DISCOVER, &request, options).await.unwrap_err();
        assert_eq!(error.reply().unwrap().code, Code::InvalidArgument, "{error:?}");
        agents.stop().await;
        client.close().await;
    }

    async fn the_queue_is_there_again_when_somebody_deletes_it(bus: Bus) {
        let client = bus.client();
        let recorder = Arc::new(Recorder::new(bus.broker().clone()));
        let recorded = Client::with_config(recorder.clone(), bus.config.clone());
        let runtime = Runtime::new(recorded).discovery(true).agent(Oracle::new("test.oracle").0);
        let agents = runtime.start().await.unwrap();
        found(&client, "#", 1).await;
        let mut queues = recorder.take().into_iter();
        let name = queues.find(|name| name.contains("agentbus.discover.")).unwrap();
        client.broker().delete(&name).await.unwrap();
        found(&client, "#", 1).await;
        agents.stop().await;
        eventually("it to go with its owner", async || client.broker().stats(&name).await.err()).await;
        client.close().await;
    }
}

#[tokio::test]
async fn where_nothing_may_be_made_nothing_is_announced() {
    let bus = Bus::memory();
    let mut config = bus.config.clone();
    config.declare = Declare::Passive;
    config.discovery = true;
    let client = bus.client();
    let (mut started, mut stopped) = events(&client).await.unwrap();
    let passive = Client::with_config(bus.broker().clone(), config);
    let agents = Runtime::new(passive).agent(Oracle::new("test.quiet").0).start().await.unwrap();
    agents.stop().await;
    let loud = seen(&bus).agent(Oracle::new("test.loud").0).start().await.unwrap();
    let first = timeout(LIMIT, started.next()).await.unwrap().unwrap().ack();
    assert_eq!(first.agent.unwrap().name, "test.loud");
    loud.stop().await;
    let first = timeout(LIMIT, stopped.next()).await.unwrap().unwrap().ack();
    assert_eq!(first.agent.unwrap().name, "test.loud");
}
