//! The embedded bus.

use std::{sync::Arc, time::Duration};

use agentbus::{
    Name,
    broker::{
        Broker,
        memory::{Memory, MemoryOptions, UNDELIVERABLE},
    },
};
use async_trait::async_trait;

use crate::backend::{Backend, Start};

/// A bus of this case's own.
struct Embedded(Memory);

pub(crate) async fn start() -> Start {
    Ok(Arc::new(Embedded(Memory::default())))
}

#[async_trait]
impl Backend for Embedded {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn connect(&self, publish_timeout: Duration) -> Arc<dyn Broker> {
        Arc::new(self.0.connect(MemoryOptions { publish_timeout, ..MemoryOptions::default() }))
    }

    fn undeliverable(&self) -> Name {
        Name::from_static(UNDELIVERABLE)
    }
}
