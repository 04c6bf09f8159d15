use agentbus::{FollowUp, Rpc, Topic};

const SAID: Topic<String> = Topic::new("text..said");
const LENGTH: Rpc<String, u64> = Rpc::new("text.*");
const WITH_LENGTH: FollowUp<String, u64, ()> = FollowUp::new(Rpc::new("text.length"), "");

fn main() {
    let _ = (SAID, LENGTH, WITH_LENGTH);
}
