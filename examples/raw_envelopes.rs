//! Undecoded messages: an agent forwards them with fields it does not know, and prints them as JSON.
//! Run it with `cargo run -p examples --bin raw_envelopes`.

use agentbus::{
    Agent, Client, Config, Context, Envelope, HandlerError, Report, Routes, Runtime, Schema,
    client::Subscription, contract::full_name,
};
use examples::v1::{FILE_DESCRIPTOR_SET, ParcelLabel, ParcelLabelNext};

struct Sorter;

impl Agent for Sorter {
    fn name(&self) -> &'static str {
        "sorter"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on("parcel.scanned.*", Self::sort)
    }
}

impl Sorter {
    async fn sort(&self, parcel: Envelope, ctx: &Context) -> Result<(), HandlerError> {
        // Asking again would not make it decodable: straight to the dead letters with it.
        let label: ParcelLabel = parcel.decode().map_err(HandlerError::reject)?;
        // The original bytes go on. Encoding `label` again would lose what it has no field for.
        ctx.forward(format!("parcel.sorted.{}", label.country)).await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let client = Client::connect(Config::load()?).await?;
    let agents = Runtime::new(client.clone()).agent(Sorter).start().await?;
    let sorted = Subscription::<Envelope>::pattern("parcel.sorted.*")?;
    let mut sorted = client.subscribe(sorted).await?;

    // A scanner of the next release sends the same message with one more field.
    let label = ParcelLabelNext {
        number: "CH-17".to_owned(),
        country: "nz".to_owned(),
        handling: "this side up".to_owned(),
    };
    let mut envelope = Envelope::encode(&label);
    envelope.topic = Some("parcel.scanned.zurich".into());
    envelope.metadata.message_type = Some(full_name::<ParcelLabel>().into());
    envelope.metadata.headers.set("scanner", 4)?;
    client.publish_envelope(envelope).await?;

    if let Some(parcel) = sorted.next().await {
        let envelope = parcel.ack();
        let topic = envelope.topic.as_deref().unwrap_or_default();
        let sender = envelope.metadata.sender.as_deref().unwrap_or_default();
        println!("{topic}, from {sender}");
        for (name, value) in envelope.metadata.headers.iter() {
            println!("header {name}: {value}");
        }
        // The descriptors that agentbus-build embeds make JSON of any message, by its name.
        let schema = Schema::decode(FILE_DESCRIPTOR_SET)?;
        for release in [full_name::<ParcelLabel>(), full_name::<ParcelLabelNext>()] {
            println!("{release} {}", schema.to_json_string(release, &envelope.payload)?);
        }
    }

    agents.shutdown().await;
    Ok(())
}
