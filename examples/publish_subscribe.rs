//! Agents subscribe with patterns: `*` stands for exactly one word, `#` for zero or more.
//! Run it with `cargo run -p examples --bin publish_subscribe`.

use agentbus::{
    Agent, Client, Config, Context, Envelope, HandlerError, Name, Report, Routes, Runtime,
};
use examples::v1::{
    ItemReturned, OrderPaid, OrderPlaced,
    order_service::{ITEM_RETURNED, PAID, PLACED},
};
use tokio::sync::mpsc;

struct Observer {
    name: &'static str,
    pattern: &'static str,
    seen: mpsc::UnboundedSender<(Name, &'static str)>,
}

impl Agent for Observer {
    fn name(&self) -> &str {
        self.name
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(self.pattern, Self::observe)
    }
}

impl Observer {
    // What matches a pattern may be of several types; `Envelope` takes them all, undecoded.
    async fn observe(&self, order: Envelope, _: &Context) -> Result<(), HandlerError> {
        if let Some(topic) = order.topic {
            self.seen.send((topic, self.name))?;
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let client = Client::connect(Config::load()?).await?;
    let (seen, mut sightings) = mpsc::unbounded_channel();
    let observer = |name, pattern| Observer { name, pattern, seen: seen.clone() };
    let agents = Runtime::new(client.clone())
        .agent(observer("audit", "order.#"))
        .agent(observer("ledger", "order.*"))
        .agent(observer("returns", "#.returned"))
        .start()
        .await?;

    // One publish reaches every agent whose pattern matches.
    client.publish(PLACED, &OrderPlaced { order: 17 }).await?;
    client.publish(PAID, &OrderPaid { order: 17 }).await?;
    client.publish(ITEM_RETURNED, &ItemReturned { order: 17, item: "tea".to_owned() }).await?;

    let mut lines = Vec::new();
    while lines.len() < 6 {
        let Some((topic, agent)) = sightings.recv().await else { break };
        lines.push(format!("{topic} reached {agent}"));
    }
    // Agents work at the same time, so the order in which they saw the messages is open.
    lines.sort();
    println!("{}", lines.join("\n"));

    agents.shutdown().await;
    Ok(())
}
