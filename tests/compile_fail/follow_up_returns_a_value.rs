use agentbus::{Context, FollowUp, HandlerError, RequestError, Routes, Rpc};

const LENGTH: Rpc<String, u64> = Rpc::new("text.length");
const WITH_LENGTH: FollowUp<String, u64, Vec<u8>> = FollowUp::new(LENGTH, "with-length");

struct Scribe;

impl Scribe {
    async fn with_length(
        &self,
        answer: Result<u64, RequestError>,
        _: Vec<u8>,
        _: &Context,
    ) -> Result<u64, HandlerError> {
        Ok(answer?)
    }
}

fn main() {
    let _ = Routes::<Scribe>::new().on_reply(WITH_LENGTH, Scribe::with_length);
}
