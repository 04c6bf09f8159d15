//! A RabbitMQ address in parts, as many deployments keep it: `RABBITMQ__HOST`, `RABBITMQ_PORT` and so on.

use super::address::{Secret, parse_host, parse_port};
use super::environment::Variables;
use super::{AmqpUrl, ConfigError};

/// A part of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Host,
    Port,
    Username,
    Password,
    Vhost,
}

const PARTS: [(Part, [&str; 2]); 5] = [
    (Part::Host, ["RABBITMQ__HOST", "RABBITMQ_HOST"]),
    (Part::Port, ["RABBITMQ__PORT", "RABBITMQ_PORT"]),
    (Part::Username, ["RABBITMQ__USERNAME", "RABBITMQ_USERNAME"]),
    (Part::Password, ["RABBITMQ__PASSWORD", "RABBITMQ_PASSWORD"]),
    (Part::Vhost, ["RABBITMQ__VHOST", "RABBITMQ_VHOST"]),
];
const DEFAULT_USER: &str = "RABBITMQ_DEFAULT_USER";
const DEFAULT_PASS: &str = "RABBITMQ_DEFAULT_PASS";
const DEFAULT_VHOST: &str = "RABBITMQ_DEFAULT_VHOST";

/// What a part says, from the variable of that name.
#[derive(Clone, Debug)]
struct Said {
    part: Part,
    name: &'static str,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Port(u16),
    Password(Secret),
}

impl Value {
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => super::error::shown(text),
            Self::Port(port) => port.to_string(),
            Self::Password(_) => "***".to_owned(),
        }
    }
}

/// The parts that are set, and what the broker was set up with.
#[derive(Debug, Default)]
pub(super) struct Parts {
    said: Vec<Said>,
    default_user: Option<String>,
    default_password: Option<Secret>,
    default_vhost: Option<String>,
}

impl Parts {
    /// Returns whether a variable of this name is read here.
    pub(super) fn are_in(name: &str) -> bool {
        PARTS.iter().any(|(_, names)| names.contains(&name))
            || [DEFAULT_USER, DEFAULT_PASS, DEFAULT_VHOST].contains(&name)
    }

    /// Reads the parts; two names of one part must agree.
    pub(super) fn read(vars: &Variables) -> Result<Self, ConfigError> {
        let mut said: Vec<Said> = Vec::new();
        for (part, names) in PARTS {
            let mut first: Option<Said> = None;
            for name in names {
                let Some(text) = vars.get(name) else { continue };
                // Kubernetes sets this for every service named `rabbitmq`, as `tcp://10.0.0.1:5672`.
                if name == "RABBITMQ_PORT" && text.starts_with("tcp://") {
                    continue;
                }
                let next = Said { part, name, value: part.parse(name, text)? };
                match first {
                    Some(first) if first.value != next.value => {
                        return Err(first.conflict_with(&next));
                    }
                    Some(_) => {}
                    None => first = Some(next),
                }
            }
            said.extend(first);
        }
        let own = |name| vars.get(name).map(str::to_owned);
        Ok(Self {
            said,
            default_user: own(DEFAULT_USER),
            default_password: own(DEFAULT_PASS).map(Secret::new),
            default_vhost: own(DEFAULT_VHOST),
        })
    }

    /// Returns the names and values that are set, passwords masked.
    pub(super) fn shown(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.said.iter().map(|said| (said.name, said.value.shown()))
    }

    /// Fills what `url` leaves out; what it says must agree. `name` is where it comes from.
    pub(super) fn complete(
        &self,
        name: &'static str,
        url: &mut AmqpUrl,
    ) -> Result<(), ConfigError> {
        for said in &self.said {
            if !said.agrees_with(url) {
                return Err(ConfigError::Conflict {
                    first: name,
                    first_value: url.to_string(),
                    second: said.name,
                    second_value: said.value.shown(),
                });
            }
        }
        self.replace(url);
        Ok(())
    }

