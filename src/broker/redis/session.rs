//! One connection, from dialling to its end.

use std::{
    convert::Infallible,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, ProtocolVersion, RedisConnectionInfo,
    RedisError, ServerErrorKind, aio::MultiplexedConnection,
};
use tokio::{
    select,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    ConnectError, Deployment, Host, RedisOptions,
    call::Call,
    fault::Fault,
    transport::{Heard, Wire},
    wake_up::Bells,
};
use crate::broker::Product;

/// How many calls may be handed to a connection before they wait for it to take them.
const BACKLOG: usize = 1024;

/// The oldest version with all that the scripts use.
const OLDEST: (u32, u32) = (6, 2);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Everything that is asked.
    Calls,
    /// Hearing that something is to be done.
    WakeUps,
    /// Finding out where the bus is.
    Questions,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    /// Counts the connections of the role.
    pub(super) number: u64,
    pub(super) host: Host,
    /// What the server calls itself; only known of connections for calls.
    pub(super) product: Option<Product>,
    /// Why the server took no messages when the connection was made, if it did not.
    pub(super) blockage: Option<String>,
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
    ended: CancellationToken,
    /// Another connection is to be made.
    dismissed: CancellationToken,
    /// Why it ended, or is to be replaced.
    reason: OnceLock<String>,
    heard: Heard,
    asked: AtomicU64,
    in_flight: AtomicUsize,
    /// Where a write can be tried that changes nothing.
    probe: Cmd,
}

impl Session {
    /// Connects to `host` and makes sure that it is what the options say.
    pub(super) async fn open(
        role: Role,
        number: u64,
        host: &Host,
        options: &RedisOptions,
        bells: &Bells,
        patience: Duration,
    ) -> Result<Self, ConnectError> {
        let limit = patience.min(options.connect_timeout);
        let deadline = Instant::now() + limit;
        let late = || ConnectError::Timeout { host: host.to_string(), after: limit };
        // Nobody at all is another matter than somebody who says nothing.
        let wire = match timeout_at(deadline, Wire::open(host, options)).await {
            Ok(opened) => opened.map_err(|error| ConnectError::system(&error, host, options))?,
            Err(_) => return Err(late()),
        };
        let greeted = Self::greet(role, number, host, options, bells, wire);
        timeout_at(deadline, greeted).await.map_err(|_| late())?
    }

    async fn greet(
        role: Role,
        number: u64,
        host: &Host,
        options: &RedisOptions,
        bells: &Bells,
        wire: Wire,
    ) -> Result<Self, ConnectError> {
        let heard = wire.heard();
        let (info, config) = match role {
            // We say everything ourselves, to know what the answer is an answer to.
            Role::Calls | Role::Questions => {
                (RedisConnectionInfo::default().set_skip_set_lib_name(), config())
            }
            Role::WakeUps => {
                let bells = bells.clone();
                let hear = move |push| {
                    bells.hear(push);
                    Ok::<_, Infallible>(())
                };
                (resp3(options), config().set_push_sender(hear))
            }
        };
        let fault = |fault: Fault| ConnectError::greeting(fault, host, options);
        let made = MultiplexedConnection::new_with_config(&info, wire, config).await;
        let (connection, driver) = made.map_err(|error| fault(error.into()))?;
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let driver = tokio::spawn(async move {
            let _guard = guard;
            driver.await;
        });
        let mut probe = redis::cmd("SET");
        probe.arg(options.key("probe")).arg("").arg("PX").arg(1);
        let mut session = Self {
            number,
            host: host.clone(),
            product: None,
            blockage: None,
            connection,
            driver,
            ended,
            dismissed: CancellationToken::new(),
            reason: OnceLock::new(),
            heard,
            asked: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            probe,
        };
        if role != Role::WakeUps {
            session.log_in(options).await?;
        }
        if role == Role::Questions {
            return Ok(session);
        }
        if role == Role::Calls {
            session.select(options).await?;
        }
        let mut name = redis::cmd("CLIENT");
        name.arg("SETNAME").arg(options.connection_name.replace([' ', '\n'], "-"));
        // It may be forbidden, and is only for people.
        drop(session.query::<()>(&name).await);
        match role {
            Role::Calls | Role::Questions => session.recognise(options).await?,
            Role::WakeUps => {
                let channel = options.wake_channel();
                let subscribed = session.connection.subscribe(channel).await;
                subscribed.map_err(|error| fault(error.into()))?;
            }
        }
        Ok(session)
    }

