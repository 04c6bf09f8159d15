//! Which dead letters are meant, on the command line.

use std::time::Duration;

use agentbus::{
    Client, Pattern,
    client::{DeadLetterFilter, DeadLetters},
    message::FailureKind,
};
use clap::Args;

use crate::{output::note, time};

// No doc comment: clap would show it as the help of the command.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Place {
    /// The agent that failed.
    agent: Option<String>,
    /// The queue that failed, or its dead-letter queue, as it is on the broker.
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Delayed messages that nobody was bound to when they were due.
    #[arg(long)]
    undeliverable: bool,
}

impl Place {
    /// Returns the letters that are there.
    pub(crate) fn letters(&self, client: &Client) -> DeadLetters {
        let undeliverable = client.undeliverable();
        match (&self.agent, &self.queue) {
            (Some(agent), _) => client.dead_letters(agent),
            (None, Some(queue)) if undeliverable.queue() != queue.as_str() => {
                let work = queue.strip_suffix(".dlq").unwrap_or(queue);
                client.dead_letters_of_queue(work)
            }
            _ => undeliverable,
        }
    }
}

// No doc comment: clap would show it as the help of the command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Only those")]
pub(crate) struct Filter {
    /// With this message id; may be given several times.
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// Of this message type, by its full name.
    #[arg(long = "type", value_name = "PACKAGE.MESSAGE")]
    message_type: Option<String>,
    /// That failed in this way: `handler`, `timeout`, `panic`, `no_route`, `rejected`, `decode`,
    /// `wrong_type`, `content_type`, `too_large`, `unknown_reply`, `state`, `expired` or `crash_loop`.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Published under a topic that this pattern matches.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    topic: Option<Pattern>,
    /// Sent by this agent.
    #[arg(long, value_name = "AGENT")]
    sender: Option<String>,
    /// That this replica failed on, in its own queue.
    #[arg(long, value_name = "INSTANCE")]
    instance: Option<String>,
    /// That failed longer ago than this, such as `30m`.
    #[arg(long, value_name = "TIME", value_parser = time::duration)]
    older_than: Option<Duration>,
    /// That failed no longer ago than this.
    #[arg(long, value_name = "TIME", value_parser = time::duration)]
    newer_than: Option<Duration>,
    /// At most so many, the oldest first.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::parse(text.to_owned()).map_err(|error| error.to_string())
}

impl Filter {
    /// Tells whether nothing is left out.
    pub(crate) fn is_everything(&self) -> bool {
        let Self { ids, message_type, kind, topic, sender, instance, .. } = self;
        let texts = [message_type, kind, sender, instance];
        ids.is_empty()
            && texts.iter().all(|text| text.is_none())
            && topic.is_none()
            && self.older_than.is_none()
            && self.newer_than.is_none()
            && self.limit.is_none()
    }

    /// Returns the only id that is named.
    pub(crate) fn only_id(&self) -> Option<&str> {
        match &*self.ids {
            [id] => Some(id),
            _ => None,
        }
    }

    pub(crate) fn build(&self) -> DeadLetterFilter {
        let mut filter = DeadLetterFilter::default();
        for id in &self.ids {
            filter = filter.id(id.as_str());
        }
        if let Some(full_name) = &self.message_type {
            filter = filter.message_type(full_name.as_str());
        }
        if let Some(kind) = &self.kind {
            let kind = FailureKind::from(kind.as_str());
            // Another version's agents may have more of them.
            if matches!(kind, FailureKind::Other(_)) {
                note(format!(
                    "`{kind}` is no kind of failure that is known here; `--help` has them"
                ));
            }
            filter = filter.kind(kind);
        }
        if let Some(pattern) = &self.topic {
            filter = filter.topic(pattern.clone());
        }
        if let Some(sender) = &self.sender {
            filter = filter.sender(sender.as_str());
        }
        if let Some(instance) = &self.instance {
            filter = filter.instance(instance.as_str());
        }
        if let Some(age) = self.older_than {
            filter = filter.older_than(age);
        }
        if let Some(age) = self.newer_than {
            filter = filter.younger_than(age);
        }
        if let Some(limit) = self.limit {
            filter = filter.limit(limit);
        }
        filter
    }
}

/// Says that letters may be missing, if they may.
pub(crate) fn note_if_partial(is_partial: bool) {
    if is_partial {
        note(
            "somebody else is reading these dead letters: what they hold is missing here; try again later",
        );
    }
}
