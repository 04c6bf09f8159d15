//! Which bus the environment names: by our own variable, or by those that deployments already have.

use super::bus_url::BusUrlError;
use super::environment::Variables;
use super::rabbitmq_parts::Parts;
use super::redis_parts::RedisParts;
use super::{AmqpUrl, BusUrl, ConfigError, RedisUrl};

pub(super) const OWN_URL: &str = "AGENTBUS_URL";
const RABBITMQ_URL: &str = "RABBITMQ_URL";
const REDIS_URL: &str = "REDIS_URL";
const PROVIDERS: [&str; 2] = ["QUEUE_PROVIDER", "MESSAGE_QUEUE_PROVIDER"];

/// What is read here, besides the parts of a RabbitMQ address.
pub(super) const VARIABLES: [&str; 5] =
    [OWN_URL, RABBITMQ_URL, REDIS_URL, PROVIDERS[0], PROVIDERS[1]];

/// Which backend a variable asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    Memory,
    RabbitMq,
    Redis,
}

impl Backend {
    fn of(url: &BusUrl) -> Self {
        match url {
            BusUrl::Memory { .. } => Self::Memory,
            BusUrl::Amqp(_) => Self::RabbitMq,
            BusUrl::Redis(_) => Self::Redis,
        }
    }
}

impl Variables {
    /// Returns the bus that the variables name, or `base` where they name none. What they leave out is taken from `base`
    /// if it is of the same kind.
    pub(super) fn bus(&self, base: &BusUrl) -> Result<BusUrl, ConfigError> {
        let own = self.url(OWN_URL)?;
        let rabbitmq = match self.url(RABBITMQ_URL)? {
            None => None,
            Some(BusUrl::Amqp(url)) => Some(url),
            Some(_) => return Err(ConfigError::bad_url(RABBITMQ_URL, BusUrlError::NotAmqp)),
        };
        let parts = Parts::read(self)?;

        let mut claims = Vec::new();
        claims.extend(own.as_ref().map(|url| (OWN_URL, url.to_string(), Backend::of(url))));
        claims.extend(self.provider()?);
        claims.extend(
            rabbitmq.as_ref().map(|url| (RABBITMQ_URL, url.to_string(), Backend::RabbitMq)),
        );
        claims.extend(parts.shown().map(|(name, value)| (name, value, Backend::RabbitMq)));
        let Some((first, first_value, backend)) = claims.first().cloned() else {
            return Ok(base.clone());
        };
        if let Some((second, second_value, _)) =
            claims.into_iter().find(|(_, _, other)| *other != backend)
        {
            return Err(ConfigError::Conflict { first, first_value, second, second_value });
        }

        let base = Some(base).filter(|base| Backend::of(base) == backend);
        match (backend, own, base) {
            (Backend::RabbitMq, Some(BusUrl::Amqp(own)), _) => {
                complete_rabbitmq(Some(own), rabbitmq, &parts, AmqpUrl::localhost())
            }
            (Backend::RabbitMq, _, Some(BusUrl::Amqp(base))) => {
                complete_rabbitmq(None, rabbitmq, &parts, base.clone())
            }
            (Backend::RabbitMq, ..) => {
                complete_rabbitmq(None, rabbitmq, &parts, AmqpUrl::localhost())
            }
            (Backend::Redis, own, base) => self.redis(own, base),
            (Backend::Memory, own, base) => Ok(own.or_else(|| base.cloned()).unwrap_or_default()),
        }
    }

    fn url(&self, name: &'static str) -> Result<Option<BusUrl>, ConfigError> {
        let parsed = self.get(name).map(str::parse).transpose();
        parsed.map_err(|reason| ConfigError::bad_url(name, reason))
    }

    fn provider(&self) -> Result<Option<(&'static str, String, Backend)>, ConfigError> {
        let mut first: Option<(&'static str, String, Backend)> = None;
        for name in PROVIDERS {
            let Some(value) = self.get(name) else { continue };
            let backend = match value.trim().to_ascii_lowercase().as_str() {
                "memory" => Backend::Memory,
                "rabbitmq" => Backend::RabbitMq,
                "redis" => Backend::Redis,
                _ => {
                    return Err(ConfigError::bad_value(
                        name,
                        value,
                        "`memory`, `rabbitmq` or `redis`",
                    ));
                }
            };
            match first {
                Some((first, first_value, other)) if other != backend => {
                    let second_value = value.to_owned();
                    return Err(ConfigError::Conflict {
                        first,
                        first_value,
                        second: name,
                        second_value,
                    });
                }
                _ => first = Some((name, value.to_owned(), backend)),
            }
        }
        Ok(first)
    }

    fn redis(&self, own: Option<BusUrl>, base: Option<&BusUrl>) -> Result<BusUrl, ConfigError> {
        let parts = RedisParts::read(self)?;
        let complete = |name: &'static str, url: BusUrl| match url {
            BusUrl::Redis(mut url) => {
                parts.complete(name, &mut url)?;
                Ok(BusUrl::Redis(url))
            }
            _ => Err(ConfigError::bad_url(name, BusUrlError::NotRedis)),
        };
        let own = own.map(|url| complete(OWN_URL, url)).transpose()?;
        let redis = self.url(REDIS_URL)?.map(|url| complete(REDIS_URL, url)).transpose()?;
        match (own, redis) {
            (Some(own), Some(redis)) => agreed((OWN_URL, own), (REDIS_URL, redis)),
            (Some(url), None) | (None, Some(url)) => Ok(url),
            (None, None) => {
                let mut url = match base {
                    Some(BusUrl::Redis(url)) => url.clone(),
                    _ => RedisUrl::localhost(),
                };
                parts.replace(&mut url);
                Ok(BusUrl::Redis(url))
            }
        }
    }
}

