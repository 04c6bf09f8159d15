//! What a run breaks: a broker that belongs to it alone.

use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
};

use super::support::{rabbitmq::node::Node, redis_server::RedisServer};

/// A broker that nobody else uses; whatever cannot be done to it is a panic.
#[derive(Debug)]
pub enum Engine {
    RabbitMq(Node),
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    Redis(RedisServer),
}

impl Engine {
    pub fn name(&self) -> &'static str {
        match self {
            Self::RabbitMq(_) => "RabbitMQ",
            Self::Redis(_) => "Redis",
        }
    }

    /// Returns where it takes connections.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::RabbitMq(node) => node.address(),
            Self::Redis(server) => server.address(),
        }
    }

    /// Returns its address for a bus that reaches it at a socket's: its own, or one in between.
    pub fn url(&self, at: SocketAddr) -> String {
        match self {
            Self::RabbitMq(_) => Node::url(at.port()),
            Self::Redis(server) => server.url_through(at),
        }
    }

    /// Stops in good order; [`start`](Self::start) starts it again.
    pub async fn stop(&mut self) {
        match self {
            Self::RabbitMq(node) => node.stop_app().await.expect("the broker stops"),
            Self::Redis(server) => server.shut_down().await,
        }
    }

    pub async fn start(&mut self) {
        match self {
            Self::RabbitMq(node) => node.start_app().await.expect("the broker starts again"),
            Self::Redis(server) => server.boot().await,
        }
    }

    /// Ends by `kill -9`; [`boot`](Self::boot) starts it again, with what it had on disk.
    pub async fn kill(&mut self) {
        match self {
            Self::RabbitMq(node) => {
                // Readers may just have declared something.
                node.write_names().await.expect("names can be written");
                node.kill().await;
            }
            Self::Redis(server) => server.kill(),
        }
    }

    pub async fn boot(&mut self) {
        match self {
            Self::RabbitMq(node) => node.boot().await.expect("the broker starts again"),
            Self::Redis(server) => server.boot().await,
        }
    }

    /// Closes all connections, as an operator would.
    pub async fn close_connections(&self) {
        match self {
            Self::RabbitMq(node) => {
                node.close_connections().await.expect("connections can be closed");
            }
            Self::Redis(server) => {
                for kind in ["pubsub", "normal"] {
                    server.tell(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).await;
                }
            }
        }
    }

    /// Has no memory left, until [`clear_alarm`](Self::clear_alarm).
    pub async fn raise_alarm(&self) {
        match self {
            Self::RabbitMq(node) => node.raise_alarm().await.expect("an alarm can be raised"),
            Self::Redis(server) => {
                // Nothing is thrown away for it: that is Redis's default, and what we ask for.
                server.tell(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
                server.tell(&["CONFIG", "SET", "maxmemory", "1"]).await;
            }
        }
    }

    pub async fn clear_alarm(&self) {
        match self {
            Self::RabbitMq(node) => node.clear_alarm().await.expect("an alarm can be cleared"),
            Self::Redis(server) => server.tell(&["CONFIG", "SET", "maxmemory", "0"]).await,
        }
    }

    /// Finds what an empty queue of a bus must not leave behind: leases, bodies, what is delayed.
    pub async fn litter(&self, exchange: &str, queues: &[String]) -> Vec<String> {
        let Self::Redis(server) = self else { return Vec::new() };
        let bus = format!("agentbus:{{{exchange}}}:");
        let keys = server.say::<Vec<String>>(&["KEYS", &format!("{bus}*")]).await;
        let mut keys = keys.expect("the server has an answer");
        keys.retain(|key| {
            let key = key.strip_prefix(&bus).expect("a key of the bus");
            let (kind, queue) = key.split_once(':').unwrap_or((key, ""));
            let is_known =
                ["bindings", "epoch", "queues", "agenda", "places", "m", "k"].contains(&kind);
            // Those of processes that were killed go with their queues.
            !is_known && (queue.is_empty() || queues.iter().any(|of_agents| of_agents == queue))
        });
        keys
    }

    /// Names what must be gone with it.
    pub fn remains(&self) -> Remains {
        Remains { address: self.address(), folder: self.folder().to_owned() }
    }

    fn folder(&self) -> &Path {
        match self {
            Self::RabbitMq(node) => node.folder(),
            Self::Redis(server) => server.folder(),
        }
    }
}

/// What must not be there once a broker is dropped.
#[derive(Debug)]
pub struct Remains {
    address: SocketAddr,
    folder: PathBuf,
}

impl Remains {
    pub fn are_there(&self) -> bool {
        self.folder.exists() || TcpStream::connect(self.address).is_ok()
    }
}
