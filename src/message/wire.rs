//! The metadata that travels as headers, under the names the wire format gives it.
//!
//! Backends carry what has a property of its own (content type, ids, …) as they can; the rest
//! goes through here, so that every backend uses the same names. `docs/wire.md` lists them.

use super::{
    Envelope, Failure, FailureKind, HeaderValue, Id, MAX_ATTEMPTS, MAX_HEADER_BYTES, Metadata,
    Priority, Timestamp,
};
use crate::contract::Name;

const TOPIC: &str = "agentbus-topic";
const CONVERSATION: &str = "agentbus-conversation-id";
const CONTRACT: &str = "agentbus-contract";
const CAUSATION: &str = "agentbus-causation-id";
const DEADLINE: &str = "agentbus-deadline";
const EXPIRES_AT: &str = "agentbus-expires-at";
const DUE_AT: &str = "agentbus-due-at";
const ATTEMPT: &str = "agentbus-attempt";
const MAX_ATTEMPTS_HEADER: &str = "agentbus-max-attempts";
/// Header that holds the priority; engines that route by it need its name.
pub(crate) const PRIORITY: &str = "agentbus-priority";
const REPLICA: &str = "agentbus-replica";
const FAILURE_KIND: &str = "agentbus-failure-kind";
const FAILURE_ERROR: &str = "agentbus-failure-error";
const FAILURE_AGENT: &str = "agentbus-failure-agent";
const FAILURE_INSTANCE: &str = "agentbus-failure-instance";
const FAILURE_TOPIC: &str = "agentbus-failure-topic";
const FAILURE_ATTEMPTS: &str = "agentbus-failure-attempts";
const FAILURE_AT: &str = "agentbus-failure-at";

/// A deadline further off than this, in milliseconds, before or after the present, is nonsense (or
/// seconds or nanoseconds mistaken for it).
const FARTHEST_DEADLINE: u64 = 30 * DAY;

/// As for deadlines; but a message may wait for two years before it is delivered, and expire later.
const FARTHEST_EXPIRY: u64 = 3650 * DAY;

/// A day in milliseconds.
const DAY: u64 = 24 * 3600 * 1000;

/// The value of a header on its way in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireValue<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Int(i64),
}

impl WireValue<'_> {
    fn name(self) -> Name {
        match self {
            Self::Text(text) => text.into(),
            Self::Int(number) => number.to_string().into(),
        }
    }

    fn number(self) -> Option<u64> {
        match self {
            Self::Text(text) => text.trim().parse().ok(),
            Self::Int(number) => u64::try_from(number).ok(),
        }
    }

    /// Reads a time: milliseconds since the epoch, or RFC 3339.
    fn time(self) -> Option<Timestamp> {
        match (self.number(), self) {
            (Some(millis), _) => Some(Timestamp::from_millis(millis)),
            (None, Self::Text(text)) => Timestamp::from_rfc3339(text.trim()),
            (None, Self::Int(_)) => None,
        }
    }

    fn id(self) -> Id {
        match self {
            Self::Text(text) => text.into(),
            Self::Int(number) => number.to_string().into(),
        }
    }
}

