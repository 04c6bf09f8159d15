//! What a method's route option says, checked.

use std::{ops::RangeInclusive, time::Duration};

use protox::prost_reflect::{DynamicMessage, ReflectMessage};

use crate::contract::Retry;

/// Room for the prefix of a delayed message, out of the 255 bytes AMQP has for a routing key.
const MAX_KEY_BYTES: usize = 197;

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_hours(24);

/// The longest deadline: receivers take one further off for nonsense.
const MAX_DEADLINE: Duration = Duration::from_hours(30 * 24);

/// How often a message may be tried at most.
const MAX_ATTEMPTS: u32 = 1000;

/// Numbers of the fields of `RouteOptions` and `RetryOptions`.
const KEY: i32 = 1;
const DEADLINE: i32 = 2;
const RETRY: i32 = 3;
const PRIORITY: i32 = 4;
const ATTEMPTS: i32 = 1;
const FIRST_DELAY: i32 = 2;
const MULTIPLIER: i32 = 3;
const MAX_DELAY: i32 = 4;
const MAX_AGE: i32 = 5;

/// What the option of one method says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) key: String,
    pub(crate) deadline: Option<Duration>,
    pub(crate) retry: Option<Retry>,
    pub(crate) priority: Option<u8>,
    pub(crate) faults: Vec<Fault>,
}

/// What is wrong with an option, said of the method: "has the key …".
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// Numbers of the fields that lead to it.
    pub(crate) path: Vec<i32>,
    pub(crate) message: String,
}

impl Options {
    /// Reads a `RouteOptions`; `replies` tells whether there is somebody to wait for a reply.
    pub(crate) fn read(route: &DynamicMessage, replies: bool) -> Self {
        let mut reader = Reader { message: route, path: Vec::new(), faults: Vec::new() };
        let key = reader.text("key");
        if let Some(fault) = fault(&key) {
            reader.fault(KEY, format!("has the key {key:?}, which {fault}"));
        }
        let deadline = reader.duration("deadline", DEADLINE, &(MS..=MAX_DEADLINE));
        if deadline.is_some() && !replies {
            let message = "has a deadline, but nobody replies: it returns google.protobuf.Empty";
            reader.fault(DEADLINE, message.to_owned());
        }
        let priority = reader.number("priority", PRIORITY, &(1..=10));
        let retry = reader.nested("retry", RETRY, retry);
        Self {
            key,
            deadline,
            retry,
            priority: priority.and_then(|priority| u8::try_from(priority).ok()),
            faults: reader.faults,
        }
    }

    /// Whether the key itself is sound.
    pub(crate) fn has_sound_key(&self) -> bool {
        self.faults.iter().all(|fault| fault.path != [KEY])
    }

    /// The path of the key within the option.
    pub(crate) const KEY_PATH: [i32; 1] = [KEY];
}

/// Reads a `RetryOptions`.
fn retry(reader: &mut Reader<'_>) -> Retry {
    let first_delay = reader.duration("first_delay", FIRST_DELAY, &(Duration::ZERO..=DAY));
    let max_delay = reader.duration("max_delay", MAX_DELAY, &(Duration::ZERO..=DAY));
    if let (Some(first), Some(max)) = (first_delay, max_delay)
        && first > max
    {
        let message = format!("waits {first:?} before the first retry, and at most {max:?}");
        reader.fault(MAX_DELAY, message);
    }
    Retry {
        attempts: reader.number("attempts", ATTEMPTS, &(1..=MAX_ATTEMPTS)),
        first_delay,
        multiplier: reader.factor("multiplier", MULTIPLIER, &(1.0..=1000.0)),
        max_delay,
        max_age: reader.duration("max_age", MAX_AGE, &(MS..=Duration::MAX)),
    }
}

