use agentbus::{Client, Topic};

const SAID: Topic<String> = Topic::new("text.said");

async fn say(client: Client) {
    let _ = client.publish(SAID, &17_u64).await;
}

fn main() {
    let _ = say;
}
