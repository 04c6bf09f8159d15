//! RabbitMQ's management API, which tells what the messaging protocol does not.

use std::time::Duration;

use agentbus::{Config, config::BusUrl};
use anyhow::{Context as _, anyhow};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use ureq::Agent;

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How long an answer may be.
const MAX_BYTES: u64 = 64 << 20;

/// What to set where there is no address.
pub(crate) const UNSET: &str =
    "set `AGENTBUS_MANAGEMENT_URL`, as in `http://user:password@host:15672`";

/// Says what to set so that more can be told, where there is such a thing.
pub(crate) fn unset(config: &Config) -> String {
    match config.bus {
        BusUrl::Amqp(_) => format!("; {UNSET}"),
        _ => String::new(),
    }
}

/// The management API, and the virtual host that is asked about.
#[derive(Clone, Debug)]
pub(crate) struct Management {
    agent: Agent,
    base: String,
    vhost: String,
    authorization: Secret,
}

#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A queue. Counts are missing for a moment after it was made.
#[derive(Debug, Deserialize)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) messages_ready: Option<u64>,
    pub(crate) messages_unacknowledged: Option<u64>,
    pub(crate) consumers: Option<u32>,
}

/// Something that an exchange is bound to.
#[derive(Debug, Deserialize)]
pub(crate) struct Binding {
    pub(crate) destination: String,
    pub(crate) routing_key: String,
}

/// A node of the cluster.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) fd_used: Option<u64>,
    pub(crate) fd_total: Option<u64>,
    #[serde(default)]
    pub(crate) mem_alarm: bool,
    #[serde(default)]
    pub(crate) disk_free_alarm: bool,
}

impl Management {
    /// Returns the API that the configuration names, if it names one.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let url = config.management_url.as_ref()?;
        let BusUrl::Amqp(bus) = &config.bus else { return None };
        let (user, password) = url.credentials().unwrap_or((bus.username(), bus.password()));
        let authorization = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let agent = Agent::config_builder().timeout_global(Some(TIMEOUT)).build();
        Some(Self {
            agent: agent.into(),
            base: url.base().to_owned(),
            vhost: bus.vhost().to_owned(),
            authorization: Secret(format!("Basic {authorization}")),
        })
    }

    /// Lists the queues of the virtual host.
    pub(crate) async fn queues(&self) -> anyhow::Result<Vec<Queue>> {
        self.get(&["queues", &self.vhost]).await
    }

    /// Lists what an exchange is bound to.
    pub(crate) async fn bindings(&self, exchange: &str) -> anyhow::Result<Vec<Binding>> {
        self.get(&["exchanges", &self.vhost, exchange, "bindings", "source"]).await
    }

    /// Lists the nodes of the cluster.
    pub(crate) async fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        self.get(&["nodes"]).await
    }

    async fn get<T: DeserializeOwned + Send + 'static>(&self, path: &[&str]) -> anyhow::Result<T> {
        let mut url = format!("{}/api", self.base);
        for part in path {
            url.push('/');
            url.push_str(&encoded(part));
        }
        let (agent, authorization) = (self.agent.clone(), self.authorization.0.clone());
        let asked = tokio::task::spawn_blocking(move || -> anyhow::Result<T> {
            let mut answer = agent.get(&url).header("authorization", authorization).call()?;
            let text = answer.body_mut().with_config().limit(MAX_BYTES).read_to_string()?;
            Ok(serde_json::from_str(&text)?)
        });
        let answer = asked.await?.map_err(|error| match error.downcast_ref() {
            Some(ureq::Error::StatusCode(401)) => anyhow!("unknown user or wrong password"),
            Some(ureq::Error::StatusCode(404)) => anyhow!("it knows nothing of that (404)"),
            _ => error,
        });
        answer.with_context(|| format!("the management API at {} does not tell", self.base))
    }
}

/// Writes every byte that could mean something in a path as `%2F` is written.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encode = |byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_and_passwords_are_not_shown() {
        assert_eq!(encoded("/"), "%2F");
        assert_eq!(encoded("a.b-c ä"), "a.b-c%20%C3%A4");
        let vars = [
            ("AGENTBUS_URL", "amqp://u:SECRET@h/v"),
            ("AGENTBUS_MANAGEMENT_URL", "http://u:SECRET@h:15672"),
        ];
        let config = Config::from_vars(vars).unwrap();
        let shown = format!("{:?} {config:?}", Management::of(&config).unwrap());
        let secret = BASE64_STANDARD.encode("u:SECRET");
        assert!(!shown.contains("SECRET") && !shown.contains(&secret), "{shown}");
    }
}
