use agentbus::{Context, HandlerError, Routes};

struct Scribe;

impl Scribe {
    async fn said(&self, _: String, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }
}

fn main() {
    let _ = Routes::<Scribe>::new().on(String::from("text.said"), Scribe::said);
}