    async fn log_in(&self, options: &RedisOptions) -> Result<(), ConnectError> {
        if options.user.is_some() || options.password.is_some() {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = &options.user {
                auth.arg(user);
            }
            auth.arg(options.password.as_deref().unwrap_or_default());
            let answer = self.query::<()>(&auth).await;
            answer.map_err(|fault| ConnectError::greeting(fault, &self.host, options))?;
        }
        Ok(())
    }

    async fn select(&self, options: &RedisOptions) -> Result<(), ConnectError> {
        if options.database != 0 {
            let answer = self.query::<()>(redis::cmd("SELECT").arg(options.database)).await;
            answer.map_err(|fault| match fault {
                Fault::Refused(reason) => {
                    let host = self.host.to_string();
                    ConnectError::NoDatabase { database: options.database, host, reason }
                }
                fault => ConnectError::greeting(fault, &self.host, options),
            })?;
        }
        Ok(())
    }

    /// Finds out what the server is, and whether it takes writes.
    async fn recognise(&mut self, options: &RedisOptions) -> Result<(), ConnectError> {
        let greeting = |fault| ConnectError::greeting(fault, &self.host, options);
        let host = || self.host.to_string();
        let about = match self.query::<String>(redis::cmd("INFO").arg("server")).await {
            Ok(about) => About::read(&about),
            // Some who offer Redis keep it to themselves.
            Err(Fault::Denied(said)) if said.starts_with("NOPERM") => About::default(),
            Err(Fault::Refused(_)) => About::default(),
            Err(fault) => return Err(greeting(fault)),
        };
        if let Some(product) = &about.product
            && version(&about.redis).is_some_and(|version| version < OLDEST)
        {
            return Err(ConnectError::TooOld { host: host(), version: product.version.clone() });
        }
        match (about.cluster, &options.deployment) {
            (Some(true), Deployment::Cluster)
            | (Some(false), Deployment::Single | Deployment::Sentinel { .. })
            | (None, _) => {}
            (Some(true), _) => return Err(ConnectError::Cluster { host: host() }),
            (Some(false), _) => {
                return Err(ConnectError::NoCluster { host: host() });
            }
        }
        match self.probe().await {
            Ok(()) => {}
            // Messages can still be taken out.
            Err(fault) if fault.is_blockage() => self.blockage = Some(fault.to_string()),
            Err(Fault::Moved(_)) if options.deployment == Deployment::Single => {
                return Err(ConnectError::Cluster { host: host() });
            }
            Err(fault) => return Err(greeting(fault)),
        }
        self.product = about.product;
        Ok(())
    }

    /// Tries a write that changes nothing, to learn whether the server takes any.
    pub(super) async fn probe(&self) -> Result<(), Fault> {
        self.query(&self.probe).await
    }

    /// Asks whether anybody is there.
    pub(super) async fn ping(&self) -> Result<(), Fault> {
        self.query(&redis::cmd("PING")).await
    }

