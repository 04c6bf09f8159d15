//! The embedded bus, watched: what users' tests run on behaves as what they use.

use std::{sync::Arc, time::Duration};

use agentbus::{
    Config, Name,
    broker::{Broker, memory::UNDELIVERABLE},
    testing::TestBus,
};
use async_trait::async_trait;

use crate::backend::{Backend, Start};

/// A test bus of this case's own, without faults.
struct Observed(TestBus);

pub(crate) async fn start() -> Start {
    Ok(Arc::new(Observed(TestBus::new())))
}

#[async_trait]
impl Backend for Observed {
    fn name(&self) -> &'static str {
        "observed"
    }

    async fn connect(&self, publish_timeout: Duration) -> Arc<dyn Broker> {
        let mut config = Config::default();
        config.publish_timeout = publish_timeout;
        Arc::clone(self.0.connect_with(config).broker())
    }

    fn undeliverable(&self) -> Name {
        Name::from_static(UNDELIVERABLE)
    }
}
