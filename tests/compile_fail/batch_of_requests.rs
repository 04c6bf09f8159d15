use std::time::Duration;

use agentbus::{Context, HandlerError, Routes, Rpc};

const LENGTH: Rpc<String, u64> = Rpc::new("text.length");

struct Scribe;

impl Scribe {
    async fn lengths(&self, _: Vec<String>, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }
}

fn main() {
    let _ = Routes::<Scribe>::new().on_batch(LENGTH, 10, Duration::from_secs(1), Scribe::lengths);
}
