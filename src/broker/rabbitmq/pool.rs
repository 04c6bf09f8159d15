//! The pool: one connection to publish and one to consume, to whichever host answers.

use std::{
    fmt,
    ops::Deref,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use deadpool_lapin::{Connection, Manager, Pool};
use lapin::{
    ConnectionProperties,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use tokio::{
    sync::{Mutex, Notify},
    time::timeout,
};

use super::{
    ConnectError, Host, RabbitOptions, dial,
    greeting::Greeting,
    transport,
    wire::{Wire, Wires},
};
use crate::broker::Product;

/// What a connection is for.
///
/// An alarm blocks the connections that publish; on the same connection it would keep
/// acknowledgements from being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Publish,
    Consume,
}

/// Connections to RabbitMQ: one for publishing and one for consuming.
///
/// A connection that died is never handed out again. Hosts are tried in turn, beginning with the
/// one that answered last.
pub struct ConnectionPool {
    hosts: Vec<(Host, [Door; 2])>,
    /// Index of the host that answered last.
    preferred: AtomicUsize,
    greeting: Greeting,
    /// Woken when a host lets somebody in.
    reached: Notify,
    options: RabbitOptions,
}

/// How one host is entered in one role.
struct Door {
    pool: Pool,
    wires: Wires,
    /// Whoever dials: the sockets that are opened are this dial's.
    turn: Mutex<()>,
}

/// A connection with the socket below it.
///
/// It is never handed out a second time.
pub(super) struct Line {
    /// There until the line is dropped.
    connection: Option<Connection>,
    wire: Wire,
}

impl Line {
    /// Ends the connection without asking the peer, who may be mute.
    pub(super) fn cut(&self) {
        self.wire.cut();
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }
}

impl Deref for Line {
    type Target = lapin::Connection;

    fn deref(&self) -> &lapin::Connection {
        self.connection.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Given back to the pool, one that was cut a moment ago could pass for a live one.
        if let Some(connection) = self.connection.take() {
            drop(Connection::take(connection));
        }
    }
}

impl ConnectionPool {
    /// Makes the pool; it dials when asked for a connection.
    pub(super) fn new(options: &RabbitOptions) -> Result<Self, ConnectError> {
        options.check()?;
        let greeting = Greeting::default();
        let hosts = options
            .hosts
            .iter()
            .map(|host| {
                let publish = door(host, Role::Publish, options, &greeting)?;
                Ok((host.clone(), [publish, door(host, Role::Consume, options, &greeting)?]))
            })
            .collect::<Result<_, ConnectError>>()?;
        Ok(Self {
            hosts,
            preferred: AtomicUsize::new(0),
            greeting,
            reached: Notify::new(),
            options: options.clone(),
        })
    }

    /// Connects to the first host that lets us; each has `patience`, or the connect time-out if
    /// that is shorter.
    pub(super) async fn get(
        &self,
        role: Role,
        patience: Duration,
    ) -> Result<(Line, &Host), ConnectError> {
        let start = self.preferred.load(Ordering::Relaxed);
        let mut errors = Vec::new();
        for step in 0..self.hosts.len() {
            let index = (start + step) % self.hosts.len();
            let (host, doors) = &self.hosts[index];
            match self.dial(host, &doors[role as usize], patience).await {
                Ok(line) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    self.reached.notify_waiters();
                    return Ok((line, host));
                }
                Err(error) => errors.push(error),
            }
        }
        Err(dial::sum_up(errors, &self.options))
    }

    /// Waits until a host has let somebody in.
    pub(super) async fn reached(&self) {
        self.reached.notified().await;
    }

    async fn dial(
        &self,
        host: &Host,
        door: &Door,
        patience: Duration,
    ) -> Result<Line, ConnectError> {
        let _turn = door.turn.lock().await;
        let wire = door.wires.renew();
        // Whatever comes in between, nothing is left behind: a socket, or a thread of lapin's.
        let guard = wire.is_cut().clone().drop_guard();
        // lapin ignores its own connection time-out, and a mute peer holds it for ever.
        let after = patience.min(self.options.connect_timeout);
        match timeout(after, door.pool.get()).await {
            Ok(Ok(connection)) => {
                guard.disarm();
                Ok(Line { connection: Some(connection), wire })
            }
            Ok(Err(error)) => Err(dial::classify(error, host, &self.options)),
            Err(_) => Err(ConnectError::Timeout { host: host.to_string(), after }),
        }
    }

    /// Returns how many connections there are.
    #[must_use]
    pub fn open(&self) -> usize {
        self.doors().map(|door| door.pool.status().size).sum()
    }

    /// Returns what the broker that was dialled last calls itself.
    pub(super) fn product(&self) -> Option<Product> {
        self.greeting.product()
    }

    pub(super) fn operation_timeout(&self) -> Duration {
        self.options.operation_timeout
    }

    pub(super) fn close(&self) {
        self.doors().for_each(|door| door.pool.close());
    }

    fn doors(&self) -> impl Iterator<Item = &Door> {
        self.hosts.iter().flat_map(|(_, doors)| doors)
    }
}

