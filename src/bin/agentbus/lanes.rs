//! The queues of an agent whose messages come in lanes.

use agentbus::message::Lane;

/// Lists the queues of an agent's lanes; the normal one is the agent's own queue.
pub(crate) fn lane_queues(queue: &str) -> [String; 3] {
    [Lane::Urgent, Lane::High, Lane::Low].map(|lane| format!("{queue}.{lane}"))
}
