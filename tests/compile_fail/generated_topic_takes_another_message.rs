use agentbus::Client;
use shop::v1::{Receipt, shop::BOUGHT};

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Seconds {}

// Made by the test before this is compiled.
include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tmp/compile_fail/contract.rs"));

async fn tell(client: Client) {
    let _ = client.publish(BOUGHT, &Receipt { number: 7 }).await;
}

fn main() {
    let _ = tell;
}
