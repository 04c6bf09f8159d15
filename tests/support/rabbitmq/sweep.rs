//! Removes what a test has left on the broker.

use std::{collections::BTreeSet, thread, time::Duration};

use agentbus::Config;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_mins(1);

/// Removes queues, and the exchange of `config` with its delays; what does not exist is fine.
///
/// Whoever consumes must be gone, or he declares his queue again.
///
/// # Panics
///
/// Panics where queues stay behind, unless the thread does already.
pub fn sweep(config: &Config, queues: BTreeSet<String>) {
    let removed = super::blocking(async {
        let removed = timeout(LIMIT, remove(config, queues)).await;
        removed.map_err(|_| format!("not done after {LIMIT:?}"))?.map_err(|error| error.to_string())
    });
    if !thread::panicking() {
        removed.expect("no queues stay behind");
    }
}

async fn remove(config: &Config, mut queues: BTreeSet<String>) -> lapin::Result<()> {
    let exchange = &config.exchange;
    let levels = (0..28).map(|level| format!("{level:02}"));
    let delays = levels.chain(["delivery".to_owned(), "undeliverable".to_owned()]);
    let mut exchanges: Vec<_> = delays.map(|name| format!("{exchange}.delay.v1.{name}")).collect();
    queues.extend(exchanges.iter().cloned());
    exchanges.push(exchange.clone());

    let connection = super::connection(&super::address(config)).await?;
    let channel = connection.create_channel().await?;
    for exchange in &exchanges {
        let options = ExchangeDeleteOptions::default();
        channel.exchange_delete(exchange.as_str().into(), options).await?;
    }
    for queue in &queues {
        let options = QueueDeleteOptions::default();
        channel.queue_delete(queue.as_str().into(), options).await?;
    }
    connection.close(200, "swept".into()).await
}
