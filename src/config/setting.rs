//! Every setting but the address of the bus, in one table: its name, how it is written, and what is allowed.
//!
//! A key `dead_letters.ttl` of the file is `AGENTBUS_DEAD_LETTERS_TTL` in the environment.

use super::value::{bytes, duration, number, optional_duration, text, word};
use super::{BusUrl, Config, ConfigError, Declare, ManagementUrl, Overflow};
use crate::message::Priorities;
use std::time::Duration;

/// One setting.
pub(super) struct Setting {
    /// The path of the field, which is also the key in the file.
    pub(super) key: &'static str,
    /// What it may be, in words.
    pub(super) allowed: &'static str,
    /// Reads a value, or returns `false` where the text is not one.
    set: fn(&mut Config, &str) -> bool,
    /// Whether the present value is within the bounds.
    check: fn(&Config) -> bool,
    /// The present value as text.
    show: fn(&Config) -> String,
}

impl Setting {
    /// Returns the name of the environment variable.
    pub(super) fn variable(&self) -> String {
        format!("AGENTBUS_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// Returns the setting with this key.
    pub(super) fn of_key(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// Reads `text` into `config`; `name` is what the error calls the place it came from.
    pub(super) fn read(
        &self,
        config: &mut Config,
        name: &str,
        text: &str,
    ) -> Result<(), ConfigError> {
        if (self.set)(config, text.trim()) && (self.check)(config) {
            return Ok(());
        }
        Err(ConfigError::bad_value(name, text, self.allowed))
    }

    /// Checks the present value.
    pub(super) fn validate(&self, config: &Config) -> Result<(), ConfigError> {
        if (self.check)(config) {
            return Ok(());
        }
        Err(ConfigError::bad_value(self.key, &(self.show)(config), self.allowed))
    }
}

/// Makes a row of the table: key, field, how it is read, what is allowed in words, and the check of the field's value.
macro_rules! setting {
    ($($field:ident).+, $read:expr, $show:expr, $allowed:literal, $check:expr) => {
        Setting {
            key: setting!(@key $($field).+),
            allowed: $allowed,
            set: |config, text| match $read(text) {
                Some(value) => {
                    config.$($field).+ = value;
                    true
                }
                None => false,
            },
            check: |config| $check(&config.$($field).+),
            show: |config| $show(&config.$($field).+),
        }
    };
    (@key $first:ident) => { stringify!($first) };
    (@key $first:ident . $second:ident) => { concat!(stringify!($first), ".", stringify!($second)) };
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const KIB: usize = 1024;

/// The settings, in the order of the fields.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        key: "also_publish_to",
        allowed: "`none`, or the address of another bus, such as `amqp://user:password@host/vhost`",
        set: |config, text| {
            let bus = if text.eq_ignore_ascii_case("none") { Some(None) } else { bus(text) };
            bus.map(|bus| config.also_publish_to = bus).is_some()
        },
        check: |config| config.also_publish_to.as_ref() != Some(&config.bus),
        show: |config| {
            config.also_publish_to.as_ref().map_or("none".to_owned(), ToString::to_string)
        },
    },
    setting!(
        exchange,
        text,
        Clone::clone,
        "1 to 127 letters, digits, `-`, `_`, `.` or `:`, not beginning with `amq.`",
        |name: &String| !name.is_empty() && is_name(name, 127)
    ),
    setting!(
        queue_prefix,
        text,
        Clone::clone,
        "at most 64 letters, digits, `-`, `_`, `.` or `:`, not beginning with `amq.`",
        |prefix: &String| is_name(prefix, 64)
    ),
    setting!(
        declare,
        |text| word(
            text,
            &[
                ("active", Declare::Active),
                ("queues", Declare::Queues),
                ("passive", Declare::Passive)
            ]
        ),
        debug,
        "`active`, `queues` or `passive`",
        |_: &Declare| true
    ),
    setting!(
        cloud_events,
        |text| word(text, &[("true", true), ("false", false)]),
        debug,
        "`true` or `false`",
        |_: &bool| true
    ),
    setting!(
        prefetch,
        number,
        debug,
        "a number from 2 to 65535 (with 1, two agents that ask each other would wait for ever)",
        |prefetch: &u16| *prefetch >= 2
    ),
    setting!(confirm_window, number, debug, "a number from 1 to 65535", |window: &u16| *window
        >= 1),
    setting!(publish_timeout, duration, debug, "a time from 1ms to 10m, as in `10s`", |time| {
        within(time, MS, 10 * MINUTE)
    }),
    setting!(connect_timeout, duration, debug, "a time from 1ms to 10m, as in `10s`", |time| {
        within(time, MS, 10 * MINUTE)
    }),
    setting!(request_timeout, duration, debug, "a time from 1ms to 30d, as in `30s`", |time| {
        within(time, MS, 30 * DAY)
    }),
    setting!(
        handler_timeout,
        optional_duration,
        |time: &Option<Duration>| time.map_or("none".to_owned(), |time| debug(&time)),
        "`none`, or a time from 1ms to 24h, as in `5m`",
        |time: &Option<Duration>| time.is_none_or(|time| within(&time, MS, DAY))
    ),
    setting!(shutdown_grace, duration, debug, "a time from 0s to 1h, as in `30s`", |time| {
        within(time, Duration::ZERO, HOUR)
    }),
    setting!(
        heartbeat,
        duration,
        debug,
        "whole seconds from 1s to 5m, as in `10s`",
        |time: &Duration| within(time, SECOND, 5 * MINUTE) && time.subsec_nanos() == 0
    ),
    setting!(
        max_message_bytes,
        bytes,
        debug,
        "a size from 1KiB to 128MiB, as in `16MiB`",
        |size| { (KIB..=128 * KIB * KIB).contains(size) }
    ),
    setting!(
        send_contract,
        |text| word(text, &[("true", true), ("false", false)]),
        debug,
        "`true` or `false`",
        |_: &bool| true
    ),
    setting!(max_pending_replies, number, debug, "a number from 1 to 10000000", |limit| {
        (1..=10_000_000_usize).contains(limit)
    }),
    setting!(max_conversations, number, debug, "a number from 1 to 10000000", |limit| {
        (1..=10_000_000_usize).contains(limit)
    }),
    setting!(conversation_ttl, duration, debug, "a time from 1s to 30d, as in `1h`", |time| {
        within(time, SECOND, 30 * DAY)
    }),
    setting!(max_queue_length, number, debug, "a number from 1 to 1000000000", |limit| {
        (1..=1_000_000_000_u64).contains(limit)
    }),
    setting!(
        priorities,
        |text| {
            let words = [
                ("off", Priorities::Off),
                ("strict", Priorities::Strict),
                ("lanes", Priorities::Lanes),
            ];
            word(text, &words)
        },
        debug,
        "`off`, `strict` or `lanes`",
        |_: &Priorities| true
    ),
    setting!(dead_letters.ttl, duration, debug, "a time from 1s to 45d, as in `24h`", |time| {
        within(time, SECOND, 45 * DAY)
    }),
    setting!(dead_letters.max_length, number, debug, "a number from 1 to 1000000000", |limit| {
        (1..=1_000_000_000_u64).contains(limit)
    }),
    setting!(
        dead_letters.max_bytes,
        bytes,
        debug,
        "a size from 1KiB to 1TiB, as in `1GiB`",
        |size| { (1 << 10..=1_u64 << 40).contains(size) }
    ),
    setting!(
        dead_letters.overflow,
        |text| word(text, &[("pause", Overflow::Pause), ("drop-oldest", Overflow::DropOldest)]),
        debug,
        "`pause` or `drop-oldest`",
        |_: &Overflow| true
    ),
    setting!(
        dead_letters.announce,
        |text| word(text, &[("true", true), ("false", false)]),
        debug,
        "`true` or `false`",
        |_: &bool| true
    ),
    setting!(
        discovery,
        |text| word(text, &[("true", true), ("false", false)]),
        debug,
        "`true` or `false`",
        |_: &bool| true
    ),
    setting!(replica_queue_expiry, duration, debug, "a time from 1s to 1d, as in `60s`", |time| {
        within(time, SECOND, DAY)
    }),
    setting!(reconnect.initial, duration, debug, "a time from 10ms to 60s, as in `1s`", |time| {
        within(time, 10 * MS, MINUTE)
    }),
    setting!(
        reconnect.refused_max,
        duration,
        debug,
        "a time from 10ms to 1h, as in `60s`",
        |time| { within(time, 10 * MS, HOUR) }
    ),
    setting!(
        reconnect.unreachable_max,
        duration,
        debug,
        "a time from 10ms to 1h, as in `2s`",
        |time| { within(time, 10 * MS, HOUR) }
    ),
    setting!(
        management_url,
        management_url,
        |url: &Option<ManagementUrl>| url.as_ref().map_or("none".to_owned(), ToString::to_string),
        "`none`, or an address such as `http://user:password@host:15672`",
        |_: &Option<ManagementUrl>| true
    ),
];

#[expect(clippy::option_option, reason = "no value is not the same as the value `none`")]
fn bus(text: &str) -> Option<Option<BusUrl>> {
    text.parse().ok().map(Some)
}

#[expect(clippy::option_option, reason = "no value is not the same as the value `none`")]
fn management_url(text: &str) -> Option<Option<ManagementUrl>> {
    if text.eq_ignore_ascii_case("none") { Some(None) } else { text.parse().ok().map(Some) }
}

fn within(time: &Duration, least: Duration, most: Duration) -> bool {
    (least..=most).contains(time)
}

fn debug<T: std::fmt::Debug>(value: &T) -> String {
    format!("{value:?}")
}

/// Whether `text` can be (part of) the name of an exchange or a queue.
fn is_name(text: &str, most: usize) -> bool {
    text.len() <= most
        && !text.starts_with("amq.")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn defaults_are_within_their_own_bounds() {
        for setting in SETTINGS {
            setting.validate(&Config::default()).expect(setting.key);
        }
    }

    #[test]
    fn defaults_read_back_as_they_are_shown() {
        for setting in SETTINGS {
            let mut config = Config::default();
            let shown = (setting.show)(&config).replace("DropOldest", "drop-oldest");
            setting.read(&mut config, setting.key, &shown).expect(setting.key);
            assert_eq!(
                (setting.show)(&config),
                (setting.show)(&Config::default()),
                "{}",
                setting.key
            );
        }
    }

    #[test]
    fn bounds_are_those_in_the_words() {
        let refused = [
            ("exchange", &["", "amq.topic", "a b", "a/b", "é"][..]),
            ("queue_prefix", &["amq.", "a b", "a*"]),
            ("declare", &["", "yes", "off"]),
            ("prefetch", &["0", "1", "65536", "-1", "many"]),
            ("confirm_window", &["0", "65536"]),
            ("publish_timeout", &["0s", "11m", "soon"]),
            ("request_timeout", &["0", "31d"]),
            ("handler_timeout", &["0s", "25h", "never"]),
            ("shutdown_grace", &["2h"]),
            ("heartbeat", &["0s", "500ms", "1.5s", "301s"]),
            ("max_message_bytes", &["1023", "129MiB"]),
            ("send_contract", &["yes", ""]),
            ("max_pending_replies", &["0"]),
            ("max_conversations", &["0"]),
            ("conversation_ttl", &["10ms", "31d"]),
            ("max_queue_length", &["0"]),
            ("priorities", &["", "on"]),
            ("dead_letters.ttl", &["0s", "46d"]),
            ("dead_letters.max_bytes", &["0", "2TiB"]),
            ("dead_letters.overflow", &["drop", ""]),
            ("dead_letters.announce", &["yes", ""]),
            ("replica_queue_expiry", &["0s"]),
            ("reconnect.initial", &["0s", "2m"]),
            ("management_url", &["", "rabbit"]),
            ("also_publish_to", &["", "rabbit", "memory:"]),
        ];
        for (key, values) in refused {
            let setting = Setting::of_key(key).expect(key);
            for value in values {
                let error = setting.read(&mut Config::default(), key, value).expect_err(value);
                let ConfigError::BadValue { name, value: shown, allowed } = error else {
                    panic!("another error: {error}");
                };
                assert_eq!(
                    (name.as_str(), shown.as_str(), allowed),
                    (key, *value, setting.allowed)
                );
            }
        }
    }

    #[test]
    fn long_exchange_names_leave_room_for_the_delay_topology() {
        let exchange = Setting::of_key("exchange").expect("a setting");
        let mut config = Config::default();
        exchange.read(&mut config, "exchange", &"x".repeat(127)).expect("127 bytes");
        assert!(format!("{}.delay.v1.undeliverable", config.exchange).len() <= 255);
        exchange.read(&mut config, "exchange", &"x".repeat(128)).expect_err("128 bytes");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), amount in "[0-9._]{0,30}(ms|s|m|h|d|kib|TiB)?") {
            for text in [text, amount] {
                for setting in SETTINGS {
                    let _ = setting.read(&mut Config::default(), setting.key, &text);
                }
            }
        }
    }
}
