//! What becomes of a message whose handler fails: tried again, or kept as a dead letter.
//! Run it with `cargo run -p examples --bin failures`.

use agentbus::{
    Agent, Client, Config, Context, HandlerError, Report, Routes, Runtime,
    retry::{Backoff, DELAY_UNIT, RetryPolicy},
};
use examples::v1::{PaymentDue, payment_service::DUE};
use tokio::sync::mpsc;

struct Payments {
    log: mpsc::UnboundedSender<String>,
}

impl Agent for Payments {
    fn name(&self) -> &'static str {
        "payments"
    }

    fn routes(&self) -> Routes<Self> {
        // By default: four attempts, 1 s, 2 s and 4 s apart. This policy is for the one route;
        // `Agent::retry` and `Runtime::retry` set those of all others.
        let policy = RetryPolicy::attempts(5).with_backoff(Backoff::constant(DELAY_UNIT));
        Routes::new().on(DUE, Self::pay).retry(policy)
    }
}

impl Payments {
    async fn pay(&self, due: PaymentDue, ctx: &Context) -> Result<(), HandlerError> {
        if due.cents <= 0 {
            // No retry can cure this: a dead letter at once.
            return Err(HandlerError::reject(format!("{} cents cannot be paid", due.cents)));
        }
        // `?` means "try again": any error becomes `HandlerError::Retry`.
        let receipt = transfer(&due, ctx.attempt())?;
        self.log.send(format!("attempt {}: {receipt}", ctx.attempt()))?;
        Ok(())
    }
}

/// The bank is shut at the first two attempts.
fn transfer(due: &PaymentDue, attempt: u32) -> Result<String, std::io::Error> {
    if attempt < 3 {
        return Err(std::io::Error::other("the bank is shut"));
    }
    Ok(format!("{} cents to {}", due.cents, due.payee))
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let client = Client::connect(Config::load()?).await?;
    let (log, mut receipts) = mpsc::unbounded_channel();
    let agents = Runtime::new(client.clone()).agent(Payments { log }).start().await?;

    client.publish(DUE, &PaymentDue { payee: "Ann".to_owned(), cents: 1250 }).await?;
    if let Some(receipt) = receipts.recv().await {
        println!("{receipt}");
    }

    client.publish(DUE, &PaymentDue { payee: "Bob".to_owned(), cents: -1 }).await?;
    // Failures are kept for a day in a queue of the agent's own.
    let queue = format!("{}payments.dlq", client.config().queue_prefix);
    let mut dead_letters = client.broker().consume(&queue, 1).await?;
    if let Some(letter) = dead_letters.next().await {
        if let Some(failure) = &letter.envelope().metadata.failure {
            println!("dead letter ({}): {}", failure.kind, failure.error);
        }
        let due: PaymentDue = letter.envelope().decode()?;
        println!("it can still be read: {}", due.payee);
        letter.ack();
    }

    agents.shutdown().await;
    Ok(())
}