/// Reads fields by name, and notes what is out of bounds.
struct Reader<'a> {
    message: &'a DynamicMessage,
    path: Vec<i32>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, number: i32, message: String) {
        let path = [self.path.as_slice(), &[number]].concat();
        self.faults.push(Fault { path, message });
    }

    fn text(&self, name: &str) -> String {
        let field = self.message.get_field_by_name(name);
        field.and_then(|field| Some(field.as_str()?.to_owned())).unwrap_or_default()
    }

    fn number(&mut self, name: &str, number: i32, allowed: &RangeInclusive<u32>) -> Option<u32> {
        let found = self.present(name)?.as_u32()?;
        if !allowed.contains(&found) {
            let (least, most) = (allowed.start(), allowed.end());
            let name = words(name);
            self.fault(number, format!("has the {name} {found}; allowed: from {least} to {most}"));
        }
        Some(found)
    }

    fn factor(&mut self, name: &str, number: i32, allowed: &RangeInclusive<f64>) -> Option<f64> {
        let found = self.present(name)?.as_f64()?;
        if !allowed.contains(&found) {
            let (least, most) = (allowed.start(), allowed.end());
            let name = words(name);
            self.fault(number, format!("has the {name} {found}; allowed: from {least} to {most}"));
        }
        Some(found)
    }

    fn duration(
        &mut self,
        name: &str,
        number: i32,
        allowed: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let field = self.present(name)?;
        let field = field.as_message()?;
        let part = |name| field.get_field_by_name(name);
        let seconds = part("seconds").and_then(|it| it.as_i64()).unwrap_or(0);
        let nanos = part("nanos").and_then(|it| it.as_i32()).unwrap_or(0);
        let found = u64::try_from(seconds)
            .ok()
            .zip(u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000))
            .map(|(seconds, nanos)| Duration::new(seconds, nanos));
        if !found.is_some_and(|found| allowed.contains(&found)) {
            let shown = match found {
                Some(found) => format!("{found:?}"),
                None => format!("{seconds} s and {nanos} ns"),
            };
            let name = words(name);
            let allowed = match (allowed.start(), allowed.end()) {
                (least, &Duration::MAX) => format!("from {least:?}"),
                (least, most) => format!("from {least:?} to {most:?}"),
            };
            self.fault(number, format!("has the {name} {shown}; allowed: {allowed}"));
            return None;
        }
        found
    }

    fn nested<T>(
        &mut self,
        name: &str,
        number: i32,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> Option<T> {
        let field = self.present(name)?;
        let message = field.as_message()?;
        let path = [self.path.as_slice(), &[number]].concat();
        let mut reader = Reader { message, path, faults: Vec::new() };
        let value = read(&mut reader);
        self.faults.append(&mut reader.faults);
        Some(value)
    }

    fn present(&self, name: &str) -> Option<protox::prost_reflect::Value> {
        let field = self.message.descriptor().get_field_by_name(name)?;
        self.message.has_field(&field).then(|| self.message.get_field(&field).into_owned())
    }
}

fn words(field: &str) -> String {
    field.replace('_', " ")
}

/// Finds what keeps `key` from being a topic, said of the key.
fn fault(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        Some("is empty")
    } else if key.len() > MAX_KEY_BYTES {
        Some("has more than 197 bytes")
    } else if key.contains(['*', '#']) {
        Some("has a wildcard: `*` and `#` are for patterns")
    } else if key.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Some("has white space or a control character")
    } else if key.split('.').any(str::is_empty) {
        Some("has an empty word: words are separated by single dots")
    } else if key.split('.').next() == Some("agentbus") {
        Some("begins with the word `agentbus`, which is for agentbus itself")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_words_separated_by_single_dots() {
        for good in ["a", "data.request", "a-b_c.1", "größe.x", "agentbuses.x"] {
            assert_eq!(fault(good), None, "{good}");
        }
        assert_eq!(fault(&"x".repeat(197)), None);
        assert!(fault(&"x".repeat(198)).is_some());
        for bad in ["", ".", "a.", ".a", "a..b", "a.*", "#", "a b", "a\n", "agentbus", "agentbus.x"]
        {
            assert!(fault(bad).is_some(), "{bad:?}");
        }
    }
}
