//! How queues are declared, as arguments; and how the broker says that one is declared otherwise.

use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use crate::{
    broker::{DeadLetterLimits, Overflow, QueueRole, TopologyError},
    contract::Name,
    message::{Priorities, Priority},
};

/// How often a queue hands a message out before the broker gives up on it: a fuse against
/// messages that kill whoever receives them. Always set: RabbitMQ 4 has 20 without it.
const FUSE: u64 = 100;

/// Looking at a dead letter is a get and a requeue, and each requeue counts.
const FUSE_OF_DEAD_LETTERS: u64 = 1_000_000;

/// Arguments under construction.
#[derive(Debug, Default)]
pub(super) struct Arguments(FieldTable);

impl Arguments {
    pub(super) fn none() -> Self {
        Self::default()
    }

    pub(super) fn quorum() -> Self {
        Self::none().text("x-queue-type", "quorum")
    }

    pub(super) fn text(mut self, name: &'static str, value: &str) -> Self {
        self.0.insert(ShortString::from(name), AMQPValue::LongString(LongString::from(value)));
        self
    }

    pub(super) fn int(mut self, name: &'static str, value: u64) -> Self {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.0.insert(ShortString::from(name), AMQPValue::LongLongInt(value));
        self
    }

    pub(super) fn into_table(self) -> FieldTable {
        self.0
    }
}

/// Returns the arguments a queue is declared with; all queues are durable, none is exclusive,
/// since a half-open connection would hold an exclusive one.
pub(super) fn of(role: &QueueRole, priorities: Priorities) -> FieldTable {
    let arguments = match role {
        // Without what only quorum queues know: such an argument would be refused.
        QueueRole::Work { dead_letters, max_length } if priorities == Priorities::Strict => {
            Arguments::none()
                .text("x-queue-type", "classic")
                .text("x-dead-letter-exchange", "")
                .text("x-dead-letter-routing-key", dead_letters)
                .text("x-overflow", "reject-publish")
                .int("x-max-length", *max_length)
                .int("x-max-priority", Priority::URGENT.level().into())
        }
        QueueRole::Work { dead_letters, max_length } => Arguments::quorum()
            .text("x-dead-letter-exchange", "")
            .text("x-dead-letter-routing-key", dead_letters)
            .text("x-dead-letter-strategy", "at-least-once")
            .text("x-overflow", "reject-publish")
            .int("x-max-length", *max_length)
            .int("x-delivery-limit", FUSE),
        QueueRole::Replica { dead_letters, max_length, expires } => transient(*max_length, expires)
            .text("x-dead-letter-exchange", "")
            .text("x-dead-letter-routing-key", dead_letters),
        QueueRole::Private { max_length, expires } => transient(*max_length, expires),
        QueueRole::Watch { max_length, max_bytes, expires, dropped } => {
            watch(*max_length, *max_bytes, expires, dropped.as_ref())
        }
        QueueRole::DeadLetters(limits) => dead_letters(limits),
    };
    arguments.into_table()
}

fn transient(max_length: u64, expires: &std::time::Duration) -> Arguments {
    Arguments::none()
        .text("x-queue-type", "classic")
        .text("x-overflow", "reject-publish")
        .int("x-max-length", max_length)
        .int("x-expires", in_millis(expires))
}

fn watch(
    max_length: u64,
    max_bytes: u64,
    expires: &std::time::Duration,
    dropped: Option<&Name>,
) -> Arguments {
    let arguments = Arguments::none()
        .text("x-queue-type", "classic")
        .text("x-overflow", "drop-head")
        .int("x-max-length", max_length)
        .int("x-max-length-bytes", max_bytes)
        .int("x-expires", in_millis(expires));
    match dropped {
        // Classic queues hand on what makes room at most once: it is counted, not kept.
        Some(dropped) => {
            arguments.text("x-dead-letter-exchange", "").text("x-dead-letter-routing-key", dropped)
        }
        None => arguments,
    }
}

