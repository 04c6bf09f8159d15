//! One turn of a reader: what it tells Redis, and what it gets.

use std::time::Duration;

use redis::Value;

use super::{bus::Keys, call::Call, fault::Fault, scripts::TURN};

/// How many messages are settled or claimed at once.
pub(super) const AT_ONCE: usize = 500;

/// How many bytes are claimed before there are enough; one message may have more.
const BYTES_AT_ONCE: u64 = 4 << 20;

/// A message that was handed out: where it lies, and how often it had come back. Once it comes back
/// again, whoever had it knows an old number, and settles nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HandOut {
    pub(super) place: u64,
    pub(super) returns: u32,
}

/// What a reader tells.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    pub(super) done: Vec<HandOut>,
    pub(super) back: Vec<HandOut>,
    /// What it goes on with.
    pub(super) hold: Vec<HandOut>,
    pub(super) room: usize,
    pub(super) consumers: usize,
    pub(super) presence: Presence,
}

/// Whether a reader says that it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Presence {
    /// That is known.
    #[default]
    Known,
    /// It is.
    Here,
    /// Nobody consumes through it any more.
    Leaves,
}

/// What a reader gets.
#[derive(Debug)]
pub(super) enum Answer {
    /// There is no such queue.
    Gone,
    Claimed {
        more: More,
        messages: Vec<(HandOut, Vec<u8>)>,
    },
}

/// What is left in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    /// There may be more at once.
    Perhaps,
    /// There is nothing.
    Nothing,
    /// There is nothing, but others hold messages, the next one for so long.
    After(Duration),
}

impl Turn {
    pub(super) fn call<'a>(
        &self,
        keys: &Keys,
        queue: &str,
        reader: &str,
        number: u64,
        is_repeated: bool,
        lease: Duration,
    ) -> Call<'a> {
        let mut call = keys.call(&TURN);
        call.push(queue).push(reader).push(number).push(u8::from(is_repeated));
        call.push(self.room.min(AT_ONCE)).push(BYTES_AT_ONCE);
        call.push(millis(lease)).push(self.consumers);
        call.push(match self.presence {
            Presence::Known => 0,
            Presence::Here => 1,
            Presence::Leaves => 2,
        });
        let first = |done: &&HandOut| done.returns == 0;
        let is_again = |done: &&HandOut| done.returns > 0;
        call.push(self.done.iter().filter(first).count());
        for done in self.done.iter().filter(first) {
            call.push(done.place);
        }
        let again: Vec<HandOut> = self.done.iter().filter(is_again).copied().collect();
        for pairs in [&again, &self.back, &self.hold] {
            call.push(pairs.len());
            for HandOut { place, returns } in pairs {
                call.push(place).push(returns);
            }
        }
        call
    }
}

impl Answer {
    pub(super) fn read(value: Value) -> Result<Self, Fault> {
        let Value::Array(values) = value else {
            return Ok(Self::Gone);
        };
        let unknown = |what: &str| Fault::Answer(format!("a turn gave {what}"));
        let mut values = values.into_iter();
        let more = match values.next() {
            Some(Value::Int(-2)) => More::Perhaps,
            Some(Value::Int(-1)) => More::Nothing,
            Some(Value::Int(wait)) => {
                More::After(Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
            }
            _ => return Err(unknown("nothing")),
        };
        let mut messages = Vec::with_capacity(values.len() / 3);
        while let (Some(place), Some(returns), Some(message)) =
            (values.next(), values.next(), values.next())
        {
            let hand_out = HandOut {
                place: redis::from_redis_value(place).map_err(|_| unknown("a strange place"))?,
                returns: redis::from_redis_value(returns)
                    .map_err(|_| unknown("a strange number"))?,
            };
            let Value::BulkString(message) = message else { return Err(unknown("no message")) };
            messages.push((hand_out, message));
        }
        Ok(Self::Claimed { more, messages })
    }
}

/// Redis takes whole milliseconds above zero, which Lua can write exactly.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let answer =
            Value::Array(vec![Value::Int(20), bulk("9007199254740977"), bulk("3"), bulk("m")]);
        let Ok(Answer::Claimed { more, messages }) = Answer::read(answer) else { panic!() };
        assert_eq!(more, More::After(Duration::from_millis(20)));
        let hand_out = HandOut { place: 9_007_199_254_740_977, returns: 3 };
        assert_eq!(messages, [(hand_out, b"m".to_vec())]);
        assert!(matches!(Answer::read(bulk("gone")), Ok(Answer::Gone)));
        assert!(Answer::read(Value::Array(Vec::new())).is_err());
    }
}
