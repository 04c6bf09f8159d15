//! Finds a RabbitMQ to test on, and keeps the tests away from everybody else's queues.
//!
//! The address is `RABBITMQ_URL`, or localhost where it accepts guest. The tests run in a virtual
//! host of their own, which the first of a run makes and which goes with the run; where making
//! one is not allowed, in the given one, under names with a random prefix. Each test removes what
//! it has declared: the broker has file handles for a few hundred queues only.

#![allow(dead_code, missing_docs, unreachable_pub)] // each test binary uses a part of it

pub mod control;
pub mod node;
pub mod port;
mod sweep;

use std::{
    collections::BTreeSet,
    env,
    io::{self, Write as _},
    net::{TcpStream, ToSocketAddrs},
    os::unix::process::parent_id,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use agentbus::{
    Config,
    config::{AmqpUrl, BusUrl},
};
use lapin::{Connection, ConnectionProperties};
use tokio::{runtime, time::timeout};

pub use self::{control::control, sweep::sweep};

/// How long a broker may take to let somebody in.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Returns the configuration of a bus for one test, or `None` after saying why there is none.
///
/// # Panics
///
/// Panics instead of returning `None` where `AGENTBUS_REQUIRE_RABBITMQ` is set.
pub fn config() -> Option<Config> {
    reach().map_err(|reason| skipped(&reason)).ok()
}

/// Returns the configuration of a bus for one test, or why there is none.
pub fn reach() -> Result<Config, String> {
    static FOUND: OnceLock<Result<BusUrl, String>> = OnceLock::new();
    FOUND.get_or_init(find).clone().map(fresh)
}

/// Says why tests are skipped, each reason once.
///
/// # Panics
///
/// Panics where `AGENTBUS_REQUIRE_RABBITMQ` is set, to anything but `0`.
pub fn skipped(reason: &str) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let required = env::var_os("AGENTBUS_REQUIRE_RABBITMQ").is_some_and(|set| set != "0");
    assert!(!required, "AGENTBUS_REQUIRE_RABBITMQ is set, but {reason}");
    if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(reason.to_owned()) {
        // Past the test harness, which keeps what `eprintln!` prints to itself.
        drop(writeln!(io::stderr(), "skipped on RabbitMQ: {reason}"));
    }
}

/// Writes out the address of a configuration, with the password.
pub fn address(config: &Config) -> String {
    let BusUrl::Amqp(url) = &config.bus else { panic!("{} is not RabbitMQ", config.bus) };
    written(url, url.vhost())
}

/// An exchange and a prefix that no other test has.
fn fresh(url: BusUrl) -> Config {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut config = Config::default();
    // A broker that a hundred tests use at once may take its time to let one more in.
    config.connect_timeout = Duration::from_secs(45);
    config.bus = url;
    config.exchange = format!("test-{prefix}.events");
    config.queue_prefix = format!("test-{prefix}.");
    // Its tests switch it on; to the others it is noise.
    config.discovery = false;
    config
}

fn find() -> Result<BusUrl, String> {
    let given = env::var("RABBITMQ_URL").ok();
    let url = given.as_deref().unwrap_or("amqp://guest:guest@127.0.0.1:5672/");
    let url: BusUrl =
        url.parse().map_err(|error| format!("RABBITMQ_URL cannot be used: {error}"))?;
    let BusUrl::Amqp(amqp) = &url else {
        return Err(format!("RABBITMQ_URL is `{url}`, which is no `amqp` address"));
    };
    if amqp.is_tls() {
        return Err(format!("RABBITMQ_URL is `{url}`, and the tests speak plain `amqp` only"));
    }
    let Some((host, port)) = amqp.hosts().next() else {
        return Err("RABBITMQ_URL names no host".to_owned());
    };
    if !listens(host, port) {
        return Err(format!(
            "no RabbitMQ answers at {host}:{port}; start one, or name another by RABBITMQ_URL"
        ));
    }
    lets_in(amqp).map_err(|reason| format!("the RabbitMQ at {host}:{port} {reason}"))?;
    Ok(own_virtual_host(amqp).unwrap_or(url))
}

fn listens(host: &str, port: u16) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let Ok(mut addresses) = (host, port).to_socket_addrs() else { return false };
    addresses.any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok())
}

/// Tries whether the broker goes through with the handshake: a stuck one still accepts.
fn lets_in(amqp: &AmqpUrl) -> Result<(), String> {
    let address = written(amqp, amqp.vhost());
    blocking(async {
        match timeout(HANDSHAKE, connection(&address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("lets nobody in: {error}")),
            Err(_) => Err(format!("has not finished the handshake after {HANDSHAKE:?}")),
        }
    })
}

async fn connection(address: &str) -> lapin::Result<Connection> {
    Connection::connect(address, ConnectionProperties::default()).await
}

/// Waits for a future, also where the caller is itself one.
fn blocking<T: Send>(future: impl Future<Output = T> + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("there are file handles left").block_on(future)
        });
        thread.join().expect("the future does not panic")
    })
}

/// Makes the run's virtual host, if it is not there yet; `None` where that is not allowed.
fn own_virtual_host(amqp: &AmqpUrl) -> Option<BusUrl> {
    let (host, _) = amqp.hosts().next()?;
    if !matches!(host, "localhost" | "127.0.0.1" | "[::1]") {
        return None;
    }
    // All test binaries of a run have the same parent.
    let run = parent_id();
    let vhost = format!("agentbus-test-{run}");
    if control(&["add_vhost", &vhost]) {
        control::remove_after(run, &vhost);
    }
    // Also for a virtual host that another binary of the run has made.
    control(&["set_permissions", "-p", &vhost, amqp.username(), ".*", ".*", ".*"]).then_some(())?;
    written(amqp, &vhost).parse().ok()
}

fn written(amqp: &AmqpUrl, vhost: &str) -> String {
    let (host, port) = amqp.hosts().next().expect("an address has a host");
    let [user, password, vhost] = [amqp.username(), amqp.password(), vhost].map(encoded);
    format!("amqp://{user}:{password}@{host}:{port}/{vhost}")
}

/// Writes every byte that could mean something in an address as `%2F` is written.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let encode = |byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
