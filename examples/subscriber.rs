//! A subscriber without an agent: a shared queue, and messages that are acked, rejected or released.
//! Run it with `cargo run -p examples --bin subscriber`.

use agentbus::{Client, Config, Report, client::Subscription};
use examples::v1::{TicketOpened, ticket_service::OPENED};

#[tokio::main]
async fn main() -> Result<(), Report> {
    let client = Client::connect(Config::load()?).await?;

    // With a name, the queue is durable: subscribers that share it compete for its messages, and
    // what comes while none of them is there waits. Without one, each would get its own copy.
    let desk = Subscription::from(OPENED).queue("support-desk");
    let mut tickets = client.subscribe(desk).await?;

    for subject in ["The printer is on fire", "You have won!", "Where is my order?"] {
        client.publish(OPENED, &TicketOpened { subject: subject.to_owned() }).await?;
    }

    let mut settled = 0;
    while settled < 3 {
        let Some(ticket) = tickets.next().await else { break };
        let subject = ticket.message().subject.clone();
        match subject.as_str() {
            "You have won!" => {
                // It goes to the dead letters of the queue, with the reason.
                ticket.reject("advertising").await?;
                println!("rejected: {subject}");
                settled += 1;
            }
            "Where is my order?" if !ticket.is_redelivered() => {
                // Back to the queue, for the next subscriber that has time. Dropping it does the same.
                ticket.release();
                println!("released: {subject}");
            }
            _ => {
                ticket.ack();
                println!("answered: {subject}");
                settled += 1;
            }
        }
    }

    client.close().await;
    Ok(())
}
