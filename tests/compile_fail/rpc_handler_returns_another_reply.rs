use agentbus::{Context, HandlerError, Routes, Rpc};

const LENGTH: Rpc<String, u64> = Rpc::new("text.length");

struct Scribe;

impl Scribe {
    async fn length(&self, text: String, _: &Context) -> Result<bool, HandlerError> {
        Ok(text.is_empty())
    }
}

fn main() {
    let _ = Routes::<Scribe>::new().on(LENGTH, Scribe::length);
}
