//! A publisher without an agent: confirmed, pipelined, and told when nobody listens.
//! Run it with `cargo run -p examples --bin publisher`.

use agentbus::{Client, Config, Id, Report, Topic, broker::PublishError};
use examples::v1::Reading;
use futures::{TryStreamExt, stream};

#[tokio::main]
async fn main() -> Result<(), Report> {
    // Receivers see the name as the sender.
    let client = Client::connect(Config::load()?).await?.named("thermometer");
    // A new thermometer, whose topic nobody can have heard of.
    let topic = Topic::<Reading>::named(format!("reading.{}", Id::new()))?;
    let publisher = client.publisher(topic.clone());

    // Every message that was not taken comes back with the reason.
    let unsent = match publisher.publish(&Reading { celsius: 21.5 }).await {
        Err(error @ PublishError::Unroutable { .. }) => {
            println!("nobody listens yet; worth another try: {}", error.is_transient());
            error.into_envelope()
        }
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("somebody has guessed the topic".into()),
    };

    // From here on somebody listens, so the message is taken: `Ok` means it is in a queue. It
    // keeps its id, by which receivers can tell a message that was sent twice.
    let mut readings = client.subscribe(topic).await?;
    let first_id = unsent.metadata.message_id.clone();
    let id = client.publish_envelope(unsent).await?;
    println!("sent again under the same id: {}", Some(id) == first_id);

    // Awaiting each confirm in turn would be slow: this keeps a window of them under way, and
    // still yields each outcome, in order.
    let warming =
        stream::iter((1..=1000).map(|tenths| Reading { celsius: f64::from(tenths) / 10.0 }));
    let confirmed: Vec<Id> = publisher.publish_many(warming).try_collect().await?;
    println!("{} confirmed", confirmed.len());

    // What one publisher publishes arrives in order.
    let (mut count, mut last) = (0, 0.0);
    while count < 1001 {
        let Some(reading) = readings.next().await else { break };
        last = reading.ack().celsius;
        count += 1;
    }
    println!("{count} received, the last of {last:.1} degrees");

    client.close().await;
    Ok(())
}
