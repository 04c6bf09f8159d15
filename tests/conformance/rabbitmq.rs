//! RabbitMQ at `RABBITMQ_URL`, or on localhost where it lets the guest in.

#[path = "../vhost/mod.rs"]
mod vhost;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use agentbus::{
    Name,
    broker::{
        Broker,
        rabbitmq::{RabbitMq, RabbitOptions},
    },
};
use async_trait::async_trait;

use self::vhost::Vhost;
use crate::backend::{Backend, Skip, Start};

/// An exchange of this case's own, in the virtual host of the run.
struct Remote {
    vhost: Vhost,
    connections: Mutex<Vec<Arc<RabbitMq>>>,
}

pub(crate) async fn start() -> Start {
    match Vhost::shared().await {
        Ok(vhost) => Ok(Arc::new(Remote { vhost, connections: Mutex::default() })),
        Err(reason) => {
            Err(Skip { backend: "rabbitmq", reason, required_by: "AGENTBUS_REQUIRE_RABBITMQ" })
        }
    }
}

#[async_trait]
impl Backend for Remote {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    async fn connect(&self, publish_timeout: Duration) -> Arc<dyn Broker> {
        let options = RabbitOptions { publish_timeout, ..self.vhost.options.clone() };
        let connected = RabbitMq::connect(options).await;
        let connected = Arc::new(connected.expect("the broker was there a moment ago"));
        self.connections.lock().unwrap().push(connected.clone());
        connected
    }

    fn undeliverable(&self) -> Name {
        format!("{}.delay.v1.undeliverable", self.vhost.options.exchange).into()
    }

    /// The broker refuses at once.
    fn waits_for_room(&self) -> bool {
        false
    }

    /// A quorum queue learns a little late that it is full.
    fn overshoot(&self) -> u64 {
        64
    }

    /// The broker drops such a reply and says nothing.
    fn knows_gone_inboxes(&self) -> bool {
        false
    }

    /// A quorum queue hands released messages out again in the order of their release.
    fn keeps_places(&self) -> bool {
        false
    }

    /// A quorum queue does.
    fn counts_cancelled_consumers(&self) -> bool {
        true
    }

    /// Delayed messages travel without the property that classic queues sort by.
    fn sorts_delayed_strictly(&self) -> bool {
        false
    }

    async fn clean(&self, queues: Vec<Name>) {
        // A consumer would declare its queue again.
        let connections = std::mem::take(&mut *self.connections.lock().unwrap());
        for connection in connections {
            connection.close().await;
        }
        // They are removed with the last of this backend, which is when the case has ended.
        for queue in queues {
            self.vhost.remember(queue.to_string());
        }
    }
}
