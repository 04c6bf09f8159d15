//! The smallest agent: it greets, and a client asks it to.
//! Run it with `cargo run -p examples --bin hello_agent`.

use agentbus::{Agent, Client, Config, Context, HandlerError, Report, Routes, Runtime};
use examples::v1::{GreetRequest, GreetResponse, greeter_service::GREET};

struct Greeter;

impl Agent for Greeter {
    fn name(&self) -> &'static str {
        "greeter"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(GREET, Self::greet)
    }
}

impl Greeter {
    async fn greet(
        &self,
        request: GreetRequest,
        _: &Context,
    ) -> Result<GreetResponse, HandlerError> {
        Ok(GreetResponse { text: format!("Hello, {}!", request.name) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    // The embedded bus, unless `AGENTBUS_URL` names another.
    let client = Client::connect(Config::load()?).await?;
    let agents = Runtime::new(client.clone()).agent(Greeter).start().await?;

    let request = GreetRequest { name: "world".to_owned() };
    let response = client.request(GREET, &request).await?;
    println!("{}", response.text);

    agents.shutdown().await;
    Ok(())
}
