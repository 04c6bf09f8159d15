//! Messages handled in bulk: a batch is full, or its time is up.
//! Run it with `cargo run -p examples --bin batches`.

use std::time::Duration;

use agentbus::{Agent, Client, Config, Context, HandlerError, Report, Routes, Runtime};
use examples::v1::{Clicked, click_service::CLICKED};
use futures::{TryStreamExt, stream};
use tokio::sync::mpsc;

struct Counter {
    written: mpsc::UnboundedSender<usize>,
}

impl Agent for Counter {
    fn name(&self) -> &'static str {
        "click-counter"
    }

    fn routes(&self) -> Routes<Self> {
        // At most four at a time; none waits longer than a second for others to come.
        Routes::new().on_batch(CLICKED, 4, Duration::from_secs(1), Self::write)
    }
}

impl Counter {
    /// A batch ends as a whole: an error here would bring all its messages back.
    async fn write(&self, clicks: Vec<Clicked>, _: &Context) -> Result<(), HandlerError> {
        self.written.send(clicks.len())?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let client = Client::connect(Config::load()?).await?;
    let (written, mut batches) = mpsc::unbounded_channel();
    let agents = Runtime::new(client.clone()).agent(Counter { written }).start().await?;

    let clicks = stream::iter((1..=10).map(|page| Clicked { page: format!("page {page}") }));
    client.publish_many(CLICKED, clicks).try_collect::<Vec<_>>().await?;

    let mut left = 10;
    while left > 0 {
        let Some(count) = batches.recv().await else { break };
        println!("a batch of {count}");
        left -= count;
    }

    agents.shutdown().await;
    Ok(())
}
