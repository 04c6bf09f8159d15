use agentbus::{Context, HandlerError, Routes};
use shop::v1::{Order, shop::BUY};

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Seconds {}

// Made by the test before this is compiled.
include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tmp/compile_fail/contract.rs"));

struct Till;

impl Till {
    async fn buy(&self, order: Order, _: &Context) -> Result<Order, HandlerError> {
        Ok(order)
    }
}

fn main() {
    let _ = Routes::<Till>::new().on(BUY, Till::buy);
}
