//! Conversations and messages' keys as text, for stores outside the process.

use serde::{Deserialize, Serialize};

use super::{Conversation, MessageKey, StoreError};
use crate::message::Timestamp;

/// A conversation as JSON. What is added later must be optional: stores outlive versions.
#[derive(Deserialize, Serialize)]
struct Record {
    id: String,
    agent: String,
    follow_up: String,
    topic: String,
    state: String,
    asked_at: u64,
    deadline: u64,
    conversation_id: Option<String>,
    causation_id: Option<String>,
    traceparent: Option<String>,
    attempt: u32,
}

/// Writes a conversation.
pub(super) fn write(conversation: &Conversation) -> String {
    let record = Record {
        id: conversation.id.to_string(),
        agent: conversation.agent.to_string(),
        follow_up: conversation.follow_up.to_string(),
        topic: conversation.topic.to_string(),
        state: conversation.state.clone(),
        asked_at: conversation.asked_at.as_millis(),
        deadline: conversation.deadline.as_millis(),
        conversation_id: conversation.conversation_id.as_ref().map(ToString::to_string),
        causation_id: conversation.causation_id.as_ref().map(ToString::to_string),
        traceparent: conversation.traceparent.as_ref().map(ToString::to_string),
        attempt: conversation.attempt,
    };
    serde_json::to_string(&record).expect("texts and numbers are JSON")
}

/// Reads a conversation.
pub(super) fn read(text: &str) -> Result<Conversation, StoreError> {
    let record: Record =
        serde_json::from_str(text).map_err(|error| StoreError::Unavailable(error.into()))?;
    Ok(Conversation {
        id: record.id.into(),
        agent: record.agent.into(),
        follow_up: record.follow_up.into(),
        topic: record.topic.into(),
        state: record.state,
        asked_at: Timestamp::from_millis(record.asked_at),
        deadline: Timestamp::from_millis(record.deadline),
        conversation_id: record.conversation_id.map(Into::into),
        causation_id: record.causation_id.map(Into::into),
        traceparent: record.traceparent.map(Into::into),
        attempt: record.attempt,
    })
}

/// Writes what tells a message from others; two keys that differ have texts that do.
pub(super) fn key(key: &MessageKey) -> String {
    let MessageKey { agent, replica, sender, topic, id } = key;
    let (replica, sender) = (replica.as_deref(), sender.as_deref());
    let parts = (&**agent, replica, sender, &**topic, id.to_string());
    serde_json::to_string(&parts).expect("texts are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_reads_back() {
        let conversation = Conversation {
            id: "a".into(),
            agent: "query".into(),
            follow_up: "with-news".into(),
            topic: "news.request".into(),
            state: "{\"é\": 1}".into(),
            asked_at: Timestamp::from_millis(1),
            deadline: Timestamp::from_millis(u64::MAX),
            conversation_id: Some("c".into()),
            causation_id: None,
            traceparent: Some("00-1".into()),
            attempt: 3,
        };
        assert_eq!(read(&write(&conversation)).unwrap(), conversation);
        assert!(matches!(read("{}"), Err(StoreError::Unavailable(_))));
    }

    #[test]
    fn keys_that_differ_have_texts_that_do() {
        let one = MessageKey {
            agent: "a".into(),
            replica: None,
            sender: Some("b".into()),
            topic: "c".into(),
            id: "d".into(),
        };
        let other = MessageKey { replica: Some("b".into()), sender: None, ..one.clone() };
        assert_ne!(key(&one), key(&other));
        assert_ne!(key(&one), key(&MessageKey { topic: "c\",\"d".into(), ..one.clone() }));
    }
}
