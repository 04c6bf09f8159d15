//! What keeps agents from starting.

use super::InvalidRoutes;
use crate::{
    BoxError,
    broker::{QueueError, TopologyError},
    contract::{InvalidTopic, Name, Topic},
};

/// A runtime could not start its agents; those that were started are stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An agent's name cannot be the name of a queue.
    #[error("agent `{agent}` has a name that cannot be used")]
    Name {
        /// Name of the agent.
        agent: Name,
        /// What is wrong with it.
        source: InvalidTopic,
    },
    /// An agent's name ends in the word that dead-letter queues end in.
    #[error(
        "agent `{agent}` cannot be called that: names whose last word is `dlq` are for dead letters"
    )]
    ReservedName {
        /// Name of the agent.
        agent: Name,
    },
    /// Two agents of one runtime have the same name.
    #[error(
        "two agents of one runtime are called `{agent}`; start replicas in runtimes of their own, or rename one"
    )]
    Twice {
        /// Name of the agents.
        agent: Name,
    },
    /// An agent's routes cannot be used.
    #[error("the routes of agent `{agent}` cannot be used")]
    Routes {
        /// Name of the agent.
        agent: Name,
        /// What is wrong with them.
        source: InvalidRoutes,
    },
    /// A queue of an agent could not be declared.
    #[error("agent `{agent}` could not declare its queue")]
    Declare {
        /// Name of the agent.
        agent: Name,
        /// What the broker said.
        source: TopologyError,
    },
    /// A queue of an agent could not be consumed from.
    #[error("agent `{agent}` could not consume from its queue")]
    Consume {
        /// Name of the agent.
        agent: Name,
        /// What the broker said.
        source: QueueError,
    },
    /// An agent's `on_start` failed.
    #[error("agent `{agent}` failed to start")]
    OnStart {
        /// Name of the agent.
        agent: Name,
        /// What `on_start` returned.
        source: BoxError,
    },
}

/// Checks that a queue, its replicas' queues and its dead letters can be named after an agent.
pub(super) fn check_name(agent: &Name) -> Result<(), StartError> {
    if agent.rsplit('.').next() == Some("dlq") {
        return Err(StartError::ReservedName { agent: agent.clone() });
    }
    // The longest of the derived names has an instance at its end.
    let longest = format!("{agent}.00000000");
    match Topic::<()>::named(agent.clone()).and_then(|_| Topic::<()>::named(longest)) {
        Ok(_) => Ok(()),
        Err(source) => Err(StartError::Name { agent: agent.clone(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_in_any_word_but_dlq() {
        assert!(check_name(&"data".into()).is_ok());
        assert!(check_name(&"dlq.data".into()).is_ok());
        assert!(matches!(check_name(&"data.dlq".into()), Err(StartError::ReservedName { .. })));
        assert!(matches!(check_name(&"dlq".into()), Err(StartError::ReservedName { .. })));
        assert!(matches!(check_name(&"da ta".into()), Err(StartError::Name { .. })));
        assert!(matches!(check_name(&"a".repeat(195).into()), Err(StartError::Name { .. })));
    }
}