    /// Replaces what `url` says by the parts.
    pub(super) fn replace(&self, url: &mut AmqpUrl) {
        let address = url.address_mut();
        for said in &self.said {
            match (said.part, &said.value) {
                (Part::Username, Value::Text(user)) => address.username = Some(user.clone()),
                (Part::Vhost, Value::Text(vhost)) => address.path = Some(vhost.clone()),
                (_, Value::Text(host)) => {
                    address.servers.truncate(1);
                    address.servers[0].host.clone_from(host);
                }
                (_, Value::Port(port)) => {
                    address.servers.iter_mut().for_each(|server| server.port = Some(*port));
                }
                (_, Value::Password(password)) => address.password = Some(password.clone()),
            }
        }
    }

    /// Fills what is still left out from what the broker was set up with.
    pub(super) fn fill_defaults(&self, url: &mut AmqpUrl) {
        let address = url.address_mut();
        if address.username.is_none() && address.password.is_none() {
            address.username.clone_from(&self.default_user);
            address.password.clone_from(&self.default_password);
        }
        if address.path.is_none() {
            address.path.clone_from(&self.default_vhost);
        }
    }
}

impl Part {
    fn parse(self, name: &str, text: &str) -> Result<Value, ConfigError> {
        let bad = |allowed| ConfigError::bad_value(name, text, allowed);
        match self {
            Self::Host => parse_host(text.trim())
                .map(Value::Text)
                .map_err(|_| bad("a host name, an IPv4 address, or an IPv6 address in brackets")),
            Self::Port => parse_port(text.trim())
                .map(Value::Port)
                .ok_or_else(|| bad("a number from 1 to 65535")),
            Self::Username | Self::Vhost => Ok(Value::Text(text.to_owned())),
            Self::Password => Ok(Value::Password(Secret::new(text))),
        }
    }
}

impl Said {
    fn conflict_with(&self, other: &Self) -> ConfigError {
        ConfigError::Conflict {
            first: self.name,
            first_value: self.value.shown(),
            second: other.name,
            second_value: other.value.shown(),
        }
    }

