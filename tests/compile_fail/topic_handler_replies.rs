use agentbus::{Context, HandlerError, Routes, Topic};

const SAID: Topic<String> = Topic::new("text.said");

struct Scribe;

impl Scribe {
    async fn said(&self, text: String, _: &Context) -> Result<u64, HandlerError> {
        Ok(text.len() as u64)
    }
}

fn main() {
    let _ = Routes::<Scribe>::new().on(SAID, Scribe::said);
}