fn door(
    host: &Host,
    role: Role,
    options: &RabbitOptions,
    greeting: &Greeting,
) -> Result<Door, ConnectError> {
    let failed = |reason: String| ConnectError::Option { option: "hosts", reason };
    let name = format!(
        "{} ({})",
        options.connection_name,
        match role {
            Role::Publish => "publish",
            Role::Consume => "consume",
        }
    );
    let wires = Wires::default();
    let runtime = transport::runtime(host, options.tls, greeting.clone(), wires.clone());
    // lapin's own recovery stays off: a connection it recovers would count as dead here, and be
    // replaced while the old one keeps recovering.
    let properties =
        move || ConnectionProperties::default().with_connection_name(name.as_str().into());
    let pool = Pool::builder(Manager::new(address(host, options), properties, runtime))
        // One that lives, one to try out a reply, and those that died and that somebody still holds.
        .max_size(16)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    Ok(Door { pool, wires, turn: Mutex::default() })
}

/// Writes the address as lapin reads it. It holds the password: not to be shown.
fn address(host: &Host, options: &RabbitOptions) -> String {
    // An IPv6 address in brackets is silently replaced by `localhost`; escaped, it is read.
    let name = host.name.replace('%', "%25").replace(':', "%3A");
    let heartbeat = options.heartbeat.as_secs().clamp(1, u64::from(u16::MAX));
    AMQPUri {
        // Our own sockets encrypt.
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: options.user.clone(),
                password: options.password.clone(),
            },
            host: name,
            port: host.port,
        },
        vhost: options.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: u16::try_from(heartbeat).ok(),
            connection_timeout: u64::try_from(options.connect_timeout.as_millis()).ok(),
            ..AMQPQueryString::default()
        },
    }
    .to_string()
}

impl fmt::Debug for ConnectionPool {
    /// Leaves deadpool's own out: it shows the address with the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionPool").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(host: &str, options: &RabbitOptions) -> AMQPUri {
        let host = Host { name: host.to_owned(), port: 99 };
        address(&host, options).parse().expect("an address of ours is valid")
    }

    #[test]
    fn an_address_reads_back() {
        let options = RabbitOptions {
            user: "me@x".to_owned(),
            password: "p:/?#%ä".to_owned(),
            vhost: "a/b c".to_owned(),
            ..RabbitOptions::default()
        };
        let uri = read_back("rabbit.example", &options);
        assert_eq!(uri.authority.userinfo.username, options.user);
        assert_eq!(uri.authority.userinfo.password, options.password);
        assert_eq!(uri.vhost, options.vhost);
        assert_eq!((&*uri.authority.host, uri.authority.port), ("rabbit.example", 99));
        assert_eq!(uri.query.heartbeat, Some(10));
    }

    #[test]
    fn an_ipv6_address_is_not_replaced_by_localhost() {
        assert_eq!(read_back("::1", &RabbitOptions::default()).authority.host, "::1");
    }

    #[tokio::test]
    async fn the_password_is_never_shown() {
        let options = RabbitOptions { password: "secret".to_owned(), ..RabbitOptions::default() };
        let pool = ConnectionPool::new(&options).unwrap();
        assert!(!format!("{pool:?}").contains("secret"));
    }
}
