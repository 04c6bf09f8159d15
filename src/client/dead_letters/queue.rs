//! The queue that failures are kept in: its name, and how it is declared.

use crate::{
    broker::{DeadLetterLimits, Overflow, QueueRole, QueueSpec},
    config::Config,
    contract::Name,
};

/// Returns the name of the dead-letter queue of `queue`.
pub(crate) fn dead_letter_queue(queue: &str) -> Name {
    format!("{queue}.dlq").into()
}

/// Describes the dead-letter queue of `queue`.
pub(crate) fn dead_letter_spec(queue: &str, config: &Config) -> QueueSpec {
    let limits = &config.dead_letters;
    QueueSpec::new(
        dead_letter_queue(queue),
        QueueRole::DeadLetters(DeadLetterLimits {
            ttl: limits.ttl,
            max_length: limits.max_length,
            max_bytes: limits.max_bytes,
            overflow: match limits.overflow {
                crate::config::Overflow::Pause => Overflow::Refuse,
                crate::config::Overflow::DropOldest => Overflow::DropOldest,
            },
        }),
    )
}
