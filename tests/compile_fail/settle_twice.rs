use agentbus::broker::Delivery;

fn settle(delivery: Delivery) {
    delivery.ack();
    delivery.release();
}

fn main() {
    let _ = settle;
}
