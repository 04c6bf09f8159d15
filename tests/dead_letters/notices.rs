//! Who is told of dead letters.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use agentbus::{
    Agent, Context, HandlerError, RequestOptions, Routes, Runtime, agent::DEAD_LETTERED,
    client::DeadLetter, message::FailureKind, proto::v1::DeadLettered,
};

use crate::{
    moody::{Moody, counted},
    on_each_bus,
    support::{
        self, eventually,
        messages::{ASK, Event, HAPPENED, question},
    },
};

on_each_bus! {
    async fn the_hook_is_told_of_each_dead_letter_and_may_panic(bus: Bus) {
        let told: Arc<Mutex<Vec<DeadLetter>>> = Arc::default();
        let client = bus.client();
        let tell = {
            let told = told.clone();
            move |letter: DeadLetter| {
                let told = told.clone();
                async move {
                    told.lock().unwrap().push(letter);
                    panic!("a hook may panic");
                }
            }
        };
        let runtime = Runtime::new(client.clone()).agent(Moody::new("data"));
        let running = runtime.on_dead_letter(tell).start().await.unwrap();
        for number in 0..5 {
            client.publish(HAPPENED, &Event { number }).await.unwrap();
        }
        counted(&client, "data", 5).await;
        eventually("five calls", async || (told.lock().unwrap().len() == 5).then_some(())).await;
        eventually("five dead letters", async || {
            (running.counts("data").unwrap().dead_lettered == 5).then_some(())
        })
        .await;
        running.stop().await;
        assert_eq!(client.broker().stats(&bus.queue("data")).await.unwrap().ready, 0, "all acked");
        let first = told.lock().unwrap()[0].clone();
        assert_eq!(first.failure().map(|failure| &failure.kind), Some(&FailureKind::Rejected));
        assert!(first.envelope().decode::<Event>().is_ok());
    }

    async fn an_event_tells_of_dead_letters_but_not_of_its_own(bus: Bus) {
        let mut bus = bus;
        bus.config.dead_letters.announce = true;
        let client = bus.client();
        let seen: Arc<Mutex<Vec<DeadLettered>>> = Arc::default();
        let listener = Listener(seen.clone());
        let runtime = Runtime::new(client.clone()).agent(Moody::new("data")).agent(listener);
        let running = runtime.start().await.unwrap();
        let id = client.publish(HAPPENED, &Event { number: 1 }).await.unwrap().to_string();
        // The listener fails on the event, which is a dead letter of its own.
        counted(&client, "listener", 1).await;
        counted(&client, "data", 1).await;
        let options = RequestOptions::default().timeout(Duration::from_mins(1));
        client.request_with(ASK, &question("more?"), options).await.unwrap_err();
        counted(&client, "listener", 2).await;
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen.len(), 2, "{seen:?}");
        let DeadLettered { agent, queue, message_id, message_type, topic, kind, error, attempts, at, .. } =
            seen[0].clone();
        assert_eq!([agent, kind, topic], ["data", "rejected", "test.happened"]);
        assert_eq!([queue, message_id], [bus.queue("data.dlq"), id]);
        assert_eq!([message_type.as_str(), error.as_str()], ["test.v1.Event", "in no mood"]);
        assert!(attempts == 1 && at > 0);
        running.stop().await;
    }
}

/// Fails on every event of a dead letter.
struct Listener(Arc<Mutex<Vec<DeadLettered>>>);

impl Agent for Listener {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(DEAD_LETTERED, Self::told)
    }
}

impl Listener {
    async fn told(&self, event: DeadLettered, _: &Context) -> Result<(), HandlerError> {
        self.0.lock().unwrap().push(event);
        Err(HandlerError::reject("wants to know nothing of it"))
    }
}
