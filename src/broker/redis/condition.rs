//! How a server is, as far as the bus depends on it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    ConnectError, RedisOptions,
    fault::Fault,
    find::Finder,
    session::{About, Role, Session},
    wake_up::Bells,
};
use crate::broker::Product;

/// How a server is: what it promises to keep, and what it may throw away.
///
/// What the server does not tell, or this user may not ask, is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Condition {
    /// Address of the server that has the bus.
    pub host: String,
    /// What it calls itself.
    pub product: Option<Product>,
    /// Whether it is a replica of another.
    pub is_replica: Option<bool>,
    /// Whether it writes down what it does (`appendonly`).
    pub append_only: Option<bool>,
    /// How soon that is on the disk (`appendfsync`): `always`, `everysec` or `no`.
    pub append_fsync: Option<String>,
    /// Whether the last attempt to write it down has worked.
    pub append_works: Option<bool>,
    /// Whether the last snapshot has worked.
    pub snapshot_works: Option<bool>,
    /// How much memory the data takes, in bytes.
    pub used_memory: Option<u64>,
    /// How much it may take (`maxmemory`); 0 is as much as there is.
    pub max_memory: Option<u64>,
    /// What is thrown away when it is full (`maxmemory-policy`).
    pub eviction: Option<String>,
    /// How many keys were thrown away since the server started.
    pub evicted: Option<u64>,
    /// How many replicas follow.
    pub replicas: Option<u64>,
    /// How many replicas must follow so that anything is written (`min-replicas-to-write`).
    pub min_replicas: Option<u64>,
}

impl Condition {
    /// Asks the server that has the bus how it is; changes nothing.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be asked.
    pub async fn examine(options: &RedisOptions) -> Result<Self, ConnectError> {
        options.check()?;
        let limit = options.connect_timeout;
        let finder = Finder::new(Arc::new(options.clone()), Bells::default());
        let session = finder.connect(Role::Questions, 0, limit).await?;
        let asked = timeout(limit, Self::ask(&session, limit)).await;
        let asked = asked.unwrap_or(Err(Fault::Timeout(limit)));
        asked.map_err(|fault| ConnectError::greeting(fault, &session.host, options))
    }

    async fn ask(session: &Session, limit: Duration) -> Result<Self, Fault> {
        let info = match session.query::<String>(&redis::cmd("INFO")).await {
            Ok(info) => info,
            Err(Fault::Denied(said)) if said.starts_with("NOPERM") => String::new(),
            Err(fault) => return Err(fault),
        };
        let mut condition = Self::read(&info);
        condition.host = session.host.to_string();
        for (name, keep) in SETTINGS {
            let mut get = redis::cmd("CONFIG");
            get.arg("GET").arg(name);
            // Those who rent out a Redis often keep this to themselves.
            let setting = timeout(limit, session.query::<HashMap<String, String>>(&get)).await;
            if let Ok(Ok(mut setting)) = setting
                && let Some(value) = setting.remove(name)
            {
                keep(&mut condition, value);
            }
        }
        Ok(condition)
    }

    fn read(info: &str) -> Self {
        let lines = info.lines().filter_map(|line| line.split_once(':'));
        let known: HashMap<&str, &str> = lines.map(|(name, value)| (name, value.trim())).collect();
        let number = |name| known.get(name).and_then(|value| value.parse().ok());
        let is = |name, wanted| known.get(name).map(|value| *value == wanted);
        Self {
            host: String::new(),
            product: About::read(info).product,
            is_replica: is("role", "slave"),
            append_only: is("aof_enabled", "1"),
            append_fsync: None,
            append_works: is("aof_last_write_status", "ok"),
            snapshot_works: is("rdb_last_bgsave_status", "ok"),
            used_memory: number("used_memory"),
            max_memory: number("maxmemory"),
            eviction: known.get("maxmemory_policy").map(|&policy| policy.to_owned()),
            evicted: number("evicted_keys"),
            replicas: number("connected_slaves"),
            min_replicas: None,
        }
    }
}

/// A setting, and where it is kept.
type Setting = (&'static str, fn(&mut Condition, String));

const SETTINGS: [Setting; 2] = [
    ("appendfsync", |condition, value| condition.append_fsync = Some(value)),
    ("min-replicas-to-write", |condition, value| condition.min_replicas = value.parse().ok()),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::redis::support::redis_server::{RedisCluster, RedisServer};

    #[tokio::test]
    async fn a_server_tells_how_it_is() {
        let options = ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"];
        let more = ["--min-replicas-to-write", "1", "--requirepass", "right"];
        let Some(server) = RedisServer::start(&[&options[..], &more[..]].concat()).await else {
            return;
        };
        let condition =
            Condition::examine(&RedisOptions::from_url(&server.url()).unwrap()).await.unwrap();
        assert_eq!(condition.host, server.address().to_string());
        assert_eq!(condition.product.unwrap().name, "Redis");
        assert_eq!((condition.is_replica, condition.append_only), (Some(false), Some(true)));
        assert_eq!(condition.append_fsync.as_deref(), Some("always"));
        assert_eq!((condition.append_works, condition.snapshot_works), (Some(true), Some(true)));
        assert_eq!(condition.max_memory, Some(64 << 20));
        assert!(condition.used_memory > Some(0));
        assert_eq!(condition.eviction.as_deref(), Some("allkeys-lru"));
        assert_eq!((condition.evicted, condition.replicas), (Some(0), Some(0)));
        assert_eq!(condition.min_replicas, Some(1));
    }

    #[tokio::test]
    async fn what_may_not_be_asked_is_not_known() {
        let Some(server) = RedisServer::start(&[]).await else { return };
        let user = ["ACL", "SETUSER", "shy", "on", ">p", "~*", "&*", "+@all"];
        let asked = |forbidden: &'static [&'static str]| async {
            server.tell(&[&user[..], forbidden].concat()).await;
            let url = format!("redis://shy:p@{}", server.address());
            Condition::examine(&RedisOptions::from_url(&url).unwrap()).await.unwrap()
        };
        let no_config = asked(&["-config"]).await;
        assert_eq!((no_config.append_only, no_config.append_fsync), (Some(true), None));
        let nothing = asked(&["-config", "-info"]).await;
        assert_eq!(nothing, Condition { host: nothing.host.clone(), ..Condition::default() });
    }

    #[tokio::test]
    async fn of_a_cluster_the_node_that_has_the_bus_is_asked() {
        let Some(cluster) = RedisCluster::start().await else { return };
        let options = RedisOptions::from_url(&cluster.url()).unwrap();
        let owner = cluster.owner(&options.key("n")).await;
        let condition = Condition::examine(&options).await.unwrap();
        assert_eq!(condition.host, cluster.nodes[owner].address().to_string());
        let nobody = RedisOptions::from_url("redis://127.0.0.1:1").unwrap();
        let error = Condition::examine(&nobody).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    }
}
