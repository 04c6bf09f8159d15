use agentbus::{Client, Rpc};

const LENGTH: Rpc<String, u64> = Rpc::new("text.length");

async fn ask(client: Client) {
    let _: String = client.request(LENGTH, &String::new()).await.unwrap();
}

fn main() {
    let _ = ask;
}
