//! Finds the server that has the bus, and connects to it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::Value;
use tokio::{sync::Notify, time::timeout};

use super::{
    ConnectError, Deployment, Host, RedisOptions, dial,
    fault::Fault,
    session::{Role, Session},
    wake_up::Bells,
};

/// How many nodes of a cluster are remembered.
const REMEMBERED: usize = 64;

/// Connects to whichever server has the bus at present.
#[derive(Debug)]
pub(super) struct Finder {
    options: Arc<RedisOptions>,
    bells: Bells,
    reached: Notify,
    /// Who can be asked where the bus is; first who answered last.
    guides: Mutex<Vec<Host>>,
}

impl Finder {
    pub(super) fn new(options: Arc<RedisOptions>, bells: Bells) -> Self {
        let guides = Mutex::new(options.hosts.clone());
        Self { options, bells, reached: Notify::new(), guides }
    }

    /// Tries each host once.
    pub(super) async fn connect(
        &self,
        role: Role,
        number: u64,
        patience: Duration,
    ) -> Result<Session, ConnectError> {
        let guides = self.guides.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut errors, mut tried) = (Vec::new(), Vec::new());
        for guide in guides {
            let host = match Box::pin(self.ask(&guide, patience)).await {
                Ok(host) => host,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            // Several who say the same are not worth another wait.
            if tried.contains(&host) {
                continue;
            }
            let (options, bells) = (&self.options, &self.bells);
            // Large, and rarely there.
            let open = Session::open(role, number, &host, options, bells, patience);
            match Box::pin(open).await {
                Ok(session) => {
                    self.prefer(guide);
                    self.reached.notify_waiters();
                    return Ok(session);
                }
                Err(error) => errors.push(error),
            }
            tried.push(host);
        }
        Err(dial::sum_up(errors, &self.options))
    }

    /// Asks a host where the bus is.
    async fn ask(&self, guide: &Host, patience: Duration) -> Result<Host, ConnectError> {
        let asked = match &self.options.deployment {
            Deployment::Single => return Ok(guide.clone()),
            Deployment::Cluster => self.ask_node(guide, patience).await,
            Deployment::Sentinel { master } => self.ask_sentinel(guide, master, patience).await,
        };
        asked.map(|host| {
            tracing::debug!(%guide, %host, "found the Redis that has the bus");
            host
        })
    }

    async fn ask_node(&self, guide: &Host, patience: Duration) -> Result<Host, ConnectError> {
        let (options, bells) = (&self.options, &self.bells);
        let session = Session::open(Role::Questions, 0, guide, options, bells, patience).await?;
        let asked = async {
            let mut slot = redis::cmd("CLUSTER");
            slot.arg("KEYSLOT").arg(options.key(""));
            let slot: i64 = session.query(&slot).await?;
            let slots: Value = session.query(redis::cmd("CLUSTER").arg("SLOTS")).await?;
            Ok::<_, Fault>((slot, slots))
        };
        let (slot, slots) = match timeout(patience, asked).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(Fault::Refused(said))) if said.contains("cluster support disabled") => {
                return Err(ConnectError::NoCluster { host: guide.to_string() });
            }
            Ok(Err(fault)) => return Err(ConnectError::greeting(fault, guide, options)),
            Err(_) => return Err(silent(guide, patience)),
        };
        let ranges = ranges(slots, guide);
        self.learn(ranges.iter().map(|range| range.master.clone()));
        let owner = ranges.into_iter().find(|range| (range.first..=range.last).contains(&slot));
        owner.map(|range| range.master).ok_or_else(|| ConnectError::Refused {
            host: guide.to_string(),
            reason: "no node of the cluster has the bus: its slot is not assigned".to_owned(),
        })
    }

    async fn ask_sentinel(
        &self,
        guide: &Host,
        master: &str,
        patience: Duration,
    ) -> Result<Host, ConnectError> {
        let options = RedisOptions {
            user: self.options.sentinel_user.clone(),
            password: self.options.sentinel_password.clone(),
            ..(*self.options).clone()
        };
        let bells = &self.bells;
        let session = Session::open(Role::Questions, 0, guide, &options, bells, patience).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        match timeout(patience, session.query::<Option<(String, u16)>>(&question)).await {
            Ok(Ok(Some((name, port)))) => Ok(Host { name, port }),
            Ok(Ok(None)) => {
                Err(ConnectError::NoMaster { master: master.to_owned(), host: guide.to_string() })
            }
            Ok(Err(Fault::Refused(said))) if said.contains("unknown command") => {
                Err(ConnectError::NoSentinel { host: guide.to_string() })
            }
            Ok(Err(fault)) => Err(ConnectError::greeting(fault, guide, &options)),
            Err(_) => Err(silent(guide, patience)),
        }
    }

    /// Notes who answered, to be asked first from now on.
    fn prefer(&self, guide: Host) {
        let mut guides = self.guides.lock().unwrap_or_else(PoisonError::into_inner);
        guides.retain(|known| *known != guide);
        guides.insert(0, guide);
    }

    /// Notes who else may know: also when all nodes of the address have been replaced, one by one.
    fn learn(&self, nodes: impl IntoIterator<Item = Host>) {
        let mut guides = self.options.hosts.clone();
        for node in nodes {
            if guides.len() < REMEMBERED && !guides.contains(&node) {
                guides.push(node);
            }
        }
        *self.guides.lock().unwrap_or_else(PoisonError::into_inner) = guides;
    }

    /// Waits until a connection comes about.
    pub(super) async fn reached(&self) {
        self.reached.notified().await;
    }
}

