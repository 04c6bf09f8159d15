//! A Redis address in parts, as many deployments keep it: `REDIS_HOST`, `REDIS_PORT`, `REDIS_PASSWORD`, `REDIS_DB`.
//!
//! They never select Redis, as `REDIS_URL` does not: they may well be there for a cache.

use super::address::{Secret, parse_host, parse_port};
use super::environment::Variables;
use super::{ConfigError, RedisUrl};

const HOST: &str = "REDIS_HOST";
const PORT: &str = "REDIS_PORT";
const PASSWORD: &str = "REDIS_PASSWORD";
const DB: &str = "REDIS_DB";

pub(super) const VARIABLES: [&str; 4] = [HOST, PORT, PASSWORD, DB];

/// The parts that are set.
#[derive(Debug, Default)]
pub(super) struct RedisParts {
    host: Option<String>,
    port: Option<u16>,
    password: Option<Secret>,
    database: Option<u16>,
}

impl RedisParts {
    pub(super) fn read(vars: &Variables) -> Result<Self, ConfigError> {
        let bad = |name, text, allowed| ConfigError::bad_value(name, text, allowed);
        let host = vars.get(HOST).map(|text| {
            let allowed = "a host name, an IPv4 address, or an IPv6 address in brackets";
            parse_host(text.trim()).map_err(|_| bad(HOST, text, allowed))
        });
        // Kubernetes sets this for every service named `redis`, as `tcp://10.0.0.1:6379`.
        let port = vars.get(PORT).filter(|text| !text.starts_with("tcp://")).map(|text| {
            parse_port(text.trim()).ok_or_else(|| bad(PORT, text, "a number from 1 to 65535"))
        });
        let database = vars.get(DB).map(|text| {
            text.trim().parse().map_err(|_| bad(DB, text, "the number of a database, from 0 on"))
        });
        Ok(Self {
            host: host.transpose()?,
            port: port.transpose()?,
            password: vars.get(PASSWORD).map(Secret::new),
            database: database.transpose()?,
        })
    }

    /// Fills what `url` leaves out; what it says must agree. `name` is where it comes from.
    pub(super) fn complete(
        &self,
        name: &'static str,
        url: &mut RedisUrl,
    ) -> Result<(), ConfigError> {
        let conflict = |second: &'static str, second_value: String| ConfigError::Conflict {
            first: name,
            first_value: url.to_string(),
            second,
            second_value,
        };
        let address = url.address();
        if let Some(host) = &self.host
            && !matches!(&address.servers[..], [server] if server.host == *host)
        {
            return Err(conflict(HOST, super::error::shown(host)));
        }
        if let Some(port) = self.port
            && address.servers.iter().any(|server| server.port.is_some_and(|said| said != port))
        {
            return Err(conflict(PORT, port.to_string()));
        }
        if let Some(password) = &self.password
            && address.password.as_ref().is_some_and(|said| said != password)
        {
            return Err(conflict(PASSWORD, "***".to_owned()));
        }
        if let Some(database) = self.database
            && url.stated_database().is_some_and(|said| said != database)
        {
            return Err(conflict(DB, database.to_string()));
        }
        self.replace(url);
        Ok(())
    }

    /// Replaces what `url` says by the parts.
    pub(super) fn replace(&self, url: &mut RedisUrl) {
        let address = url.address_mut();
        if let Some(host) = &self.host {
            address.servers.truncate(1);
            address.servers[0].host.clone_from(host);
        }
        if let Some(port) = self.port {
            address.servers.iter_mut().for_each(|server| server.port = Some(port));
        }
        if let Some(password) = &self.password {
            address.password = Some(password.clone());
        }
        if let Some(database) = self.database {
            url.set_database(database);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{BusUrl, Config, ConfigError};

    fn bus(vars: &[(&str, &str)]) -> Result<BusUrl, ConfigError> {
        Config::from_vars(vars.iter().copied()).map(|config| config.bus)
    }

    #[track_caller]
    fn leads_to(vars: &[(&str, &str)], url: &str) {
        assert_eq!(bus(vars).expect("a bus"), url.parse().expect("an address"));
    }

    const REDIS: (&str, &str) = ("QUEUE_PROVIDER", "redis");

    #[test]
    fn parts_make_an_address_where_redis_was_chosen() {
        let parts = [
            ("REDIS_HOST", "cache"),
            ("REDIS_PORT", "6380"),
            ("REDIS_PASSWORD", "p@ss/w%rd"),
            ("REDIS_DB", "3"),
        ];
        leads_to(&[&parts[..], &[REDIS]].concat(), "redis://:p%40ss%2Fw%25rd@cache:6380/3");
        leads_to(&[REDIS, ("REDIS_DB", "1")], "redis://localhost/1");
        // They may be there for a cache.
        leads_to(&parts, "memory:");
    }

    #[test]
    fn parts_fill_what_an_address_leaves_out_and_must_agree_with_the_rest() {
        for url in ["REDIS_URL", "AGENTBUS_URL"] {
            let filled =
                [REDIS, (url, "redis://cache"), ("REDIS_PASSWORD", "p"), ("REDIS_DB", "2")];
            leads_to(&filled, "redis://:p@cache/2");
            for (name, value) in [
                ("REDIS_HOST", "other"),
                ("REDIS_PORT", "1"),
                ("REDIS_PASSWORD", "SECRET"),
                ("REDIS_DB", "4"),
            ] {
                let stated = (url, "redis://:SECRET2@cache:6379/3");
                match bus(&[REDIS, stated, (name, value)]) {
                    Err(error @ ConfigError::Conflict { first, second, .. }) => {
                        assert_eq!([first, second], [url, name]);
                        assert!(!error.to_string().contains("SECRET"), "{error}");
                    }
                    other => panic!("no conflict: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn port_that_kubernetes_sets_for_a_service_is_ignored() {
        leads_to(&[REDIS, ("REDIS_PORT", "tcp://10.0.0.1:6379")], "redis://localhost");
    }

    #[test]
    fn bad_part_names_the_variable_and_what_is_allowed() {
        for (name, value) in [("REDIS_PORT", "0"), ("REDIS_DB", "first"), ("REDIS_HOST", "a b")] {
            let error = bus(&[REDIS, (name, value)]).expect_err("a bad part");
            assert!(error.to_string().starts_with(&format!("`{name}` is `{value}`; allowed: ")));
        }
    }
}
