//! What the role of a queue means for how it is kept.

use std::time::Duration;

use crate::{
    broker::{Overflow, QueueRole, TopologyError},
    contract::Name,
    message::Priorities,
};

/// How often a message is released before the queue stops handing it out.
///
/// The fuse against messages that crash whoever handles them; it counts what comes back from
/// consumers that vanish as well.
pub(super) const RELEASE_LIMIT: u32 = 100;

/// The bounds and times of one queue.
#[derive(Debug)]
pub(super) struct Limits {
    /// How many messages are ready at most.
    pub(super) max_length: u64,
    /// How many bytes of bodies are ready at most.
    pub(super) max_bytes: u64,
    /// Whether the oldest message makes room.
    pub(super) drops_oldest: bool,
    /// Where a message goes that made room.
    pub(super) dropped: Option<Name>,
    /// How long a message is kept.
    pub(super) ttl: Option<Duration>,
    /// How long the queue outlives its last consumer.
    pub(super) expires: Option<Duration>,
    /// How often a message may come back.
    pub(super) releases: u32,
    /// Where a message goes that came back too often.
    pub(super) dead_letters: Option<Name>,
}

impl Limits {
    pub(super) fn of(role: &QueueRole) -> Self {
        let mut limits = Self {
            max_length: u64::MAX,
            max_bytes: u64::MAX,
            drops_oldest: false,
            dropped: None,
            ttl: None,
            expires: None,
            releases: RELEASE_LIMIT,
            dead_letters: None,
        };
        match role {
            QueueRole::Work { dead_letters, max_length } => {
                limits.max_length = *max_length;
                limits.dead_letters = Some(dead_letters.clone());
            }
            QueueRole::Replica { dead_letters, max_length, expires } => {
                limits.max_length = *max_length;
                limits.expires = Some(*expires);
                limits.dead_letters = Some(dead_letters.clone());
            }
            QueueRole::Private { max_length, expires } => {
                limits.max_length = *max_length;
                limits.expires = Some(*expires);
            }
            QueueRole::Watch { max_length, max_bytes, expires, dropped } => {
                limits.max_length = *max_length;
                limits.max_bytes = *max_bytes;
                limits.expires = Some(*expires);
                limits.drops_oldest = true;
                limits.dropped.clone_from(dropped);
            }
            QueueRole::DeadLetters(kept) => {
                limits.max_length = kept.max_length;
                limits.max_bytes = kept.max_bytes;
                limits.drops_oldest = kept.overflow == Overflow::DropOldest;
                limits.ttl = Some(kept.ttl);
                // Looking at a dead letter takes and releases it, and must not wear it out.
                limits.releases = u32::MAX;
            }
        }
        limits
    }
}

/// Checks that a queue of the role and order `theirs` can be used as one of `ours`.
pub(super) fn agree(
    queue: &Name,
    ours: (&QueueRole, Priorities),
    theirs: (&QueueRole, Priorities),
) -> Result<(), TopologyError> {
    if ours == theirs {
        return Ok(());
    }
    let (ours, theirs) = (arguments(ours.0, ours.1), arguments(theirs.0, theirs.1));
    compare(queue, &ours, &theirs)
}

/// Finds the first argument that differs.
pub(super) fn compare(
    queue: &Name,
    ours: &[Argument],
    theirs: &[(impl AsRef<str>, String)],
) -> Result<(), TopologyError> {
    for (argument, our_value) in ours {
        let their_value = theirs.iter().find(|(name, _)| name.as_ref() == *argument);
        let their_value = their_value.map(|(_, value)| value);
        if their_value != Some(our_value) {
            return Err(TopologyError::Mismatch {
                queue: queue.clone(),
                argument: (*argument).to_owned(),
                ours: our_value.clone(),
                theirs: their_value.cloned().unwrap_or_else(|| "not set".to_owned()),
            });
        }
    }
    Ok(())
}

/// What a queue is declared with: name and value.
pub(super) type Argument = (&'static str, String);

/// Lists what a queue is declared with. The role comes first, since it explains all the others.
pub(super) fn arguments(role: &QueueRole, priorities: Priorities) -> Vec<Argument> {
    let mut arguments = of_role(role);
    arguments.push(("priorities", format!("{priorities:?}").to_lowercase()));
    arguments
}

fn of_role(role: &QueueRole) -> Vec<Argument> {
    let named = |role: &str| ("role", role.to_owned());
    match role {
        QueueRole::Work { dead_letters, max_length } => vec![
            named("work"),
            ("dead_letters", format!("`{dead_letters}`")),
            ("max_length", max_length.to_string()),
        ],
        QueueRole::Replica { dead_letters, max_length, expires } => vec![
            named("replica"),
            ("dead_letters", format!("`{dead_letters}`")),
            ("max_length", max_length.to_string()),
            ("expires", format!("{expires:?}")),
        ],
        QueueRole::Private { max_length, expires } => vec![
            named("private"),
            ("max_length", max_length.to_string()),
            ("expires", format!("{expires:?}")),
        ],
        QueueRole::Watch { max_length, max_bytes, expires, dropped } => vec![
            named("watch"),
            ("max_length", max_length.to_string()),
            ("max_bytes", max_bytes.to_string()),
            ("expires", format!("{expires:?}")),
            ("dropped", dropped.as_ref().map_or("not set".to_owned(), |it| format!("`{it}`"))),
        ],
        QueueRole::DeadLetters(kept) => vec![
            named("dead letters"),
            ("ttl", format!("{:?}", kept.ttl)),
            ("max_length", kept.max_length.to_string()),
            ("max_bytes", kept.max_bytes.to_string()),
            ("overflow", format!("{:?}", kept.overflow)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::DeadLetterLimits;

    fn check(ours: &QueueRole, theirs: &QueueRole) -> Result<(), TopologyError> {
        agree(&"q".into(), (ours, Priorities::Off), (theirs, Priorities::Off))
    }

    fn mismatch(ours: &QueueRole, theirs: &QueueRole) -> (String, String, String) {
        match check(ours, theirs) {
            Err(TopologyError::Mismatch { argument, ours, theirs, .. }) => (argument, ours, theirs),
            other => panic!("expected a mismatch, got {other:?}"),
        }
    }

    #[test]
    fn the_argument_that_differs_is_named_with_both_values() {
        let work = |max_length| QueueRole::Work { dead_letters: "q.dlq".into(), max_length };
        assert!(check(&work(5), &work(5)).is_ok());
        assert_eq!(
            mismatch(&work(5), &work(6)),
            ("max_length".to_owned(), "5".to_owned(), "6".to_owned()),
        );
    }

    #[test]
    fn another_role_is_told_before_what_follows_from_it() {
        let work = QueueRole::Work { dead_letters: "q.dlq".into(), max_length: 1 };
        let dead = QueueRole::DeadLetters(DeadLetterLimits::default());
        assert_eq!(mismatch(&work, &dead).0, "role");
    }
}
