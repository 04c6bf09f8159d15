//! Redis at `REDIS_URL`, or on localhost.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use agentbus::{
    Name,
    broker::{
        Broker,
        redis::{Redis, RedisOptions},
    },
};
use async_trait::async_trait;

use crate::backend::{Backend, Skip, Start};

/// A bus of this case's own.
struct Remote {
    options: RedisOptions,
    url: String,
    connections: Mutex<Vec<Arc<Redis>>>,
}

pub(crate) async fn start() -> Start {
    let url = std::env::var("REDIS_URL").unwrap_or("redis://127.0.0.1/".to_owned());
    let options = RedisOptions::from_url(&url).expect("an address of Redis");
    let exchange = format!("agentbus-test-{:012x}", fastrand::u64(..1 << 48)).into();
    let options = RedisOptions { exchange, ..options };
    let skip = |reason| Skip { backend: "redis", reason, required_by: "AGENTBUS_REQUIRE_REDIS" };
    let first = Redis::connect(options.clone()).await.map_err(|error| skip(error.to_string()))?;
    let connections = Mutex::new(vec![Arc::new(first)]);
    Ok(Arc::new(Remote { options, url, connections }))
}

#[async_trait]
impl Backend for Remote {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn connect(&self, publish_timeout: Duration) -> Arc<dyn Broker> {
        let options = RedisOptions { publish_timeout, ..self.options.clone() };
        let connected = Redis::connect(options).await;
        let connected = Arc::new(connected.expect("the server was there a moment ago"));
        self.connections.lock().unwrap().push(connected.clone());
        connected
    }

    fn undeliverable(&self) -> Name {
        format!("{}.delay.v1.undeliverable", self.options.exchange).into()
    }

    async fn clean(&self, _queues: Vec<Name>) {
        let connections = std::mem::take(&mut *self.connections.lock().unwrap());
        for connection in connections {
            connection.close().await;
        }
        let client = ::redis::Client::open(&*self.url).expect("an address of Redis");
        let mut connection =
            client.get_multiplexed_async_connection().await.expect("it was there a moment ago");
        let pattern = format!("agentbus:{{{}}}:*", self.options.exchange);
        let mut cursor = 0_u64;
        loop {
            let mut scan = ::redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1000);
            let (next, keys): (u64, Vec<String>) =
                scan.query_async(&mut connection).await.expect("the keys are listed");
            if !keys.is_empty() {
                let unlinked = ::redis::cmd("UNLINK").arg(keys).query_async(&mut connection).await;
                let () = unlinked.expect("the keys are removed");
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
}
