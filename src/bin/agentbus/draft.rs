//! A message to be sent, as the command line describes it.

use std::time::Duration;

use agentbus::{
    Envelope, Name, PublishOptions, Topic,
    message::{CONTENT_TYPE, MAX_HEADERS, Priority, Timestamp},
};
use clap::Args;

use crate::{contract::Contract, exit::Usage, time};

// No doc comment: clap would show it as the help of the command.
#[derive(Debug, Args)]
pub(crate) struct DraftArgs {
    /// Topic to send to, such as `price.moved`.
    pub(crate) topic: String,
    /// Full name of the message, such as `market.v1.PriceMoved`; without it, the type that the
    /// contract's route of the topic takes.
    #[arg(short = 't', long = "type", value_name = "FULL.NAME")]
    message_type: Option<String>,
    /// The input is an encoded body, sent as it is; no contract is needed.
    #[arg(long)]
    raw: bool,
    /// A header, such as `tenant=acme`; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Priority, from 1 to 10, or low, normal, high, urgent; higher is more urgent. Without it, the one the
    /// contract states.
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<Priority>,
    /// Makes the message part of a conversation.
    #[arg(long, value_name = "ID")]
    conversation_id: Option<String>,
    /// Delivers it after a time, such as `5m`, and not before.
    #[arg(long, value_name = "TIME", value_parser = time::duration, conflicts_with = "at")]
    after: Option<Duration>,
    /// Delivers it at a moment, such as `2030-01-31T08:00:00Z`, and not before.
    #[arg(long, value_name = "MOMENT", value_parser = time::moment)]
    at: Option<Timestamp>,
    /// Nobody handles it any more after a time, such as `10m`.
    #[arg(long, value_name = "TIME", value_parser = time::timeout)]
    expires: Option<Duration>,
    /// How often handlers may try it in all, in place of what their own policies say.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    attempts: Option<u32>,
}

/// What all messages of one command have in common.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) topic: Name,
    message_type: Option<Name>,
    raw: bool,
    options: PublishOptions,
}

impl Draft {
    /// Checks topic, type and headers before anything is sent.
    pub(crate) fn new(args: &DraftArgs, contract: &Contract) -> anyhow::Result<Self> {
        let usage = |error: &dyn std::fmt::Display| Usage(error.to_string());
        let topic = Topic::<()>::named(args.topic.clone()).map_err(|error| usage(&error))?;
        let given = args.message_type.as_deref();
        let message_type = if args.raw {
            given.map(str::to_owned).or(contract.route(&args.topic).map(|it| it.request.clone()))
        } else {
            Some(contract.request_type(&args.topic, given)?)
        };
        let mut options = PublishOptions::default();
        for (name, value) in &args.headers {
            options = options.header(name.clone(), value.as_str()).map_err(|e| usage(&e))?;
        }
        let stated = contract.route(&args.topic).and_then(|it| it.priority);
        let stated = stated.and_then(|level| Priority::new(level).ok());
        if let Some(priority) = args.priority.or(stated) {
            options = options.priority(priority);
        }
        if let Some(id) = &args.conversation_id {
            options = options.conversation_id(id.as_str());
        }
        if let Some(after) = args.after {
            options = options.deliver_after(after);
        }
        if let Some(at) = args.at {
            options = options.deliver_at(at);
        }
        if let Some(expires) = args.expires {
            options = options.expires_after(expires);
        }
        if let Some(attempts) = args.attempts {
            options = options.attempts(attempts);
        }
        let draft = Self {
            topic: topic.name().clone(),
            message_type: message_type.map(Name::from),
            raw: args.raw,
            options,
        };
        // What is not known is so for every message.
        if let Some(name) = draft.message_type.as_deref().filter(|_| !args.raw)
            && !contract.schema().contains(name)
        {
            contract.schema().from_json(name, "{}").map_err(|error| usage(&error))?;
        }
        Ok(draft)
    }

    /// Returns what goes beside the body.
    pub(crate) fn options(&self) -> PublishOptions {
        self.options.clone()
    }

    /// Writes the body: `ProtoJSON` by the contract, or the bytes as they are.
    pub(crate) fn envelope(&self, input: Vec<u8>, contract: &Contract) -> anyhow::Result<Envelope> {
        let payload = match &self.message_type {
            Some(name) if !self.raw => {
                let text = String::from_utf8(input);
                let text = text.map_err(|_| Usage("the message is not UTF-8".to_owned()))?;
                let body = contract.schema().from_json(name, &text);
                body.map_err(|error| Usage(error.to_string()))?
            }
            _ => input.into(),
        };
        let mut envelope =
            Envelope { topic: Some(self.topic.clone()), payload, ..Envelope::default() };
        envelope.metadata.content_type = Some(Name::from_static(CONTENT_TYPE));
        envelope.metadata.message_type.clone_from(&self.message_type);
        Ok(envelope)
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let wrong =
        || format!("write NAME=VALUE, such as `tenant=acme`; at most {MAX_HEADERS} of them");
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    if name.is_empty() { Err(wrong()) } else { Ok((name.to_owned(), value.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_a_name_and_a_value() {
        assert_eq!(header("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(header("a="), Ok(("a".to_owned(), String::new())));
        assert!(header("a").is_err() && header("=b").is_err());
    }
}
