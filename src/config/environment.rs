//! The variables of the environment, and the settings among them.

use super::nearest::nearest;
use super::rabbitmq_parts::Parts;
use super::redis_parts;
use super::setting::SETTINGS;
use super::{Config, ConfigError, chosen_bus};
use std::collections::BTreeMap;

const CONFIG_FILE: &str = "AGENTBUS_CONFIG";

/// The variables that matter here and are not empty.
#[derive(Clone, Default)]
pub(super) struct Variables(BTreeMap<String, String>);

/// A variable that looks like ours and is not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) variable: String,
    pub(super) nearest: Option<String>,
}

/// Reads the process's variables.
pub(super) fn of_process() -> Result<Variables, ConfigError> {
    let mut vars = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| is_relevant(name)) else { continue };
        match value.into_string() {
            Ok(value) => vars.push((name.to_owned(), value)),
            Err(_) => return Err(ConfigError::NotUnicode { name: name.to_owned() }),
        }
    }
    Ok(Variables::new(vars))
}

fn is_relevant(name: &str) -> bool {
    name.starts_with("AGENTBUS_")
        || chosen_bus::VARIABLES.contains(&name)
        || redis_parts::VARIABLES.contains(&name)
        || Parts::are_in(name)
}

impl Variables {
    pub(super) fn new<K: Into<String>, V: Into<String>>(
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let vars = vars.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self(vars.filter(|(_, value)| !value.trim().is_empty()).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns the file to read first.
    pub(super) fn config_file(&self) -> Option<&str> {
        self.get(CONFIG_FILE)
    }

    pub(super) fn without_config_file(mut self) -> Self {
        self.0.remove(CONFIG_FILE);
        self
    }

    /// Reads every `AGENTBUS_…` but the address into `config`, and returns those that are unknown.
    pub(super) fn read_settings(&self, config: &mut Config) -> Result<Vec<Unknown>, ConfigError> {
        let names: Vec<_> = SETTINGS.iter().map(|setting| (setting.variable(), setting)).collect();
        let mut unknown = Vec::new();
        for (variable, value) in self.0.iter().filter(|(name, _)| name.starts_with("AGENTBUS_")) {
            if let Some((_, setting)) = names.iter().find(|(name, _)| name == variable) {
                setting.read(config, variable, value)?;
            } else if ![chosen_bus::OWN_URL, CONFIG_FILE].contains(&variable.as_str()) {
                let known = names.iter().map(|(name, _)| name.clone());
                let known = known.chain([chosen_bus::OWN_URL.to_owned(), CONFIG_FILE.to_owned()]);
                unknown.push(Unknown {
                    variable: variable.clone(),
                    nearest: nearest(variable, known),
                });
            }
        }
        Ok(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BusUrl;
    use std::time::Duration;

    #[test]
    fn every_setting_has_a_variable() {
        let config = Config::from_vars([
            ("AGENTBUS_EXCHANGE", "stage7"),
            ("AGENTBUS_PREFETCH", " 8 "),
            ("AGENTBUS_PUBLISH_TIMEOUT", "250ms"),
            ("AGENTBUS_DEAD_LETTERS_MAX_BYTES", "2GiB"),
        ])
        .expect("a configuration");
        assert_eq!(config.exchange, "stage7");
        assert_eq!(config.prefetch, 8);
        assert_eq!(config.publish_timeout, Duration::from_millis(250));
        assert_eq!(config.dead_letters.max_bytes, 2 << 30);
    }

    #[test]
    fn bad_value_names_the_variable_the_value_and_what_is_allowed() {
        let error = Config::from_vars([("AGENTBUS_DECLARE", "maybe")]).expect_err("a bad value");
        assert_eq!(
            error.to_string(),
            "`AGENTBUS_DECLARE` is `maybe`; allowed: `active`, `queues` or `passive`"
        );
    }

    #[test]
    fn unknown_variable_of_ours_is_a_warning_with_the_nearest_name() {
        let vars = [
            ("AGENTBUS_PREFECH", "8"),
            ("AGENTBUS_SOMETHING_ELSE_ENTIRELY", "x"),
            ("AGENTBUS_MANAGEMENT_URL", "http://u:p@h"),
            ("AGENTBUS_URL", "memory:"),
        ];
        let unknown = Variables::new(vars).read_settings(&mut Config::default()).expect("warnings");
        let unknown: Vec<_> = unknown.into_iter().map(|u| (u.variable, u.nearest)).collect();
        assert_eq!(
            unknown,
            [
                ("AGENTBUS_PREFECH".to_owned(), Some("AGENTBUS_PREFETCH".to_owned())),
                ("AGENTBUS_SOMETHING_ELSE_ENTIRELY".to_owned(), None),
            ]
        );
    }

    #[test]
    fn named_bus_wins_over_addresses_that_contradict_each_other() {
        let vars = Variables::new([
            ("AGENTBUS_URL", "amqp://h1"),
            ("RABBITMQ_URL", "amqp://h2"),
            ("AGENTBUS_PREFETCH", "8"),
        ]);
        let config = Config::load_from(vars, Some(BusUrl::default())).expect("a configuration");
        assert_eq!((config.bus, config.prefetch), (BusUrl::default(), 8));
    }
}
