use std::rc::Rc;

use agentbus::{Context, HandlerError, Routes, Topic};

const SAID: Topic<String> = Topic::new("text.said");

struct Scribe;

impl Scribe {
    async fn said(&self, text: String, ctx: &Context) -> Result<(), HandlerError> {
        let kept = Rc::new(text);
        ctx.cancelled().await;
        drop(kept);
        Ok(())
    }
}

fn main() {
    let _ = Routes::<Scribe>::new().on(SAID, Scribe::said);
}