impl Envelope {
    /// Calls `write` with every header this envelope travels with.
    ///
    /// `with_topic` adds the topic, for what does not arrive under its own routing key. Text of more
    /// than [`MAX_HEADER_BYTES`] is cut; ids and trace context that long are left out with a
    /// warning.
    pub fn write_headers(&self, with_topic: bool, mut write: impl FnMut(&str, WireValue<'_>)) {
        let metadata = &self.metadata;
        let mut text = |name, value: &str| write(name, WireValue::Text(within(value)));
        if let (true, Some(topic)) = (with_topic, &self.topic) {
            text(TOPIC, topic);
        }
        if let Some(traceparent) = &metadata.traceparent {
            whole("traceparent", traceparent, &mut text);
        }
        if let Some(tracestate) = &metadata.tracestate {
            whole("tracestate", tracestate, &mut text);
        }
        if let Some(id) = &metadata.conversation_id {
            id.with_str(|id| whole(CONVERSATION, id, &mut text));
        }
        if let Some(id) = &metadata.causation_id {
            id.with_str(|id| whole(CAUSATION, id, &mut text));
        }
        if let Some(contract) = &metadata.contract {
            whole(CONTRACT, contract, &mut text);
        }
        if let Some(replica) = &metadata.replica {
            text(REPLICA, replica);
        }
        if let Some(failure) = &metadata.failure {
            text(FAILURE_KIND, failure.kind.as_str());
            text(FAILURE_ERROR, &failure.error);
            text(FAILURE_AGENT, &failure.agent);
            if let Some(instance) = &failure.instance {
                text(FAILURE_INSTANCE, instance);
            }
            if let Some(topic) = &failure.topic {
                text(FAILURE_TOPIC, topic);
            }
        }
        let mut number = |name, value: u64| {
            write(name, WireValue::Int(i64::try_from(value).unwrap_or(i64::MAX)));
        };
        if let Some(deadline) = metadata.deadline {
            number(DEADLINE, deadline.as_millis());
        }
        if let Some(expires_at) = metadata.expires_at {
            number(EXPIRES_AT, expires_at.as_millis());
        }
        if let Some(due_at) = metadata.due_at {
            number(DUE_AT, due_at.as_millis());
        }
        if let Some(attempt) = metadata.attempt {
            number(ATTEMPT, attempt.into());
        }
        if let Some(max_attempts) = metadata.max_attempts {
            number(MAX_ATTEMPTS_HEADER, max_attempts.into());
        }
        if let Some(priority) = metadata.priority {
            number(PRIORITY, priority.level().into());
        }
        if let Some(failure) = &metadata.failure {
            number(FAILURE_ATTEMPTS, failure.attempts.into());
            number(FAILURE_AT, failure.at.as_millis());
        }
        for (name, value) in metadata.headers.iter() {
            match value {
                HeaderValue::Text(text) => write(name, WireValue::Text(text)),
                HeaderValue::Int(number) => write(name, WireValue::Int(*number)),
            }
        }
    }

    /// Takes in a header as received.
    ///
    /// What the broker adds itself (`x-death` and the like) is left out, since republishing it
    /// makes brokers drop the message as a cycle. A free header that breaks the bounds is left
    /// out with a warning; nonsense in one of ours is ignored with a warning.
    pub fn read_header(&mut self, name: &str, value: WireValue<'_>) {
        let metadata = &mut self.metadata;
        match name {
            TOPIC => self.topic = Some(value.name()),
            "traceparent" => metadata.traceparent = Some(value.name()),
            "tracestate" => metadata.tracestate = Some(value.name()),
            CONVERSATION => metadata.conversation_id = Some(value.id()),
            CAUSATION => metadata.causation_id = Some(value.id()),
            CONTRACT => metadata.contract = Some(value.name().into()),
            DEADLINE => metadata.deadline = sane_time(value, FARTHEST_DEADLINE),
            EXPIRES_AT => metadata.expires_at = sane_time(value, FARTHEST_EXPIRY),
            DUE_AT => metadata.due_at = value.time(),
            ATTEMPT => metadata.attempt = number32(value),
            MAX_ATTEMPTS_HEADER => metadata.max_attempts = sane_attempts(value),
            PRIORITY => {
                let level = value.number().and_then(|level| u8::try_from(level).ok());
                metadata.priority = level.map(Priority::nearest);
            }
            REPLICA => metadata.replica = Some(value.name()),
            FAILURE_KIND => failure(metadata).kind = FailureKind::from(&*value.name()),
            FAILURE_ERROR => failure(metadata).error = value.name(),
            FAILURE_AGENT => failure(metadata).agent = value.name(),
            FAILURE_INSTANCE => failure(metadata).instance = Some(value.name()),
            FAILURE_TOPIC => failure(metadata).topic = Some(value.name()),
            FAILURE_ATTEMPTS => failure(metadata).attempts = number32(value).unwrap_or(0),
            FAILURE_AT => {
                failure(metadata).at = value.time().unwrap_or(Timestamp::from_millis(0));
            }
            _ if super::headers::is_reserved(name) => {}
            _ => {
                let value = match value {
                    WireValue::Text(text) => HeaderValue::from(text),
                    WireValue::Int(number) => HeaderValue::Int(number),
                };
                if let Err(error) = metadata.headers.put(name.into(), value) {
                    tracing::warn!(%error, "left out a header of a received message");
                }
            }
        }
    }
}

/// Cuts text to what a header carries, at a character boundary.
fn within(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_HEADER_BYTES)]
}

