use agentbus::{HandlerError, Routes, Topic};

const SAID: Topic<String> = Topic::new("text.said");

struct Scribe;

impl Scribe {
    async fn said(&self, _: String) -> Result<(), HandlerError> {
        Ok(())
    }
}

fn main() {
    let _ = Routes::<Scribe>::new().on(SAID, Scribe::said);
}
