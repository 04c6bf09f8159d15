//! The queues of an agent.

use agentbus::{
    Config, Name,
    broker::{DeadLetterLimits, Overflow, QueueRole, QueueSpec},
    config,
    message::Lane,
};

/// Lists the queues of an agent's lanes; the normal one is the agent's own queue.
pub(crate) fn lane_queues(queue: &str) -> [String; 3] {
    [Lane::Urgent, Lane::High, Lane::Low].map(|lane| format!("{queue}.{lane}"))
}

/// Describes the queues that an agent with this configuration would declare, the one that it works from
/// and its dead letters.
pub(crate) fn specs(queue: &str, config: &Config) -> [QueueSpec; 2] {
    let dead_letters = Name::from(format!("{queue}.dlq"));
    let limits = &config.dead_letters;
    let overflow = match limits.overflow {
        config::Overflow::DropOldest => Overflow::DropOldest,
        _ => Overflow::Refuse,
    };
    let limits = DeadLetterLimits {
        ttl: limits.ttl,
        max_length: limits.max_length,
        max_bytes: limits.max_bytes,
        overflow,
    };
    let role =
        QueueRole::Work { dead_letters: dead_letters.clone(), max_length: config.max_queue_length };
    [
        QueueSpec::new(queue.to_owned(), role).priorities(config.priorities),
        QueueSpec::new(dead_letters, QueueRole::DeadLetters(limits)),
    ]
}
