//! The topics that agentbus keeps for itself.

/// Tells whether a topic or pattern begins with the word `agentbus`, and so belongs to agentbus.
///
/// What is published under such a topic (who is there, who has started, what has failed) concerns
/// those who ask for it: routes and subscribers get it only where their pattern begins with that word
/// too. To a pattern such as `#` it does not count as matching.
///
/// ```
/// use agentbus::contract::is_reserved;
///
/// assert!(is_reserved("agentbus.agent-started") && is_reserved("agentbus.#"));
/// assert!(!is_reserved("agentbusiness.done") && !is_reserved("#"));
/// ```
#[must_use]
pub fn is_reserved(topic: &str) -> bool {
    topic.strip_prefix("agentbus").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
