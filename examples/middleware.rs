//! Middleware: code of your own around every handler, here a check of who asks.
//! Run it with `cargo run -p examples --bin middleware`.

use std::time::Duration;

use agentbus::{
    Agent, Client, Config, Context, HandlerError, Next, PublishOptions, Report, RequestError,
    RequestOptions, Routes, Runtime,
    agent::{
        Middleware,
        middleware::{Reply, Throttle, Timeout},
    },
    message::Code,
};
use examples::v1::{OpenRequest, OpenResponse, vault_service::OPEN};

struct Password(&'static str);

#[async_trait::async_trait]
impl Middleware for Password {
    async fn handle(&self, ctx: &Context, next: Next<'_>) -> Result<Reply, HandlerError> {
        if ctx.headers().text("password") == Some(self.0) {
            return next.run(ctx).await;
        }
        Err(HandlerError::reply(Code::PermissionDenied, "the password is wrong"))
    }
}

struct Vault;

impl Agent for Vault {
    fn name(&self) -> &'static str {
        "vault"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(OPEN, Self::open)
    }
}

impl Vault {
    async fn open(&self, _: OpenRequest, _: &Context) -> Result<OpenResponse, HandlerError> {
        Ok(OpenResponse { content: "a smaller vault".to_owned() })
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let client = Client::connect(Config::load()?).await?;
    let agents = Runtime::new(client.clone())
        .layer(Throttle::new(5, Duration::from_secs(1))) // the first is outermost: no more guesses
        .layer(Password("swordfish"))
        .layer(Timeout::new(Duration::from_secs(5)))
        .agent(Vault)
        .start()
        .await?;

    for password in ["12345", "swordfish"] {
        let options = PublishOptions::default().header("password", password)?;
        let options = RequestOptions::default().publish(options);
        match client.request_with(OPEN, &OpenRequest {}, options).await {
            Ok(response) => println!("{password}: inside is {}", response.content),
            Err(RequestError::Replied { error, .. }) => println!("{password}: {error}"),
            Err(error) => return Err(error.into()),
        }
    }

    agents.shutdown().await;
    Ok(())
}