/// Writes what means something else, or nothing, once it is cut: only where it fits.
fn whole<'a>(name: &'a str, value: &str, write: &mut impl FnMut(&'a str, &str)) {
    if value.len() <= MAX_HEADER_BYTES {
        write(name, value);
    } else {
        let bytes = value.len();
        tracing::warn!(header = name, bytes, "left out a header that is too long to be sent");
    }
}

fn number32(value: WireValue<'_>) -> Option<u32> {
    let number = value.number().and_then(|number| u32::try_from(number).ok());
    if number.is_none() {
        tracing::warn!(?value, "ignored a header that should be a small whole number");
    }
    number
}

fn sane_attempts(value: WireValue<'_>) -> Option<u32> {
    let attempts = value.number().and_then(|number| u32::try_from(number).ok());
    let sane = attempts.filter(|attempts| (1..=MAX_ATTEMPTS).contains(attempts));
    if sane.is_none() {
        tracing::warn!(
            ?value,
            "ignored a number of attempts that is not within 1 to {MAX_ATTEMPTS}"
        );
    }
    sane
}

fn sane_time(value: WireValue<'_>, farthest: u64) -> Option<Timestamp> {
    let now = Timestamp::now().as_millis();
    let sane = value.time().filter(|time| time.as_millis().abs_diff(now) <= farthest);
    if sane.is_none() {
        let days = farthest / DAY;
        tracing::warn!(?value, "ignored a time that is nonsense, or over {days} days from now");
    }
    sane
}

