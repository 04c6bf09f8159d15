//! A request always ends: with the typed reply, a typed error, its deadline, or nobody there.
//! Run it with `cargo run -p examples --bin request_reply`.

use std::time::Duration;

use agentbus::{
    Agent, Client, Config, Context, HandlerError, Report, RequestError, RequestOptions, Routes,
    Runtime,
    message::{Code, ErrorReply},
};
use examples::v1::{
    CountRequest, CountResponse, ReserveRequest,
    stock_service::{COUNT, RESERVE},
};

struct Stock;

impl Agent for Stock {
    fn name(&self) -> &'static str {
        "stock"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(COUNT, Self::count)
    }
}

impl Stock {
    async fn count(
        &self,
        request: CountRequest,
        _: &Context,
    ) -> Result<CountResponse, HandlerError> {
        match request.item.as_str() {
            "tea" => Ok(CountResponse { pieces: 12 }),
            "sand" => {
                // Nobody has to stop this handler: it ends when the request's deadline is over.
                tokio::time::sleep(Duration::from_hours(1)).await;
                Ok(CountResponse { pieces: u32::MAX })
            }
            item => {
                // An error that is the answer. Any other error would be tried again.
                let error = ErrorReply::new(Code::NotFound, format!("we have no {item}"))
                    .with_detail("available", "sand, tea");
                Err(HandlerError::Reply(error))
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let client = Client::connect(Config::load()?).await?;
    let agents = Runtime::new(client.clone()).agent(Stock).start().await?;

    // The default deadline is 30 seconds away.
    let response = client.request(COUNT, &count("tea")).await?;
    println!("tea: {} pieces", response.pieces);

    match client.request(COUNT, &count("coffee")).await {
        Err(RequestError::Replied { error, .. }) => {
            let available = error.details.get("available").map_or("nothing", String::as_str);
            println!("coffee: {error}; available: {available}");
        }
        other => println!("coffee: unexpectedly {other:?}"),
    }

    let soon = RequestOptions::default().timeout(Duration::from_millis(200));
    match client.request_with(COUNT, &count("sand"), soon).await {
        Err(RequestError::TimedOut { timeout, .. }) => println!("sand: no reply in {timeout:?}"),
        other => println!("sand: unexpectedly {other:?}"),
    }

    // No agent has a route for this one: an error at once, not at the deadline.
    let request = ReserveRequest { item: "tea".to_owned(), pieces: 2 };
    match client.request(RESERVE, &request).await {
        Err(error @ RequestError::NobodyListens { .. }) => println!("{error}"),
        other => println!("reserving: unexpectedly {other:?}"),
    }

    agents.shutdown().await;
    Ok(())
}

fn count(item: &str) -> CountRequest {
    CountRequest { item: item.to_owned() }
}
