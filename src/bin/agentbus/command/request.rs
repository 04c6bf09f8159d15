//! `agentbus request`: asks, and prints the reply.

use std::time::Duration;

use agentbus::{Envelope, RequestError, RequestOptions};
use clap::Args;

use crate::{
    contract::Contract,
    draft::{Draft, DraftArgs},
    exit::Exit,
    input::Input,
    message::Shown,
    output::{Output, note, printable},
    session::Session,
    time,
};

const EXAMPLES: &str = "\
Examples:
  agentbus request data.request --proto market.proto --data '{\"asset\": \"ZEC\"}'
  agentbus request data.request --proto market.proto --file request.json --timeout 5s
  agentbus request health.check --proto market.proto --data '{}' --many 10 --timeout 2s

Prints the reply as ProtoJSON. Ends with 3 where nobody listens, 4 where no reply comes in time, and 5
where the reply is an error; the error is said on standard error, and with `--json` on standard output
as `{\"error\": ...}`.";

/// Publishes a request, read as `ProtoJSON`, and waits for its reply.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Request {
    #[command(flatten)]
    draft: DraftArgs,
    #[command(flatten)]
    input: Input,
    /// How long to wait; without it, the deadline the contract states, or else the configuration's
    /// `request_timeout`.
    #[arg(long, value_name = "TIME", value_parser = time::timeout)]
    timeout: Option<Duration>,
    /// Prints up to so many replies, of different agents, as they come until the time is up.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    many: Option<u32>,
    /// Prints what travels beside the reply as well.
    #[arg(long = "headers")]
    shows_headers: bool,
}

/// Asks.
pub(crate) async fn run(args: Request, session: &Session) -> anyhow::Result<Exit> {
    let contract = session.contract().await?;
    let draft = Draft::new(&args.draft, &contract)?;
    let input = session.stop.or(args.input.read()).await??;
    let envelope = draft.envelope(input, &contract)?;
    let mut options = RequestOptions::default().publish(draft.options());
    let stated = contract.route(&args.draft.topic).and_then(|route| route.deadline);
    let timeout = args.timeout.or(stated);
    if let Some(timeout) = timeout {
        options = options.timeout(timeout);
    }
    let client = session.client().await?;
    let printer = Printer { output: session.output(), contract, headers: args.shows_headers };
    let exit = match args.many {
        None => {
            let reply = session.stop.or(client.request_envelope(envelope, options)).await?;
            printer.print(reply)?
        }
        Some(many) => {
            let options = options.at_most(usize::try_from(many)?);
            let asked = client.request_many_envelopes(envelope, options);
            let mut replies = session.stop.or(asked).await??;
            let (mut exit, mut count) = (Exit::Ok, 0);
            while let Some(reply) = session.stop.or(replies.next()).await? {
                count += 1;
                exit = printer.print(reply)?.max(exit);
            }
            if count == 0 {
                let timeout = timeout.unwrap_or(client.config().request_timeout);
                return Err(RequestError::TimedOut { topic: draft.topic, timeout }.into());
            }
            exit
        }
    };
    client.close().await;
    Ok(exit)
}

struct Printer {
    output: Output,
    contract: Contract,
    headers: bool,
}

impl Printer {
    /// Prints a reply. An error in its place is said, too, and is no error here unless it stands
    /// for that there is no reply.
    fn print(&self, reply: Result<Envelope, RequestError>) -> anyhow::Result<Exit> {
        match reply {
            Ok(reply) => self.reply(&reply),
            Err(RequestError::Replied { topic, error }) => {
                if self.output.is_json() {
                    self.output.json(&serde_json::json!({ "error": {
                        "code": error.code.as_str(),
                        "message": error.message,
                        "retryable": error.is_retryable,
                        "details": error.details,
                    }}))?;
                } else {
                    note(format_args!(
                        "`{topic}` was answered with an error: {}",
                        printable(&error.to_string())
                    ));
                    for (name, value) in &error.details {
                        note(format_args!("  {}: {}", printable(name), printable(value)));
                    }
                }
                Ok(Exit::ErrorReply)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn reply(&self, reply: &Envelope) -> anyhow::Result<Exit> {
        let shown = Shown::new(reply, &self.contract);
        let exit = if shown.body().is_some() { Exit::Ok } else { Exit::Failed };
        if self.headers || exit != Exit::Ok {
            self.output.result(&shown, || shown.to_text(self.headers))?;
        } else if let Some(body) = shown.body() {
            let text = || serde_json::to_string_pretty(body).unwrap_or_default();
            self.output.result(body, text)?;
        }
        Ok(exit)
    }
}
