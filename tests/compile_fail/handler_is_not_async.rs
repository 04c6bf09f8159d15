use agentbus::{Context, HandlerError, Routes, Topic};

const SAID: Topic<String> = Topic::new("text.said");

struct Scribe;

impl Scribe {
    fn said(&self, _: String, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }
}

fn main() {
    let _ = Routes::<Scribe>::new().on(SAID, Scribe::said);
}
