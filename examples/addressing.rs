//! Messages to one instance, to all of a type and to everybody, on an exchange named `stage7`.
//! Run it with `cargo run -p examples --bin addressing`.

use agentbus::{
    Agent, Client, Config, Context, HandlerError, Report, Routes, Runtime, Topic,
    contract::InvalidTopic,
};
use examples::v1::Note;
use tokio::sync::mpsc;

/// One instance of a service, reached under three topics.
struct Service {
    name: String,
    own: Topic<Note>,
    of_type: Topic<Note>,
    received: mpsc::UnboundedSender<String>,
}

const ALL: Topic<Note> = Topic::new("message.all");

/// Names the topic of an instance or of a type: what is made at run time is checked at run time.
fn to(recipient: &str) -> Result<Topic<Note>, InvalidTopic> {
    Topic::named(format!("message.{recipient}"))
}

impl Service {
    fn new(
        kind: &str,
        id: &str,
        received: &mpsc::UnboundedSender<String>,
    ) -> Result<Self, InvalidTopic> {
        // A name, and so a queue, of its own: instances do not compete, each gets its copy.
        let name = format!("{kind}-{id}");
        Ok(Self { name, own: to(id)?, of_type: to(kind)?, received: received.clone() })
    }

    async fn note(&self, note: Note, _: &Context) -> Result<(), HandlerError> {
        self.received.send(format!("{}: {}", self.name, note.text))?;
        Ok(())
    }
}

impl Agent for Service {
    fn name(&self) -> &str {
        &self.name
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new()
            .on(self.own.clone(), Self::note)
            .on(self.of_type.clone(), Self::note)
            .on(ALL, Self::note)
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let client = Client::connect(Config::load()?.with_exchange("stage7")).await?;
    let (received, mut notes) = mpsc::unbounded_channel();
    let agents = Runtime::new(client.clone())
        .agent(Service::new("engineer", "e1", &received)?)
        .agent(Service::new("engineer", "e2", &received)?)
        .agent(Service::new("librarian", "l1", &received)?)
        .start()
        .await?;

    let messages =
        [(to("e2")?, "to e2", 1), (to("engineer")?, "to engineers", 2), (ALL, "to all", 3)];
    for (topic, text, recipients) in messages {
        client.publish(topic, &Note { text: text.to_owned() }).await?;
        let mut lines = Vec::new();
        while lines.len() < recipients {
            let Some(line) = notes.recv().await else { break };
            lines.push(line);
        }
        lines.sort();
        println!("{}", lines.join("\n"));
    }

    agents.shutdown().await;
    Ok(())
}
