//! What a contract states beside the routing key: how long to wait, how often to try, how urgent.
//! Run it with `cargo run -p examples --bin contract_terms`.
//!
//! `quote.proto` says it once, for every caller and every answerer; code may say otherwise.

use agentbus::{Agent, Client, Config, Context, HandlerError, Report, Routes, Runtime};
use examples::v1::{
    QuoteRequest, QuoteResponse, QuoteWithdrawn,
    quote_service::{QUOTE, WITHDRAWN},
};
use prost_types::Timestamp;
use tokio::sync::mpsc;

struct Desk {
    log: mpsc::UnboundedSender<String>,
}

impl Agent for Desk {
    fn name(&self) -> &'static str {
        "desk"
    }

    fn routes(&self) -> Routes<Self> {
        // No `.retry(…)` behind a route, and no `retry()` of the agent: the contract's policy counts.
        Routes::new().on(QUOTE, Self::quote).on(WITHDRAWN, Self::withdrawn)
    }
}

impl Desk {
    async fn quote(&self, _: QuoteRequest, ctx: &Context) -> Result<QuoteResponse, HandlerError> {
        let priority = ctx.metadata().priority.unwrap_or_default();
        self.log.send(format!("a request of priority {priority}"))?;
        let valid_until = Some(Timestamp { seconds: 1_893_456_000, nanos: 0 });
        Ok(QuoteResponse { cents: 12_050, valid_until })
    }

    async fn withdrawn(&self, _: QuoteWithdrawn, ctx: &Context) -> Result<(), HandlerError> {
        self.log.send(format!("withdrawn, attempt {}", ctx.attempt()))?;
        match ctx.attempt() {
            3.. => Ok(()),
            _ => Err(std::io::Error::other("the book is closed"))?,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let client = Client::connect(Config::load()?).await?;
    let (log, mut notes) = mpsc::unbounded_channel();
    let agents = Runtime::new(client.clone()).agent(Desk { log }).start().await?;

    println!("a quote may take {:?}", QUOTE.deadline());
    let quote = client.request(QUOTE, &QuoteRequest { asset: "tea".to_owned() }).await?;
    // ProtoJSON, since `build.rs` asks for serde: 64-bit numbers as text, times as RFC 3339.
    let json = serde_json::to_string(&quote)?;
    println!("{json}");
    println!("it reads back the same: {}", serde_json::from_str::<QuoteResponse>(&json)? == quote);

    client.publish(WITHDRAWN, &QuoteWithdrawn { asset: "tea".to_owned() }).await?;
    for _ in 0..4 {
        println!("{}", notes.recv().await.unwrap_or_default());
    }
    agents.shutdown().await;
    Ok(())
}
