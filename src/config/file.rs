//! The configuration file: TOML, read key by key so that every error names its line.

use super::nearest::nearest;
use super::setting::{SETTINGS, Setting};
use super::{BusUrl, Config, ConfigError};
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const BUS_URL: &str = "bus.url";

/// Reads the file over `config`.
pub(super) fn read(config: &mut Config, path: &Path) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { file: path.to_owned(), source })?;
    read_text(config, path, &text)
}

/// Reads `text`, the content of the file at `path`, over `config`.
pub(super) fn read_text(config: &mut Config, path: &Path, text: &str) -> Result<(), ConfigError> {
    File { path, text }.read(config)
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn read(&self, config: &mut Config) -> Result<(), ConfigError> {
        let document = DeTable::parse(self.text).map_err(|error| {
            // Not the error's own `Display`: it quotes the line.
            let (line, column) = self.position(error.span().map_or(0, |span| span.start));
            let message = error.message().to_owned();
            ConfigError::Syntax { file: self.path.to_owned(), line, column, message }
        })?;
        self.read_table(config, "", document.get_ref())
    }

    fn read_table(
        &self,
        config: &mut Config,
        within: &str,
        table: &DeTable<'_>,
    ) -> Result<(), ConfigError> {
        for (key, value) in table {
            let (line, _) = self.position(key.span().start);
            let path = format!("{within}{}", key.get_ref());
            let name = || format!("{path} ({}:{line})", self.path.display());
            if path == BUS_URL {
                config.bus = read_bus(&name(), value)?;
            } else if let Some(setting) = Setting::of_key(&path) {
                let Some(text) = scalar(value.get_ref()) else {
                    return Err(ConfigError::bad_value(
                        &name(),
                        &format!("a TOML {}", value.get_ref().type_str()),
                        setting.allowed,
                    ));
                };
                setting.read(config, &name(), &text)?;
            } else {
                let tables = || keys().any(|known| known.starts_with(&format!("{path}.")));
                match value.get_ref() {
                    DeValue::Table(inner) if tables() => {
                        self.read_table(config, &format!("{path}."), inner)?;
                    }
                    _ => return Err(self.unknown(line, &path)),
                }
            }
        }
        Ok(())
    }

    fn unknown(&self, line: usize, key: &str) -> ConfigError {
        // `bus = "…"` is not near `bus.url` in letters.
        let start =
            || keys().find(|known| known.starts_with(&format!("{key}."))).map(str::to_owned);
        ConfigError::UnknownKey {
            file: self.path.to_owned(),
            line,
            key: super::error::shown(key),
            nearest: nearest(key, keys().map(str::to_owned)).or_else(start),
        }
    }

    /// Returns line and column, both from 1.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |start| start.chars().count()) + 1;
        (line, column)
    }
}

fn keys() -> impl Iterator<Item = &'static str> {
    std::iter::once(BUS_URL).chain(SETTINGS.iter().map(|setting| setting.key))
}

fn read_bus(name: &str, value: &Spanned<DeValue<'_>>) -> Result<BusUrl, ConfigError> {
    let urls = match value.get_ref() {
        DeValue::String(url) => Some(vec![url.as_ref()]),
        DeValue::Array(list) => list.iter().map(|item| item.get_ref().as_str()).collect(),
        _ => None,
    };
    let Some(urls) = urls else {
        let shown = format!("a TOML {}", value.get_ref().type_str());
        return Err(ConfigError::bad_value(
            name,
            &shown,
            "an address in quotes, or a list of them",
        ));
    };
    BusUrl::from_list(urls).map_err(|reason| ConfigError::bad_url(name, reason))
}

