use agentbus::{Context, FollowUp, HandlerError, Rpc};

const LENGTH: Rpc<String, u64> = Rpc::new("text.length");
const WITH_LENGTH: FollowUp<String, u64, Vec<u8>> = FollowUp::new(LENGTH, "with-length");

async fn ask(ctx: &Context) -> Result<(), HandlerError> {
    ctx.request_later(WITH_LENGTH, &String::new(), &true).await?;
    Ok(())
}

fn main() {
    let _ = ask;
}
