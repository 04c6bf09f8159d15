//! How an agent is tested: checks of what happened, time that stands still, faults.
//! Run it with `cargo test -p examples --test warehouse`.

use std::time::Duration;

use agentbus::{
    Agent, Context, HandlerError, Routes,
    message::{Code, ErrorReply, FailureKind},
    testing::{Fault, TestBus, handle},
};
use examples::v1::{
    CountRequest, CountResponse, OrderPaid, OrderPlaced,
    order_service::{PAID, PLACED},
    stock_service::COUNT,
};

/// The agent to test: an order is paid as soon as there is tea.
struct Warehouse;

impl Agent for Warehouse {
    fn name(&self) -> &'static str {
        "warehouse"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(PLACED, Self::placed)
    }
}

impl Warehouse {
    async fn placed(&self, placed: OrderPlaced, ctx: &Context) -> Result<(), HandlerError> {
        let tea = CountRequest { item: "tea".to_owned() };
        if ctx.request(COUNT, &tea).await?.pieces == 0 {
            return Err(HandlerError::Retry("no tea left".into()));
        }
        ctx.publish(PAID, &OrderPaid { order: placed.order }).await?;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_is_paid_once_there_is_tea() {
    let bus = TestBus::new();
    bus.accept(&PAID).await; // nobody else listens to it here
    let agents = bus.start(|runtime| runtime.agent(Warehouse)).await;
    let empty = bus.answer(COUNT, |_| Ok(CountResponse { pieces: 0 })).await;

    bus.client().publish(PLACED, &OrderPlaced { order: 7 }).await.unwrap();
    bus.settled().await; // until there is nothing to do at present
    bus.retried(PLACED).after(Duration::from_secs(1)).once();
    bus.published(PAID).none();

    empty.stop().await;
    let full = bus.answer(COUNT, |_| Ok(CountResponse { pieces: 12 })).await;
    bus.advance(Duration::from_secs(1)).await; // takes no time: the clock is paused
    bus.handled(PLACED).attempt(2).once();
    bus.published(PAID).by("warehouse").with(|paid| paid.order == 7).once();
    full.stop().await;
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_that_cannot_be_counted_is_kept() {
    let bus = TestBus::new();
    let agents = bus.start(|runtime| runtime.agent(Warehouse)).await;
    let shut = ErrorReply::new(Code::Unavailable, "the warehouse is shut");
    let stock = bus.answer(COUNT, move |_| Err(shut.clone())).await;

    bus.client().publish(PLACED, &OrderPlaced { order: 7 }).await.unwrap();
    bus.drained().await; // until there is nothing left at all, the last retry included
    bus.retried(PLACED).times(3);
    let letter = bus.dead_lettered(PLACED).kind(FailureKind::Handler).once();
    assert!(letter.failure().unwrap().error.contains("the warehouse is shut"));
    stock.stop().await;
    agents.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_survives_a_lost_publish_and_a_crash() {
    let bus = TestBus::new();
    bus.accept(&PAID).await;
    let lost = bus.inject(Fault::lost().topic(PAID).once());
    let slow = bus.inject(Fault::late_delivery(Duration::from_secs(10)).rpc(COUNT).once());
    let stock = bus.answer(COUNT, |_| Ok(CountResponse { pieces: 12 })).await;
    let agents = bus.start(|runtime| runtime.agent(Warehouse)).await;

    bus.client().publish(PLACED, &OrderPlaced { order: 7 }).await.unwrap();
    bus.delivered(COUNT).wait_for(1).await; // the handler waits for the stock
    bus.crash(agents).await;
    let agents = bus.start(|runtime| runtime.agent(Warehouse)).await;
    bus.drained().await;
    assert_eq!((lost.hits(), slow.hits()), (1, 1));
    bus.delivered(PLACED).redelivered().once();
    bus.published(PAID).once();
    stock.stop().await;
    agents.stop().await;
}

#[tokio::test]
async fn a_handler_is_called_by_itself() {
    let nobody_counts = handle(&Warehouse, PLACED, &OrderPlaced { order: 7 });
    tokio::time::pause(); // nobody answers, and nobody waits thirty seconds for that
    let error = nobody_counts.await.unwrap_err();
    assert!(error.to_string().starts_with("no reply on `stock.count`"), "{error}");
}