/// Zero is refused.
fn in_millis(expires: &std::time::Duration) -> u64 {
    u64::try_from(expires.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn dead_letters(limits: &DeadLetterLimits) -> Arguments {
    let overflow = match limits.overflow {
        Overflow::Refuse => "reject-publish",
        Overflow::DropOldest => "drop-head",
    };
    Arguments::quorum()
        .int("x-message-ttl", u64::try_from(limits.ttl.as_millis()).unwrap_or(u64::MAX))
        .int("x-max-length", limits.max_length)
        .int("x-max-length-bytes", limits.max_bytes)
        .text("x-overflow", overflow)
        .int("x-delivery-limit", FUSE_OF_DEAD_LETTERS)
}

/// Reads the broker's complaint about a queue that exists with other arguments.
pub(super) fn mismatch(queue: &Name, complaint: &str) -> Option<TopologyError> {
    let rest = complaint.split_once("inequivalent arg '")?.1;
    let (argument, rest) = rest.split_once('\'')?;
    let (_, values) = rest.split_once("received ")?;
    let (ours, theirs) = values.split_once(" but current is ")?;
    Some(TopologyError::Mismatch {
        queue: queue.clone(),
        argument: argument.to_owned(),
        ours: value(ours),
        theirs: value(theirs),
    })
}

/// Reads `'true'`, `none` or `the value '7' of type 'long'`.
fn value(text: &str) -> String {
    let quoted = text.split_once('\'').and_then(|(_, rest)| rest.split_once('\''));
    match quoted {
        Some((value, _)) => format!("`{value}`"),
        None if text.starts_with("none") => "not set".to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shown(role: &QueueRole) -> Vec<String> {
        shown_with(role, Priorities::Off)
    }

    fn shown_with(role: &QueueRole, priorities: Priorities) -> Vec<String> {
        of(role, priorities)
            .inner()
            .iter()
            .map(|(name, value)| match value {
                AMQPValue::LongString(text) => format!("{name}={text}"),
                AMQPValue::LongLongInt(number) => format!("{name}={number}"),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_work_queue_is_replicated_and_bounded_and_has_a_fuse() {
        let role = QueueRole::Work { dead_letters: "data.dlq".into(), max_length: 1_000_000 };
        assert_eq!(
            shown(&role),
            [
                "x-dead-letter-exchange=",
                "x-dead-letter-routing-key=data.dlq",
                "x-dead-letter-strategy=at-least-once",
                "x-delivery-limit=100",
                "x-max-length=1000000",
                "x-overflow=reject-publish",
                "x-queue-type=quorum",
            ]
        );
    }

    #[test]
    fn strict_order_takes_a_classic_queue() {
        let role = QueueRole::Work { dead_letters: "data.dlq".into(), max_length: 9 };
        assert_eq!(
            shown_with(&role, Priorities::Strict),
            [
                "x-dead-letter-exchange=",
                "x-dead-letter-routing-key=data.dlq",
                "x-max-length=9",
                "x-max-priority=10",
                "x-overflow=reject-publish",
                "x-queue-type=classic",
            ]
        );
        assert_eq!(shown_with(&role, Priorities::Lanes), shown(&role));
    }

    #[test]
    fn a_replicas_queue_outlives_its_owner_by_a_minute() {
        let expires = Duration::from_mins(1);
        let role = QueueRole::Replica { dead_letters: "data.dlq".into(), max_length: 9, expires };
        assert_eq!(
            shown(&role),
            [
                "x-dead-letter-exchange=",
                "x-dead-letter-routing-key=data.dlq",
                "x-expires=60000",
                "x-max-length=9",
                "x-overflow=reject-publish",
                "x-queue-type=classic",
            ]
        );
    }

    #[test]
    fn who_looks_on_has_the_oldest_dropped_and_counted() {
        let role = QueueRole::Watch {
            max_length: 9,
            max_bytes: 99,
            expires: Duration::ZERO,
            dropped: Some("tail.dropped".into()),
        };
        assert_eq!(
            shown(&role),
            [
                "x-dead-letter-exchange=",
                "x-dead-letter-routing-key=tail.dropped",
                "x-expires=1",
                "x-max-length=9",
                "x-max-length-bytes=99",
                "x-overflow=drop-head",
                "x-queue-type=classic",
            ]
        );
    }

    #[test]
    fn dead_letters_are_kept_for_a_day() {
        assert_eq!(
            shown(&QueueRole::DeadLetters(DeadLetterLimits::default())),
            [
                "x-delivery-limit=1000000",
                "x-max-length=100000",
                "x-max-length-bytes=1073741824",
                "x-message-ttl=86400000",
                "x-overflow=reject-publish",
                "x-queue-type=quorum",
            ]
        );
    }

    #[test]
    fn a_complaint_is_read() {
        let cases = [
            (
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost 'v': \
                 received 'true' but current is 'false'",
                ("durable", "`true`", "`false`"),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost \
                 'v': received the value '7' of type 'long' but current is none",
                ("x-max-length", "`7`", "not set"),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue 'q' in vhost 'v': \
                 received none but current is the value '5' of type 'signedint'",
                ("x-expires", "not set", "`5`"),
            ),
        ];
        for (complaint, expected) in cases {
            let Some(TopologyError::Mismatch { argument, ours, theirs, .. }) =
                mismatch(&"q".into(), complaint)
            else {
                panic!("not read: {complaint}")
            };
            assert_eq!((&*argument, &*ours, &*theirs), expected);
        }
        assert!(mismatch(&"q".into(), "PRECONDITION_FAILED - invalid arg").is_none());
    }
}
