use agentbus::{Context, HandlerError, Routes, Rpc};

const LENGTH: Rpc<String, u64> = Rpc::new("text.length");

struct Scribe;

impl Scribe {
    async fn length(&self, text: String, _: &Context) -> Result<u64, HandlerError> {
        Ok(text.len() as u64)
    }
}

fn main() {
    let _ = Routes::<Scribe>::new().on_each(LENGTH, Scribe::length);
}
