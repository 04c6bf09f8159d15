use agentbus::Client;
use shop::v1::{Order, shop::BOUGHT};

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Seconds {}

// Made by the test before this is compiled.
include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tmp/compile_fail/contract.rs"));

async fn ask(client: Client, order: Order) {
    let _ = client.request(BOUGHT, &order).await;
}

fn main() {
    let _ = ask;
}