/// Returns what the addresses say, completed by the parts; `base` where there is no address.
fn complete_rabbitmq(
    own: Option<AmqpUrl>,
    rabbitmq: Option<AmqpUrl>,
    parts: &Parts,
    base: AmqpUrl,
) -> Result<BusUrl, ConfigError> {
    let complete = |name: &'static str, mut url: AmqpUrl| {
        parts.complete(name, &mut url)?;
        parts.fill_defaults(&mut url);
        Ok::<_, ConfigError>(BusUrl::Amqp(url))
    };
    let own = own.map(|url| complete(OWN_URL, url)).transpose()?;
    let rabbitmq = rabbitmq.map(|url| complete(RABBITMQ_URL, url)).transpose()?;
    match (own, rabbitmq) {
        (Some(own), Some(rabbitmq)) => agreed((OWN_URL, own), (RABBITMQ_URL, rabbitmq)),
        (Some(url), None) | (None, Some(url)) => Ok(url),
        (None, None) => {
            let mut url = base;
            parts.replace(&mut url);
            parts.fill_defaults(&mut url);
            Ok(BusUrl::Amqp(url))
        }
    }
}

/// Returns the bus that both name.
fn agreed(
    first: (&'static str, BusUrl),
    second: (&'static str, BusUrl),
) -> Result<BusUrl, ConfigError> {
    if first.1 == second.1 {
        return Ok(first.1);
    }
    let note =
        if first.1.differs_in_password_only(&second.1) { " with another password" } else { "" };
    Err(ConfigError::Conflict {
        first: first.0,
        first_value: first.1.to_string(),
        second: second.0,
        second_value: format!("{}{note}", second.1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(vars: &[(&str, &str)]) -> Result<BusUrl, ConfigError> {
        Variables::new(vars.iter().copied()).bus(&BusUrl::default())
    }

    /// Checks that the variables lead to the same place as `url`.
    #[track_caller]
    fn leads_to(vars: &[(&str, &str)], url: &str) {
        assert_eq!(bus(vars).expect("a bus"), url.parse().expect("an address"));
    }

    /// Checks that the variables are a conflict, and returns its text.
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
    fn nothing_set_is_the_embedded_bus() {
        leads_to(&[], "memory:");
    }

    #[test]
    fn empty_values_count_as_unset() {
        leads_to(
            &[("AGENTBUS_URL", ""), ("RABBITMQ_HOST", " "), ("QUEUE_PROVIDER", "")],
            "memory:",
        );
    }

    #[test]
    fn each_address_selects_its_backend() {
        leads_to(&[("AGENTBUS_URL", "memory://tests")], "memory://tests");
        leads_to(&[("AGENTBUS_URL", "amqps://rabbit")], "amqps://rabbit");
        leads_to(&[("RABBITMQ_URL", "amqp://u:p@rabbit/v")], "amqp://u:p@rabbit/v");
    }

    #[test]
    fn provider_rabbitmq_without_an_address_is_the_one_on_localhost() {
        for name in PROVIDERS {
            leads_to(&[(name, "RabbitMQ")], "amqp://guest:guest@localhost:5672/");
        }
    }

    #[test]
    fn provider_redis_uses_its_address_or_localhost() {
        leads_to(&[("QUEUE_PROVIDER", "redis")], "redis://localhost:6379/0");
        leads_to(
            &[("QUEUE_PROVIDER", "redis"), ("REDIS_URL", "redis://:p@cache")],
            "redis://:p@cache",
        );
    }

    #[test]
    fn redis_url_alone_selects_nothing() {
        leads_to(&[("REDIS_URL", "redis://cache")], "memory:");
        leads_to(
            &[("REDIS_URL", "redis://cache"), ("RABBITMQ_URL", "amqp://rabbit")],
            "amqp://rabbit",
        );
    }

    #[test]
    fn unknown_provider_names_the_allowed_ones() {
        let error = bus(&[("MESSAGE_QUEUE_PROVIDER", "kafka")]).expect_err("an unknown provider");
        assert_eq!(
            error.to_string(),
            "`MESSAGE_QUEUE_PROVIDER` is `kafka`; allowed: `memory`, `rabbitmq` or `redis`"
        );
    }

    #[test]
    fn two_providers_must_agree() {
        leads_to(&[("QUEUE_PROVIDER", "memory"), ("MESSAGE_QUEUE_PROVIDER", "Memory")], "memory:");
        let vars = [("QUEUE_PROVIDER", "memory"), ("MESSAGE_QUEUE_PROVIDER", "rabbitmq")];
        assert_eq!(
            conflict(&vars, PROVIDERS),
            "`QUEUE_PROVIDER` is `memory`, but `MESSAGE_QUEUE_PROVIDER` is `rabbitmq`: unset one, or make them agree"
        );
    }

    #[test]
    fn provider_that_contradicts_an_address_is_a_conflict() {
        conflict(
            &[("QUEUE_PROVIDER", "memory"), ("RABBITMQ_URL", "amqp://rabbit")],
            ["QUEUE_PROVIDER", "RABBITMQ_URL"],
        );
        conflict(
            &[("QUEUE_PROVIDER", "redis"), ("RABBITMQ__HOST", "rabbit")],
            ["QUEUE_PROVIDER", "RABBITMQ__HOST"],
        );
        conflict(
            &[("QUEUE_PROVIDER", "memory"), ("AGENTBUS_URL", "amqp://rabbit")],
            ["AGENTBUS_URL", "QUEUE_PROVIDER"],
        );
    }

    #[test]
    fn our_address_and_the_others_must_agree() {
        leads_to(
            &[("AGENTBUS_URL", "amqp://u:p@h:5672/"), ("RABBITMQ_URL", "amqp://u:p@h")],
            "amqp://u:p@h",
        );
        let vars = [("AGENTBUS_URL", "amqp://u:secret@h1"), ("RABBITMQ_URL", "amqp://u:secret@h2")];
        assert_eq!(
            conflict(&vars, [OWN_URL, RABBITMQ_URL]),
            "`AGENTBUS_URL` is `amqp://u:***@h1/`, but `RABBITMQ_URL` is `amqp://u:***@h2/`: unset one, or make them agree"
        );
        conflict(
            &[("AGENTBUS_URL", "memory:"), ("RABBITMQ_HOST", "rabbit")],
            ["AGENTBUS_URL", "RABBITMQ_HOST"],
        );
        conflict(
            &[("AGENTBUS_URL", "redis://a"), ("REDIS_URL", "redis://b")],
            ["AGENTBUS_URL", "REDIS_URL"],
        );
    }

    #[test]
    fn addresses_that_differ_in_the_password_only_say_so() {
        let vars = [("AGENTBUS_URL", "amqp://u:one@h"), ("RABBITMQ_URL", "amqp://u:two@h")];
        assert!(conflict(&vars, [OWN_URL, RABBITMQ_URL]).contains("with another password"));
    }

    #[test]
    fn rabbitmq_url_must_be_one() {
        let error = bus(&[("RABBITMQ_URL", "memory:")]).expect_err("a wrong scheme");
        assert!(matches!(error, ConfigError::BadUrl { reason: BusUrlError::NotAmqp, .. }));
        let error = bus(&[("QUEUE_PROVIDER", "redis"), ("REDIS_URL", "amqp://h")])
            .expect_err("a wrong scheme");
        assert!(matches!(error, ConfigError::BadUrl { reason: BusUrlError::NotRedis, .. }));
    }

    #[test]
    fn environment_completes_an_address_of_the_file_of_the_same_kind() {
        let base: BusUrl = "amqp://app@h1,h2/prod".parse().expect("an address");
        let read =
            |vars: &[(&str, &str)]| Variables::new(vars.iter().copied()).bus(&base).expect("a bus");
        let of = |url: &str| url.parse::<BusUrl>().expect("an address");
        assert_eq!(read(&[]), base);
        assert_eq!(read(&[("QUEUE_PROVIDER", "rabbitmq")]), base);
        assert_eq!(read(&[("RABBITMQ_PASSWORD", "p")]), of("amqp://app:p@h1,h2/prod"));
        assert_eq!(read(&[("RABBITMQ_HOST", "h3")]), of("amqp://app@h3/prod"));
        assert_eq!(read(&[("RABBITMQ_URL", "amqp://other")]), of("amqp://other"));
        assert_eq!(read(&[("QUEUE_PROVIDER", "memory")]), of("memory:"));
    }
}