    /// Sends a command and waits for the answer, as long as the connection lives.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Fault> {
        self.ask(command).await.map_err(Fault::from)
    }

    /// Runs a script, which is handed to the server where it does not know it.
    pub(super) async fn run<T: FromRedisValue>(&self, call: &Call<'_>) -> Result<T, Fault> {
        match self.ask(call.command()).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let _asked = self.asking();
                call.script().load_async(&mut self.connection.clone()).await?;
                self.query(call.command()).await
            }
            answer => answer.map_err(Fault::from),
        }
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let _asked = self.asking();
        command.query_async(&mut self.connection.clone()).await
    }

    fn asking(&self) -> InFlight<'_> {
        self.asked.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(&self.in_flight)
    }

    /// Asks for another connection; what was asked on this one is still answered.
    pub(super) fn dismiss(&self, reason: String) {
        // The first reason counts.
        drop(self.reason.set(reason));
        self.dismissed.cancel();
    }

    /// Ends the connection: there will be no answer any more.
    pub(super) fn cut(&self, reason: String) {
        drop(self.reason.set(reason));
        self.ended.cancel();
        self.driver.abort();
    }

    /// Waits until the connection has ended, and says why.
    pub(super) async fn ended(&self) -> String {
        self.ended.cancelled().await;
        self.reason()
    }

    /// Waits until the connection has ended or is to be replaced, and says why.
    pub(super) async fn useless(&self) -> String {
        select! {
            () = self.ended.cancelled() => {}
            () = self.dismissed.cancelled() => {}
        }
        self.reason()
    }

    fn reason(&self) -> String {
        let reason = || "Redis closed the connection".to_owned();
        self.reason.get().cloned().unwrap_or_else(reason)
    }

    pub(super) fn watch(&self) -> Silence<'_> {
        let (heard, asked) = (self.heard.bytes(), self.asked.load(Relaxed));
        Silence { session: self, heard, asked, last: Instant::now(), waiting: None }
    }

    /// Closes the connection once all that was asked is answered, or the time is over.
    pub(super) async fn close(&self, limit: Duration) {
        let idle = async {
            while self.in_flight.load(Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        drop(timeout(limit, idle).await);
        self.driver.abort();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn config() -> AsyncConnectionConfig {
    // We wait for answers ourselves, and end a connection that does not give any.
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(BACKLOG)
}

fn resp3(options: &RedisOptions) -> RedisConnectionInfo {
    let info =
        RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    let info = match &options.user {
        Some(user) => info.set_username(user),
        None => info,
    };
    match (&options.user, &options.password) {
        (_, Some(password)) => info.set_password(password),
        (Some(_), None) => info.set_password(""),
        (None, None) => info,
    }
}

/// Somebody waits for an answer, while it exists.
struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Notices a peer that says nothing.
pub(super) struct Silence<'a> {
    session: &'a Session,
    heard: u64,
    asked: u64,
    /// When anything was last heard.
    last: Instant,
    /// Since when somebody waits who has heard nothing.
    waiting: Option<Instant>,
}

impl Silence<'_> {
    /// Looks; returns how long answers are overdue, and how long nothing was heard.
    pub(super) fn look(&mut self) -> (Duration, Duration) {
        let asked = self.session.asked.load(Relaxed);
        let heard = self.session.heard.bytes();
        if heard != self.heard {
            (self.heard, self.asked) = (heard, asked);
            (self.last, self.waiting) = (Instant::now(), None);
        }
        // Also those who wait no longer have had no answer.
        if asked != self.asked || self.session.in_flight.load(Relaxed) > 0 {
            self.waiting.get_or_insert_with(Instant::now);
        }
        let overdue = self.waiting.map_or(Duration::ZERO, |since| since.elapsed());
        (overdue, self.last.elapsed())
    }
}

/// What a server says about itself.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) product: Option<Product>,
    /// The version of Redis that it is, or behaves as.
    redis: String,
    cluster: Option<bool>,
}

impl About {
    pub(super) fn read(info: &str) -> Self {
        let find = |name: &str| {
            let mut lines = info.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned())
        };
        let redis = find("redis_version").unwrap_or_default();
        let product = match (find("server_name"), find("valkey_version")) {
            (Some(name), Some(version)) if name == "valkey" => {
                Some(Product { name: "Valkey".to_owned(), version })
            }
            _ if redis.is_empty() => None,
            _ => Some(Product { name: "Redis".to_owned(), version: redis.clone() }),
        };
        let cluster = find("redis_mode").or_else(|| find("server_mode"));
        Self { product, redis, cluster: cluster.map(|mode| mode == "cluster") }
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_about_itself_is_read() {
        let about = About::read("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n");
        assert_eq!(about.product.unwrap().to_string(), "Redis 7.0.15");
        assert_eq!((version(&about.redis), about.cluster), (Some((7, 0)), Some(false)));
        let valkey = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\nserver_mode:cluster\r\n";
        let about = About::read(valkey);
        assert_eq!(about.product.unwrap().to_string(), "Valkey 8.0.1");
        assert_eq!((version(&about.redis), about.cluster), (Some((7, 2)), Some(true)));
        let about = About::read("");
        assert!(about.product.is_none() && about.cluster.is_none());
    }
}