    /// Returns whether `url` says the same, or leaves it out.
    fn agrees_with(&self, url: &AmqpUrl) -> bool {
        let address = url.address();
        match (self.part, &self.value) {
            (Part::Username, Value::Text(user)) => {
                address.username.as_ref().is_none_or(|said| said == user)
            }
            (Part::Vhost, Value::Text(vhost)) => {
                address.path.as_ref().is_none_or(|said| said == vhost)
            }
            (_, Value::Text(host)) => {
                matches!(&address.servers[..], [server] if server.host == *host)
            }
            (_, Value::Port(port)) => {
                address.servers.iter().all(|server| server.port.is_none_or(|said| said == *port))
            }
            (_, Value::Password(password)) => {
                address.password.as_ref().is_none_or(|said| said == password)
            }
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

    #[track_caller]
    fn conflict(vars: &[(&str, &str)], between: [&str; 2]) -> String {
        match bus(vars) {
            Err(error @ ConfigError::Conflict { first, second, .. }) => {
                assert_eq!([first, second], between);
                error.to_string()
            }
            other => panic!("no conflict: {other:?}"),
        }
    }

    #[test]
    fn parts_alone_select_rabbitmq_with_one_underscore_or_two() {
        for dash in ["_", "__"] {
            let names: Vec<String> = ["HOST", "PORT", "USERNAME", "PASSWORD", "VHOST"]
                .iter()
                .map(|part| format!("RABBITMQ{dash}{part}"))
                .collect();
            let values = ["rabbit", "5673", "app", "p@ss/w%rd", "my/host"];
            let vars: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
            leads_to(&vars, "amqp://app:p%40ss%2Fw%25rd@rabbit:5673/my%2Fhost");
        }
    }

    #[test]
    fn single_part_leaves_the_rest_at_its_default() {
        leads_to(&[("RABBITMQ__HOST", "rabbit")], "amqp://guest:guest@rabbit:5672/");
        leads_to(&[("RABBITMQ_VHOST", "/")], "amqp://guest:guest@localhost:5672/");
    }

    #[test]
    fn two_names_of_one_part_must_agree() {
        leads_to(&[("RABBITMQ__HOST", "rabbit"), ("RABBITMQ_HOST", "Rabbit")], "amqp://rabbit");
        leads_to(
            &[("RABBITMQ__PORT", "5673"), ("RABBITMQ_PORT", "05673")],
            "amqp://localhost:5673",
        );
        let vars = [("RABBITMQ__HOST", "a"), ("RABBITMQ_HOST", "b")];
        assert_eq!(
            conflict(&vars, ["RABBITMQ__HOST", "RABBITMQ_HOST"]),
            "`RABBITMQ__HOST` is `a`, but `RABBITMQ_HOST` is `b`: unset one, or make them agree"
        );
    }

    #[test]
    fn passwords_that_disagree_are_named_and_not_shown() {
        let vars = [("RABBITMQ__PASSWORD", "secret-one"), ("RABBITMQ_PASSWORD", "secret-two")];
        let text = conflict(&vars, ["RABBITMQ__PASSWORD", "RABBITMQ_PASSWORD"]);
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn parts_must_agree_with_what_an_address_says() {
        for (name, value) in [
            ("RABBITMQ_HOST", "other"),
            ("RABBITMQ_PORT", "5674"),
            ("RABBITMQ_USERNAME", "other"),
            ("RABBITMQ_PASSWORD", "other"),
            ("RABBITMQ_VHOST", "other"),
        ] {
            for url in ["RABBITMQ_URL", "AGENTBUS_URL"] {
                conflict(&[(url, "amqp://u:p@h:5673/v"), (name, value)], [url, name]);
            }
        }
        leads_to(
            &[
                ("RABBITMQ_URL", "amqp://u:p@h:5673/v"),
                ("RABBITMQ_HOST", "h"),
                ("RABBITMQ_PASSWORD", "p"),
            ],
            "amqp://u:p@h:5673/v",
        );
        conflict(
            &[("RABBITMQ_URL", "amqp://h1,h2"), ("RABBITMQ_HOST", "h1")],
            ["RABBITMQ_URL", "RABBITMQ_HOST"],
        );
    }

    #[test]
    fn parts_fill_what_an_address_leaves_out() {
        leads_to(
            &[
                ("RABBITMQ_URL", "amqp://app@h1,h2"),
                ("RABBITMQ_PASSWORD", "p"),
                ("RABBITMQ_VHOST", "v"),
            ],
            "amqp://app:p@h1,h2/v",
        );
    }

    #[test]
    fn what_the_broker_was_set_up_with_fills_gaps_and_never_selects_or_contradicts() {
        let defaults = [
            ("RABBITMQ_DEFAULT_USER", "stage7"),
            ("RABBITMQ_DEFAULT_PASS", "p"),
            ("RABBITMQ_DEFAULT_VHOST", "v"),
        ];
        let with = |more: &[(&'static str, &'static str)]| [&defaults[..], more].concat();
        leads_to(&with(&[]), "memory:");
        leads_to(&with(&[("QUEUE_PROVIDER", "rabbitmq")]), "amqp://stage7:p@localhost/v");
        leads_to(&with(&[("RABBITMQ_URL", "amqp://rabbit")]), "amqp://stage7:p@rabbit/v");
        leads_to(&with(&[("RABBITMQ_URL", "amqp://u:q@rabbit/w")]), "amqp://u:q@rabbit/w");
        leads_to(&with(&[("AGENTBUS_URL", "memory:")]), "memory:");
    }

    #[test]
    fn port_that_kubernetes_sets_for_a_service_is_ignored() {
        leads_to(&[("RABBITMQ_PORT", "tcp://10.0.0.1:5672")], "memory:");
        leads_to(
            &[("RABBITMQ_HOST", "rabbit"), ("RABBITMQ_PORT", "tcp://10.0.0.1:5672")],
            "amqp://rabbit",
        );
    }

    #[test]
    fn bad_part_names_the_variable_and_what_is_allowed() {
        let error = bus(&[("RABBITMQ__PORT", "0")]).expect_err("a bad port");
        assert_eq!(error.to_string(), "`RABBITMQ__PORT` is `0`; allowed: a number from 1 to 65535");
        let error = bus(&[("RABBITMQ_HOST", "a b")]).expect_err("a bad host");
        assert!(error.to_string().starts_with("`RABBITMQ_HOST` is `a b`; allowed: a host name"));
    }
}