fn silent(host: &Host, after: Duration) -> ConnectError {
    ConnectError::Timeout { host: host.to_string(), after }
}

/// Slots of a cluster, and who has them.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: i64,
    last: i64,
    master: Host,
}

/// Reads `CLUSTER SLOTS`; a node that does not know its own name is the one that was asked.
fn ranges(slots: Value, asked: &Host) -> Vec<Range> {
    let range = |value: &Value| {
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] =
            value.as_sequence()?
        else {
            return None;
        };
        let [name, Value::Int(port), ..] = &master[..] else { return None };
        let name = match name {
            Value::BulkString(name) => String::from_utf8(name.clone()).ok()?,
            _ => String::new(),
        };
        let name = if name.is_empty() || name == "?" { asked.name.clone() } else { name };
        let master = Host { name, port: u16::try_from(*port).ok()? };
        Some(Range { first: *first, last: *last, master })
    };
    slots.as_sequence().unwrap_or_default().iter().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.to_owned(), port }
    }

    #[test]
    fn slots_are_read_also_where_a_node_does_not_know_its_own_name() {
        let name = |name: &str| Value::BulkString(name.as_bytes().to_vec());
        let slots = |first, last, master: Value, port| {
            let master =
                Value::Array(vec![master, Value::Int(port), name("id"), Value::Array(vec![])]);
            Value::Array(vec![Value::Int(first), Value::Int(last), master])
        };
        let answer = Value::Array(vec![
            slots(0, 99, name("10.0.0.1"), 6379),
            slots(100, 199, name(""), 6380),
            slots(200, 299, Value::Nil, 6381),
            Value::Array(vec![Value::Int(1)]),
        ]);
        let ranges = ranges(answer, &host("asked", 1));
        let masters: Vec<_> = ranges.into_iter().map(|range| (range.first, range.master)).collect();
        assert_eq!(
            masters,
            [(0, host("10.0.0.1", 6379)), (100, host("asked", 6380)), (200, host("asked", 6381))]
        );
    }

    #[test]
    fn who_answered_last_is_asked_first_and_nobody_given_is_forgotten() {
        let options = RedisOptions::from_url("redis://a:1,b:1").unwrap();
        let finder = Finder::new(Arc::new(options), Bells::default());
        let guides = || finder.guides.lock().unwrap().clone();
        finder.learn((0..100).map(|port| host("n", port)));
        assert_eq!(guides()[..3], [host("a", 1), host("b", 1), host("n", 0)]);
        assert_eq!(guides().len(), REMEMBERED);
        finder.prefer(host("b", 1));
        assert_eq!(guides()[..3], [host("b", 1), host("a", 1), host("n", 0)]);
        finder.learn([host("m", 1)]);
        assert_eq!(guides(), [host("a", 1), host("b", 1), host("m", 1)]);
    }
}