fn failure(metadata: &mut Metadata) -> &mut Failure {
    metadata.failure.get_or_insert_with(|| {
        Box::new(Failure {
            kind: FailureKind::Other(Name::from_static("unknown")),
            error: Name::from_static(""),
            agent: Name::from_static(""),
            instance: None,
            topic: None,
            attempts: 0,
            at: Timestamp::from_millis(0),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn over_the_wire(sent: &Envelope) -> Envelope {
        let mut received = Envelope { payload: sent.payload.clone(), ..Envelope::default() };
        sent.write_headers(true, |name, value| received.read_header(name, value));
        received
    }

    #[test]
    fn what_travels_as_headers_reads_back() {
        let mut sent = Envelope { topic: Some("price.moved".into()), ..Envelope::default() };
        sent.metadata = Metadata {
            conversation_id: Some(Id::new()),
            causation_id: Some("order 17".into()),
            deadline: Some(Timestamp::now().after(Duration::from_secs(5))),
            expires_at: Some(Timestamp::now().after(Duration::from_hours(24 * 365))),
            due_at: Some(Timestamp::from_millis(17)),
            attempt: Some(3),
            max_attempts: Some(MAX_ATTEMPTS),
            priority: Some(Priority::HIGH),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            failure: Some(Box::new(Failure {
                kind: FailureKind::NoRoute,
                error: "no route for `a`".into(),
                agent: "data".into(),
                instance: Some("7f".into()),
                topic: Some("a".into()),
                attempts: 2,
                at: Timestamp::from_millis(99),
            })),
            ..Metadata::default()
        };
        sent.metadata.headers.set("tenant", "acme").unwrap();
        sent.metadata.headers.set("shard", 7).unwrap();
        assert_eq!(over_the_wire(&sent), sent);
    }

    #[test]
    fn what_the_broker_adds_is_left_out() {
        let mut received = Envelope::default();
        for name in [
            "x-death",
            "x-first-death-queue",
            "x-last-death-queue",
            "x-delivery-count",
            "x-acquired-count",
            "agentbus-later",
        ] {
            received.read_header(name, WireValue::Int(1));
        }
        assert_eq!(received, Envelope::default());
    }

    #[test]
    fn other_headers_that_begin_with_x_are_the_users_own() {
        let mut received = Envelope::default();
        received.read_header("x-request-id", WireValue::Text("abc"));
        assert_eq!(received.metadata.headers.text("x-request-id"), Some("abc"));
        assert_eq!(over_the_wire(&received), received);
    }

    #[test]
    fn ids_and_trace_context_are_sent_whole_or_not_at_all() {
        let sent = |bytes: usize| {
            let mut sent = Envelope::default();
            let long = "i".repeat(bytes);
            sent.metadata.conversation_id = Some(long.as_str().into());
            sent.metadata.causation_id = Some(long.as_str().into());
            sent.metadata.traceparent = Some(long.as_str().into());
            sent.metadata.tracestate = Some(long.into());
            sent
        };
        assert_eq!(over_the_wire(&sent(255)), sent(255));
        assert_eq!(over_the_wire(&sent(256)), Envelope::default());
    }

    #[test]
    fn a_long_error_is_cut_at_a_character() {
        assert_eq!(within(&"ä".repeat(200)).len(), 254);
    }

    #[test]
    fn a_nonsense_deadline_is_ignored() {
        const MONTH: i64 = FARTHEST_DEADLINE.cast_signed();
        let now = i64::try_from(Timestamp::now().as_millis()).unwrap();
        for value in [
            WireValue::Text("tomorrow"),
            WireValue::Int(-5),
            WireValue::Int(i64::MAX),
            WireValue::Int(0),
            // Half a minute from now, in seconds.
            WireValue::Int(now / 1000 + 30),
            WireValue::Int(now + MONTH + 60_000),
            WireValue::Int(now - MONTH - 60_000),
        ] {
            let mut received = Envelope::default();
            received.read_header(DEADLINE, value);
            assert_eq!(received.metadata.deadline, None, "{value:?}");
        }
        for millis in [now + MONTH - 60_000, now - MONTH + 60_000, now - 1] {
            let mut received = Envelope::default();
            received.read_header(DEADLINE, WireValue::Int(millis));
            assert!(received.metadata.deadline.is_some(), "{millis}");
        }
    }

    #[test]
    fn a_nonsense_expiry_is_ignored() {
        let now = i64::try_from(Timestamp::now().as_millis()).unwrap();
        let expiry = |value: WireValue<'_>| {
            let mut received = Envelope::default();
            received.read_header(EXPIRES_AT, value);
            received.metadata.expires_at.map(|at| at.as_millis().cast_signed())
        };
        // In seconds, and in microseconds.
        for nonsense in [0, -1, i64::MAX, now / 1000 + 30, now * 1000] {
            assert_eq!(expiry(WireValue::Int(nonsense)), None, "{nonsense}");
        }
        assert_eq!(expiry(WireValue::Text("soon")), None);
        let year = 365 * DAY.cast_signed();
        for millis in [now + 5 * year, now - year, now] {
            assert_eq!(expiry(WireValue::Int(millis)), Some(millis));
            let text = millis.to_string();
            assert_eq!(expiry(WireValue::Text(&text)), Some(millis));
        }
    }

    #[test]
    fn a_nonsense_number_of_attempts_is_ignored() {
        let attempts = |value| {
            let mut received = Envelope::default();
            received.read_header(MAX_ATTEMPTS_HEADER, value);
            received.metadata.max_attempts
        };
        for nonsense in [0, -1, 1001, i64::from(u32::MAX) + 2] {
            assert_eq!(attempts(WireValue::Int(nonsense)), None, "{nonsense}");
        }
        assert_eq!(attempts(WireValue::Text("many")), None);
        assert_eq!(attempts(WireValue::Int(1)), Some(1));
        assert_eq!(attempts(WireValue::Text("1000")), Some(1000));
    }

    #[test]
    fn at_most_64_free_headers_are_taken_in() {
        let mut received = Envelope::default();
        for number in 0..100 {
            received.read_header(&format!("h{number}"), WireValue::Int(number));
        }
        assert_eq!(received.metadata.headers.len(), 64);
    }
}
