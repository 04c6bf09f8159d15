use std::{collections::BTreeMap, time::Duration};

use agentbus::{Context, HandlerError, Routes};
use shop::v1::{
    Order, Receipt,
    shop::{BOUGHT, BUY},
};

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Seconds {}

// Made by the test before this is compiled.
include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tmp/compile_fail/contract.rs"));

struct Till;

impl Till {
    async fn buy(&self, order: Order, _: &Context) -> Result<Receipt, HandlerError> {
        let _: (bytes::Bytes, BTreeMap<String, String>) = (order.picture, order.labels);
        let _: Option<Seconds> = order.placed_at;
        Ok(Receipt { number: order.number })
    }

    async fn bought(&self, _: Order, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }
}

fn main() {
    let _ = Routes::<Till>::new().on(BUY, Till::buy).on_each(BOUGHT, Till::bought);
    assert_eq!(BUY.deadline(), Some(Duration::from_secs(5)));
    let receipt = Receipt { number: 7 };
    assert!(receipt > Receipt { number: 6 });
    assert_eq!(serde_json::to_string(&receipt).unwrap(), r#"{"number":7}"#);
}