/// Returns a value as it would be written in the environment.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Declare, Overflow};
    use std::time::Duration;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        read_text(&mut config, Path::new("agentbus.toml"), text)?;
        Ok(config)
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let config = parse(
            r#"
            exchange = "stage7"
            prefetch = 1_000
            declare = "passive"
            publish_timeout = 2.5
            request_timeout = "1m"
            handler_timeout = "none"
            max_message_bytes = "1MiB"

            [bus]
            url = "amqp://app:secret@rabbit/prod"

            [dead_letters]
            ttl = "48h"
            overflow = "drop-oldest"

            [reconnect]
            unreachable_max = "5s"
            "#,
        )
        .expect("a configuration");
        assert_eq!(config.bus, "amqp://app:secret@rabbit/prod".parse().expect("an address"));
        assert_eq!(config.exchange, "stage7");
        assert_eq!(config.prefetch, 1000);
        assert_eq!(config.declare, Declare::Passive);
        assert_eq!(config.publish_timeout, Duration::from_millis(2500));
        assert_eq!(config.request_timeout, Duration::from_mins(1));
        assert_eq!(config.max_message_bytes, 1 << 20);
        assert_eq!(config.dead_letters.ttl, Duration::from_hours(48));
        assert_eq!(config.dead_letters.overflow, Overflow::DropOldest);
        assert_eq!(config.reconnect.unreachable_max, Duration::from_secs(5));
    }

    #[test]
    fn bus_may_be_a_list() {
        let config =
            parse(r#"bus.url = ["amqp://u:p@h1/v", "amqp://h2"]"#).expect("a configuration");
        assert_eq!(config.bus, "amqp://u:p@h1,h2/v".parse().expect("an address"));
    }

    #[test]
    fn empty_file_is_the_defaults() {
        assert_eq!(parse("").expect("a configuration"), Config::default());
    }

    #[test]
    fn unknown_key_names_file_line_and_the_nearest_key() {
        let error = parse("exchange = \"e\"\nprefech = 3\n").expect_err("an unknown key");
        assert_eq!(
            error.to_string(),
            "`agentbus.toml` line 2: unknown key `prefech`; did you mean `prefetch`?"
        );
        let error = parse("[dead_letters]\nmax_lenght = 3").expect_err("an unknown key");
        assert!(error.to_string().ends_with("did you mean `dead_letters.max_length`?"), "{error}");
        let error = parse("bus = \"memory:\"").expect_err("an unknown key");
        assert!(error.to_string().ends_with("did you mean `bus.url`?"), "{error}");
        assert!(matches!(
            parse("[other]\na = 1"),
            Err(ConfigError::UnknownKey { nearest: None, .. })
        ));
    }

    #[test]
    fn bad_value_names_key_file_line_and_what_is_allowed() {
        let error = parse("\n\nprefetch = 1").expect_err("a bad value").to_string();
        assert!(
            error.starts_with("`prefetch (agentbus.toml:3)` is `1`; allowed: a number from 2"),
            "{error}"
        );
        for text in
            ["prefetch = -1", "prefetch = 0x2", "prefetch = [2]", "prefetch = true", "bus.url = 5"]
        {
            assert!(matches!(parse(text), Err(ConfigError::BadValue { .. })), "{text}");
        }
    }

    #[test]
    fn syntax_error_names_the_place_and_does_not_quote_the_line() {
        let error =
            parse("prefetch = 3\nbus.url = amqp://app:secret@rabbit\n").expect_err("no TOML");
        assert!(matches!(error, ConfigError::Syntax { line: 2, .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }

    #[test]
    fn bad_address_names_the_place_and_does_not_show_it() {
        let error = parse("bus.url = \"amqp://app:sec/ret@rabbit\"").expect_err("a bad address");
        assert!(matches!(error, ConfigError::BadUrl { .. }));
        let text = format!("{error} {error:?}");
        assert!(text.contains("agentbus.toml:1") && !text.contains("ret@"), "{text}");
    }

    #[test]
    fn missing_file_is_named() {
        let error = Config::from_file("no/such/agentbus.toml").expect_err("no file");
        assert!(error.to_string().contains("no/such/agentbus.toml"), "{error}");
    }
}
