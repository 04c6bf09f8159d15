//! What can be wrong with a configuration.

use super::BusUrlError;
use std::path::PathBuf;

/// Why a configuration was not taken. No variant holds or shows a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value that is not one, or out of bounds.
    #[error("`{name}` is `{value}`; allowed: {allowed}")]
    BadValue {
        /// The variable, the key with its file and line, or the field.
        name: String,
        /// The value, shortened where it is long.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// An address that does not parse. It is not shown, as nobody knows which part of it is the password.
    #[error("`{name}` is not the address of a bus: {reason}")]
    BadUrl {
        /// The variable, or the key with its file and line.
        name: String,
        /// What is wrong with it.
        reason: BusUrlError,
    },
    /// Two variables that say different things.
    #[error(
        "`{first}` is `{first_value}`, but `{second}` is `{second_value}`: unset one, or make them agree"
    )]
    Conflict {
        /// One of them.
        first: &'static str,
        /// Its value, passwords masked.
        first_value: String,
        /// The other.
        second: &'static str,
        /// Its value, passwords masked.
        second_value: String,
    },
    /// A key of the file that agentbus does not know.
    #[error("`{file}` line {line}: unknown key `{key}`{}", .nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, with the tables it is in.
        key: String,
        /// The key it may have been meant to be.
        nearest: Option<String>,
    },
    /// The file is not TOML.
    #[error("`{file}` line {line}, column {column}: {message}")]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, in characters from 1.
        column: usize,
        /// What is wrong; never the text of the line, which may hold a password.
        message: String,
    },
    /// The file could not be read.
    #[error("cannot read the configuration `{file}`")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A variable whose value is not UTF-8.
    #[error("`{name}` is not UTF-8")]
    NotUnicode {
        /// The variable.
        name: String,
    },
    /// An address that takes TLS, in a build without it. Connecting in clear text instead would give the password away.
    #[error(
        "`{scheme}://` takes TLS, which this build lacks: build agentbus with its feature `tls`"
    )]
    TlsUnavailable {
        /// `amqps` or `rediss`.
        scheme: &'static str,
    },
}

impl ConfigError {
    pub(super) fn bad_value(name: &str, value: &str, allowed: &'static str) -> Self {
        Self::BadValue { name: name.to_owned(), value: shown(value), allowed }
    }

    pub(super) fn bad_url(name: &str, reason: BusUrlError) -> Self {
        Self::BadUrl { name: name.to_owned(), reason }
    }
}

/// Returns a value as errors show it: shortened, without control characters, and without what may be an address with a
/// password that got into the wrong variable.
pub(super) fn shown(value: &str) -> String {
    const MOST: usize = 80;
    if value.contains("://") || value.contains('@') {
        return "***".to_owned();
    }
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut shown: String = value.chars().take(MOST).map(clean).collect();
    if value.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shortened_and_cleaned() {
        assert_eq!(shown("many"), "many");
        assert_eq!(shown("a\u{1b}[31m\nb"), "a\u{fffd}[31m\u{fffd}b");
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), 81);
    }

    #[test]
    fn address_in_the_wrong_place_is_not_shown() {
        assert_eq!(shown("amqp://user:secret@host/v"), "***");
        assert_eq!(shown("user:secret@host"), "***");
    }

    /// Names every variant, so that a new one does not compile before it has a case below.
    fn kind(error: &ConfigError) -> usize {
        match error {
            ConfigError::BadValue { .. } => 0,
            ConfigError::BadUrl { .. } => 1,
            ConfigError::Conflict { .. } => 2,
            ConfigError::UnknownKey { .. } => 3,
            ConfigError::Syntax { .. } => 4,
            ConfigError::Read { .. } => 5,
            ConfigError::NotUnicode { .. } => 6,
            ConfigError::TlsUnavailable { .. } => 7,
        }
    }

    #[test]
    fn no_error_shows_a_password() {
        use crate::config::{BusUrl, Config};

        let vars =
            |vars: &[(&str, &str)]| Config::from_vars(vars.iter().copied()).expect_err("an error");
        let file = |text: &str| {
            let mut config = Config::default();
            crate::config::file::read_text(&mut config, "agentbus.toml".as_ref(), text)
                .expect_err("an error")
        };
        let mut errors = vec![
            vars(&[("AGENTBUS_EXCHANGE", "amqp://u:SECRET@h")]),
            vars(&[("RABBITMQ_PORT", "amqp://u:SECRET@h")]),
            vars(&[("RABBITMQ_HOST", "amqp://u:SECRET@h")]),
            vars(&[("RABBITMQ_HOST", "u:SECRET@h")]),
            vars(&[("QUEUE_PROVIDER", "amqp://u:SECRET@h")]),
            vars(&[("RABBITMQ_PASSWORD", "SECRET"), ("RABBITMQ__PASSWORD", "SECRET2")]),
            vars(&[("RABBITMQ_URL", "amqp://u:SECRET@h"), ("RABBITMQ_PASSWORD", "SECRET2")]),
            vars(&[("RABBITMQ_URL", "amqp://u:SECRET@h"), ("AGENTBUS_URL", "amqp://u:SECRET2@h")]),
            vars(&[("RABBITMQ_URL", "amqp://u:SECRET@h"), ("AGENTBUS_URL", "memory:")]),
            file("'amqp://u:SECRET@h' = 1"),
            file("bus.url = amqp://u:SECRET@h"),
            file("bus.url = 'amqp://u:SECRET@h"),
            file("bus.url = 'amqp://u:SECRET@h\\q'\nbus.url = 'amqp://u:SECRET@h'"),
            file("bus = 'amqp://u:SECRET@h'"),
            file("exchange = 'amqp://u:SECRET@h'"),
            Config::from_file("no/such/file.toml").expect_err("an error"),
            ConfigError::NotUnicode { name: "RABBITMQ_PASSWORD".into() },
            ConfigError::TlsUnavailable { scheme: "amqps" },
        ];
        for url in [
            "u:SECRET@h",
            "SECRET",
            "rabbit://u:SECRET@h",
            "amqp://u:SEC/SECRET@h",
            "amqp://u:?SECRET@h",
            "amqp://u:#SECRET",
            "amqp://u:SECRET",
            "amqp://u:%SECRET@h",
            "amqp://u:SECRET@h:port",
            "amqp://u:SECRET@",
            "amqp://u:SECRET@h?SECRET=1",
            "amqp://u:SECRET@h?heartbeat=SECRET",
            "amqp://u:SECRET@h,amqp://u:SECRET2@h",
            "amqp://u:SECRET@h,amqps://u:SECRET@h",
            "redis://:SECRET@h/SECRET",
            "redis+sentinel://:SECRET@h",
            "redis+sentinel://h/m?sentinel_password=SECRET&SECRET=1",
            "memory:/SECRET@h",
        ] {
            errors.push(vars(&[("AGENTBUS_URL", url)]));
            errors.push(file(&format!("bus.url = '{url}'")));
        }
        let mut kinds = [false; 8];
        for error in errors {
            kinds[kind(&error)] = true;
            let text = format!("{error} {error:?} {error:#?}");
            assert!(!text.contains("SECRET"), "{text}");
        }
        assert_eq!(kinds, [true; 8], "every variant is tried");

        let bus: BusUrl = "amqp://u:SECRET@h/v".parse().expect("an address");
        let config = Config::default().with_bus(bus);
        assert!(!format!("{config:?} {config:#?} {}", config.bus).contains("SECRET"));
    }
}
