use std::time::Duration;

use agentbus::{Context, HandlerError, Routes, Topic};

const SAID: Topic<String> = Topic::new("text.said");

struct Scribe;

impl Scribe {
    async fn said(&self, _: String, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }
}

fn main() {
    let _ = Routes::<Scribe>::new().on_batch(SAID, 10, Duration::from_secs(1), Scribe::said);
}
