//! Programs built with an older and a newer version of one contract, side by side on one bus.

mod support;

use std::time::Duration;

use agentbus::{
    Agent, Context, Envelope, HandlerError, Routes, Runtime, Subscriber,
    message::{FailureKind, FromEnvelope},
};

/// The contract as one program was built with it.
mod old {
    use agentbus::Topic;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Order {
        #[prost(uint32, tag = "1")]
        pub(crate) number: u32,
    }

    impl prost::Name for Order {
        const NAME: &'static str = "Order";
        const PACKAGE: &'static str = "shop.v1";
    }

    pub(crate) const PLACED: Topic<Order> = Topic::new("order.placed");
    pub(crate) const COPIED: Topic<Order> = Topic::new("order.copied");
}

/// The contract of today: orders have a note, and there are refunds.
mod new {
    use agentbus::Topic;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Order {
        #[prost(uint32, tag = "1")]
        pub(crate) number: u32,
        #[prost(string, tag = "2")]
        pub(crate) note: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Refund {
        #[prost(uint32, tag = "1")]
        pub(crate) number: u32,
    }

    macro_rules! named {
        ($($message:ident),*) => {
            $(impl prost::Name for $message {
                const NAME: &'static str = stringify!($message);
                const PACKAGE: &'static str = "shop.v1";
            })*
        };
    }

    named!(Order, Refund);

    pub(crate) const PLACED: Topic<Order> = Topic::new("order.placed");
    pub(crate) const FORWARDED: Topic<Order> = Topic::new("order.forwarded");
    pub(crate) const RELAYED: Topic<Order> = Topic::new("order.relayed");
    pub(crate) const COPIED: Topic<Order> = Topic::new("order.copied");
    pub(crate) const REFUNDED: Topic<Refund> = Topic::new("order.refunded");
}

/// Knows nothing of notes, and passes orders on in each of the ways there are.
struct OldShop;

impl Agent for OldShop {
    fn name(&self) -> &'static str {
        "old-shop"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(old::PLACED, Self::placed)
    }
}

impl OldShop {
    async fn placed(&self, order: old::Order, ctx: &Context) -> Result<(), HandlerError> {
        ctx.forward(new::FORWARDED.name().clone()).await?;
        let whole = Envelope { topic: Some(new::RELAYED.name().clone()), ..ctx.envelope().clone() };
        ctx.client().publish_envelope(whole).await?;
        ctx.publish(old::COPIED, &order).await?;
        Ok(())
    }
}

/// Takes what it knows under any topic of orders.
struct OldAudit;

impl Agent for OldAudit {
    fn name(&self) -> &'static str {
        "old-audit"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on("order.*", Self::seen)
    }
}

impl OldAudit {
    async fn seen(&self, _: old::Order, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// Takes the next message, for good.
async fn take<M: FromEnvelope>(subscriber: &mut Subscriber<M>) -> M {
    let next = tokio::time::timeout(Duration::from_mins(1), subscriber.next()).await;
    next.expect("a message comes").expect("an open bus").ack()
}

on_each_bus! {
    async fn what_an_older_program_passes_on_keeps_fields_it_does_not_know(bus: Bus) {
        let client = bus.client();
        let agents = Runtime::new(bus.client()).agent(OldShop).start().await.unwrap();
        let mut forwarded = client.subscribe(new::FORWARDED).await.unwrap();
        let mut relayed = client.subscribe(new::RELAYED).await.unwrap();
        let mut copied = client.subscribe(new::COPIED).await.unwrap();

        let order = new::Order { number: 7, note: "as a present".to_owned() };
        client.publish(new::PLACED, &order).await.unwrap();
        assert_eq!(take(&mut forwarded).await, order);
        assert_eq!(take(&mut relayed).await, order);
        // A message of its own has the fields that it was built with.
        let lost = new::Order { note: String::new(), ..order };
        assert_eq!(take(&mut copied).await, lost);
        agents.shutdown().await;
    }

    async fn a_newer_program_reads_what_an_older_one_sends(bus: Bus) {
        let client = bus.client();
        let mut placed = client.subscribe(new::PLACED).await.unwrap();
        client.publish(old::PLACED, &old::Order { number: 7 }).await.unwrap();
        let order = new::Order { number: 7, note: String::new() };
        assert_eq!(take(&mut placed).await, order);
    }

    async fn a_type_that_a_pattern_does_not_know_becomes_a_dead_letter_that_names_it(bus: Bus) {
        let client = bus.client();
        let agents = Runtime::new(bus.client()).agent(OldAudit).start().await.unwrap();
        client.publish(new::REFUNDED, &new::Refund { number: 7 }).await.unwrap();

        let queue = bus.queue("old-audit.dlq");
        let mut letters = bus.broker().consume(&queue, 2).await.unwrap();
        let letter = tokio::time::timeout(Duration::from_mins(1), letters.next()).await;
        let letter = letter.expect("a dead letter").expect("an open queue");
        let failure = letter.envelope().metadata.failure.clone().expect("a failure");
        assert_eq!(failure.kind, FailureKind::WrongType);
        assert!(failure.error.contains("shop.v1.Refund"), "{}", failure.error);
        assert!(failure.error.contains("shop.v1.Order"), "{}", failure.error);
        // At once: no other attempt could know it.
        assert_eq!(failure.attempts, 1);
        letter.ack();
        agents.shutdown().await;
    }
}
