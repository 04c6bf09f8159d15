//! Messages that the broker itself gave up on, as its `x-death` header tells of them.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use super::delay::Delays;
use crate::{
    contract::Name,
    message::{Envelope, Failure, FailureKind, Timestamp},
};

/// What the broker noted, the latest first.
pub(super) struct Deaths<'a>(&'a [AMQPValue]);

impl<'a> Deaths<'a> {
    /// Reads the header; most messages have none.
    pub(super) fn of(properties: &'a BasicProperties) -> Option<Self> {
        match properties.headers().as_ref()?.inner().get("x-death")? {
            AMQPValue::FieldArray(deaths) => Some(Self(deaths.as_slice())),
            _ => None,
        }
    }

    /// Returns exchange and routing key that the message was published with.
    pub(super) fn published(&self) -> Option<(&'a str, &'a str)> {
        let first = table(self.0.last()?)?;
        let AMQPValue::FieldArray(keys) = first.inner().get("routing-keys")? else { return None };
        Some((text(first, "exchange")?, as_text(keys.as_slice().first()?)?))
    }

    /// Notes in `envelope` why the broker gave up on it, if that is how it came here: the fuse of a
    /// queue stopped it, or it waited there for longer than a foreign sender's `expiration`.
    pub(super) fn note_failure(&self, envelope: &mut Envelope) {
        let Some(last) = self.0.first().and_then(table) else { return };
        let queue = text(last, "queue").unwrap_or_default();
        let (kind, error) = match text(last, "reason") {
            _ if envelope.metadata.failure.is_some() => return,
            Some("delivery_limit") => {
                (FailureKind::CrashLoop, "handed out too often and never settled")
            }
            // Delays leave such marks as well.
            Some("expired") if !Delays::is_level(queue) => {
                (FailureKind::Expired, "expired in the queue, by its `expiration`")
            }
            _ => return,
        };
        let at = match last.inner().get("time") {
            Some(AMQPValue::Timestamp(seconds)) => seconds.saturating_mul(1000),
            _ => 0,
        };
        envelope.metadata.failure = Some(Box::new(Failure {
            kind,
            error: Name::from_static(error),
            agent: queue.into(),
            instance: None,
            topic: envelope.topic.clone(),
            attempts: envelope.metadata.attempt(),
            at: Timestamp::from_millis(at),
        }));
    }
}

fn table(value: &AMQPValue) -> Option<&FieldTable> {
    match value {
        AMQPValue::FieldTable(table) => Some(table),
        _ => None,
    }
}

fn text<'a>(table: &'a FieldTable, name: &str) -> Option<&'a str> {
    table.inner().get(name).and_then(as_text)
}

fn as_text(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::*;

    fn death(reason: &str, queue: &str, exchange: &str, key: &str) -> AMQPValue {
        let mut death = FieldTable::default();
        for (name, value) in [("reason", reason), ("queue", queue), ("exchange", exchange)] {
            death.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        let keys = FieldArray::from(vec![AMQPValue::LongString(key.into())]);
        death.insert("routing-keys".into(), AMQPValue::FieldArray(keys));
        death.insert("time".into(), AMQPValue::Timestamp(17));
        AMQPValue::FieldTable(death)
    }

    fn properties(deaths: AMQPValue) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert("x-death".into(), deaths);
        BasicProperties::default().with_headers(headers)
    }

    #[test]
    fn the_first_death_tells_where_it_was_published_and_the_last_why_it_is_here() {
        let deaths = FieldArray::from(vec![
            death("delivery_limit", "data", "", "data"),
            death("expired", "data.1", "events", "price.moved"),
        ]);
        let properties = properties(AMQPValue::FieldArray(deaths));
        let deaths = Deaths::of(&properties).unwrap();
        assert_eq!(deaths.published(), Some(("events", "price.moved")));
        let mut envelope = Envelope { topic: Some("price.moved".into()), ..Envelope::default() };
        deaths.note_failure(&mut envelope);
        let failure = envelope.metadata.failure.unwrap();
        assert_eq!((failure.kind, failure.agent), (FailureKind::CrashLoop, "data".into()));
        assert_eq!(failure.topic.as_deref(), Some("price.moved"));
        assert_eq!(failure.at, Timestamp::from_millis(17_000));
    }

    #[test]
    fn an_expiration_is_a_failure() {
        let deaths = FieldArray::from(vec![death("expired", "data", "events", "price.moved")]);
        let properties = properties(AMQPValue::FieldArray(deaths));
        let mut envelope = Envelope::default();
        Deaths::of(&properties).unwrap().note_failure(&mut envelope);
        let failure = envelope.metadata.failure.unwrap();
        assert_eq!((failure.kind, failure.agent), (FailureKind::Expired, "data".into()));
    }

    #[test]
    fn a_delay_is_no_failure() {
        let deaths =
            FieldArray::from(vec![death("expired", "e.delay.v1.01", "e.delay.v1.01", "1")]);
        let properties = properties(AMQPValue::FieldArray(deaths));
        let mut envelope = Envelope::default();
        Deaths::of(&properties).unwrap().note_failure(&mut envelope);
        assert_eq!(envelope.metadata.failure, None);
    }

    #[test]
    fn a_forged_header_is_ignored() {
        for forged in [
            AMQPValue::Boolean(true),
            AMQPValue::FieldArray(FieldArray::default()),
            AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Void])),
            AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(
                FieldTable::default(),
            )])),
        ] {
            let properties = properties(forged);
            if let Some(deaths) = Deaths::of(&properties) {
                assert_eq!(deaths.published(), None);
                deaths.note_failure(&mut Envelope::default());
            }
        }
    }
}
