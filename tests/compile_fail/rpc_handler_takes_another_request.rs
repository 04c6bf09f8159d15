use agentbus::{Context, HandlerError, Routes, Rpc};

const LENGTH: Rpc<String, u64> = Rpc::new("text.length");

struct Scribe;

impl Scribe {
    async fn length(&self, _: bool, _: &Context) -> Result<u64, HandlerError> {
        Ok(0)
    }
}

fn main() {
    let _ = Routes::<Scribe>::new().on(LENGTH, Scribe::length);
}
