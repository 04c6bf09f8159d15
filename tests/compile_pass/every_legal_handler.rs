//! Every shape of handler and route that is meant to compile.

use std::{sync::Arc, time::Duration};

use agentbus::{
    Context, Envelope, FollowUp, HandlerError, Pattern, RequestError, Routes, Rpc, Topic,
};

const SAID: Topic<String> = Topic::new("text.said");
const LENGTH: Rpc<String, u64> = Rpc::new("text.length");
const WITH_LENGTH: FollowUp<String, u64, Pending> = FollowUp::new(LENGTH, "with-length");
const WITH_NOTHING: FollowUp<String, u64, ()> = FollowUp::new(LENGTH, "with-nothing");

#[derive(serde::Serialize, serde::Deserialize)]
struct Pending {
    words: Vec<String>,
}

struct Scribe {
    prefix: String,
}

impl Scribe {
    async fn length(&self, text: String, _: &Context) -> Result<u64, HandlerError> {
        Ok((self.prefix.len() + text.len()) as u64)
    }

    async fn said(&self, _: String, ctx: &Context) -> Result<(), HandlerError> {
        let pending = Pending { words: Vec::new() };
        ctx.request_later(WITH_LENGTH, &"four".to_owned(), &pending).await?;
        ctx.publish(SAID, &self.prefix).await?;
        Ok(())
    }

    async fn any(&self, envelope: Envelope, _: &Context) -> Result<(), HandlerError> {
        envelope.decode::<String>().map_err(HandlerError::reject)?;
        Ok(())
    }

    async fn bulk(&self, texts: Vec<String>, _: &Context) -> Result<(), HandlerError> {
        assert!(texts.len() <= 100);
        Ok(())
    }

    async fn envelopes(&self, _: Vec<Envelope>, _: &Context) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn with_length(
        &self,
        answer: Result<u64, RequestError>,
        pending: Pending,
        _: &Context,
    ) -> Result<(), HandlerError> {
        assert_eq!(pending.words.len() as u64, answer?);
        Ok(())
    }
}

/// A free function, with a lifetime of its own for each borrow.
async fn free(scribe: &Scribe, text: String, _: &Context) -> Result<u64, HandlerError> {
    Ok((scribe.prefix.len() + text.len()) as u64)
}

/// Not an `async fn`, but it returns a future.
fn future<'a>(
    scribe: &'a Scribe,
    text: String,
    _: &'a Context,
) -> impl Future<Output = Result<u64, HandlerError>> + Send + 'a {
    async move { Ok((scribe.prefix.len() + text.len()) as u64) }
}

fn instance(instance: u32) -> Result<Routes<Scribe>, agentbus::contract::InvalidTopic> {
    let topic = Topic::<String>::named(format!("message.{instance}"))?;
    let rpc = Rpc::<String, u64>::named(format!("length.{instance}"))?;
    Ok(Routes::new().on(topic.clone(), Scribe::said).on_each(topic, Scribe::said).on(rpc, free))
}

fn main() {
    let second = Duration::from_secs(1);
    let shared = Arc::new(String::from("shared"));
    let captured = Arc::clone(&shared);
    let routes = Routes::<Scribe>::new()
        .on(LENGTH, Scribe::length)
        .on(SAID, Scribe::said)
        .on("typed.#", Scribe::said)
        .on("audit.#", Scribe::any)
        .on(Pattern::parse("made.*").expect("a pattern"), Scribe::any)
        .on_each(SAID, Scribe::said)
        .on_each("all.#", Scribe::any)
        .on_batch(SAID, 100, second, Scribe::bulk)
        .on_batch("raw.#", 100, second, Scribe::envelopes)
        .on_reply(WITH_LENGTH, Scribe::with_length)
        .on_reply(WITH_NOTHING, async |_: &Scribe, _: Result<u64, _>, (): (), _: &Context| Ok(()))
        .on("free.#", async |_: &Scribe, _: Envelope, _: &Context| Ok(()))
        .on(Rpc::<String, u64>::new("by.closure"), async |scribe: &Scribe, text: String, _: &Context| {
            Ok((scribe.prefix.len() + text.len()) as u64)
        })
        .on("captured.#", move |_: &Scribe, _: Envelope, _: &Context| {
            let captured = Arc::clone(&captured);
            async move {
                assert_eq!(*captured, "shared");
                Ok(())
            }
        })
        .on(Rpc::<String, u64>::new("by.function"), free)
        .on(Rpc::<String, u64>::new("by.future"), future)
        .retired("old.#");
    assert_eq!(routes.patterns().count(), 13);
    assert!(instance(7).is_ok());
}
