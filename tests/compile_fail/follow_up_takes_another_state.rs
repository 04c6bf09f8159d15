use agentbus::{Context, FollowUp, HandlerError, RequestError, Routes, Rpc};

const LENGTH: Rpc<String, u64> = Rpc::new("text.length");
const WITH_LENGTH: FollowUp<String, u64, Vec<u8>> = FollowUp::new(LENGTH, "with-length");

struct Scribe;

impl Scribe {
    async fn with_length(
        &self,
        _: Result<u64, RequestError>,
        _: bool,
        _: &Context,
    ) -> Result<(), HandlerError> {
        Ok(())
    }
}

fn main() {
    let _ = Routes::<Scribe>::new().on_reply(WITH_LENGTH, Scribe::with_length);
}
