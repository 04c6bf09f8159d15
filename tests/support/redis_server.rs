//! Redis servers of one test's own, to be stopped, killed and starved.
//!
//! Each has its own port and folder. Whatever ends the test, be it `kill -9`, the server goes too.

use std::{
    env, fs,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Once,
    time::Duration,
};

use redis::FromRedisValue;
use tokio::time::{sleep, timeout};

use super::port::free_ports;

/// How long a server may take to start; it needs some milliseconds on an idle machine.
const START: Duration = Duration::from_mins(1);

/// How long a command of a test may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Ends the server (the last id it was told) and removes the folder, once nobody can tell it anything
/// any more.
const KEEPER: &str = r#"
    server=
    while read -r line; do server=$line; done
    [ -z "$server" ] || kill -s KILL "$server"
    tries=0
    until rm -rf "$1" || [ $tries -ge 20 ]; do sleep 0.1; tries=$((tries + 1)); done
"#;

/// A server on this machine, which is removed with this.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    folder: PathBuf,
    options: Vec<String>,
    password: Option<String>,
    /// None while it is down.
    server: Option<Child>,
    keeper: Child,
}

impl RedisServer {
    /// Starts a server that keeps all on disk before it answers, with further options
    /// (`["--maxmemory", "2mb"]`); `None` where Redis is not installed, which has been said then.
    ///
    /// # Panics
    ///
    /// Panics where it does not start, or is required and not installed.
    pub async fn start(options: &[&str]) -> Option<Self> {
        if let Err(reason) = installed() {
            skip(&reason);
            return None;
        }
        let mut tries = 0;
        loop {
            let mut server = Self::prepare(options);
            match server.try_boot().await {
                Ok(()) => return Some(server),
                // Somebody else may have taken the port in between.
                Err(_) if tries < 2 && server.has_ended() => tries += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn prepare(options: &[&str]) -> Self {
        let [port] = free_ports();
        let folder = env::temp_dir().join(format!("agentbus-redis-{:016x}", fastrand::u64(..)));
        fs::create_dir(&folder).expect("a folder for the server");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not ended by what ends the test and all of its group, as Ctrl-C does.
            .process_group(0)
            .spawn()
            .expect("a shell");
        let password = options.windows(2).find(|pair| pair[0] == "--requirepass");
        Self {
            port,
            folder,
            password: password.map(|pair| pair[1].to_owned()),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            server: None,
            keeper,
        }
    }

    /// Starts the server again after [`kill`](Self::kill), with all that it had on disk; returns when
    /// it answers.
    ///
    /// # Panics
    ///
    /// Panics, with the end of its log, where it does not.
    pub async fn boot(&mut self) {
        self.try_boot().await.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn try_boot(&mut self) -> Result<(), String> {
        assert!(self.server.is_none(), "the server on port {} runs", self.port);
        let (port, folder) = (self.port.to_string(), self.folder.to_string_lossy().into_owned());
        let log = fs::File::create(self.folder.join("log")).expect("a log");
        let mut command = Command::new("redis-server");
        if self.options.first().is_some_and(|first| Path::new(first).is_absolute()) {
            // A file of its own, as for a sentinel.
            command.arg(&self.options[0]).args(["--port", &port, "--dir", &folder]);
            command.args(&self.options[1..]);
        } else {
            command.args(["--bind", "127.0.0.1", "--port", &port, "--dir", &folder]);
            command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
            command.args(["--enable-debug-command", "yes"]).args(&self.options);
        }
        let started = command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn();
        let server =
            started.map_err(|error| format!("`redis-server` cannot be started: {error}"))?;
        let keeper = self.keeper.stdin.as_mut().expect("its input is a pipe");
        writeln!(keeper, "{}", server.id()).expect("the keeper listens");
        self.server = Some(server);
        let answers = async {
            loop {
                match self.say::<String>(&["PING"]).await {
                    Ok(_) => return Ok(()),
                    // It reads what it has on disk.
                    Err(_) if !self.has_ended() => sleep(Duration::from_millis(10)).await,
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        match timeout(START, answers).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("{error}; its log: {}", self.log())),
            Err(_) => Err(format!("the server does not answer; its log: {}", self.log())),
        }
    }

    fn has_ended(&mut self) -> bool {
        self.server.as_mut().is_none_or(|server| !matches!(server.try_wait(), Ok(None)))
    }

    /// Returns the end of what it has logged.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Returns where it takes connections.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns its address for a bus.
    pub fn url(&self) -> String {
        self.url_through(self.address())
    }

    /// Returns its address for a bus that reaches its TLS port, which an option has named.
    pub fn tls_url(&self) -> String {
        let port = self.options.windows(2).find(|pair| pair[0] == "--tls-port");
        format!("rediss://localhost:{}", port.expect("it has a TLS port")[1])
    }

    /// Returns its address for a bus that goes through a relay.
    pub fn url_through(&self, address: SocketAddr) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}@"));
        format!("redis://{}{address}", password.unwrap_or_default())
    }

    /// Returns where it keeps what it has.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Says something to the server, on a connection of its own, and returns its answer.
    pub async fn say<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let ask = async {
            let client = redis::Client::open(self.url())?;
            let mut connection = client.get_multiplexed_async_connection().await?;
            redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
        };
        let late = || redis::RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
        timeout(ANSWER, ask).await.unwrap_or_else(|_| Err(late()))
    }

    /// Says something to the server, which must do it.
    ///
    /// # Panics
    ///
    /// Panics where it does not.
    pub async fn tell(&self, words: &[&str]) {
        let answer = self.say::<redis::Value>(words).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }

    /// Ends the server as `kill -9` does.
    ///
    /// # Panics
    ///
    /// Panics where it cannot be killed.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("it can be killed");
            server.wait().expect("it ends");
        }
    }

    /// Stops the server in good order; [`boot`](Self::boot) starts it again.
    ///
    /// # Panics
    ///
    /// Panics where it does not end.
    pub async fn shut_down(&mut self) {
        // It ends in place of an answer.
        drop(self.say::<()>(&["SHUTDOWN"]).await);
        let ended = async {
            while !self.has_ended() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(START, ended).await.expect("the server ends");
        self.server = None;
    }

    /// Stops the process where it is: it takes connections, and says nothing.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets the process go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.server.as_ref().expect("the server runs").id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.is_ok_and(|sent| sent.success()), "no signal {signal}");
    }
}

/// Three nodes that share the slots.
#[derive(Debug)]
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts three masters, each with a third of the slots; `None` where Redis is not installed.
    ///
    /// # Panics
    ///
    /// Panics where they do not find each other.
    pub async fn start() -> Option<Self> {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            // The nodes' own bus is not the usual 10 000 ports further up, which may be no port.
            let bus = free_ports::<1>()[0].to_string();
            let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
            let options = [&options[..], &["--cluster-port", &bus]].concat();
            nodes.push(RedisServer::start(&options).await?);
        }
        for (node, (first, last)) in nodes.iter().zip([(0, 5460), (5461, 10922), (10923, 16383)]) {
            let (first, last) = (first.to_string(), last.to_string());
            node.tell(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
        }
        let options = &nodes[0].options;
        let bus = options.iter().position(|option| option == "--cluster-port").expect("named");
        let (port, bus) = (nodes[0].port.to_string(), options[bus + 1].clone());
        for node in &nodes[1..] {
            node.tell(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        }
        let cluster = Self { nodes };
        cluster.is_up().await;
        Some(cluster)
    }

    /// Waits until all nodes think that all slots are served.
    ///
    /// # Panics
    ///
    /// Panics where they do not within a minute.
    pub async fn is_up(&self) {
        let up = async {
            for node in &self.nodes {
                loop {
                    let info = node.say::<String>(&["CLUSTER", "INFO"]).await.unwrap_or_default();
                    let known = format!("cluster_known_nodes:{}\r", self.nodes.len());
                    if info.contains("cluster_state:ok") && info.contains(&known) {
                        break;
                    }
                    sleep(Duration::from_millis(50)).await;
                }
            }
        };
        timeout(START, up).await.expect("the nodes find each other");
    }

    /// Returns the address of all nodes, for a bus.
    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|node| node.address().to_string()).collect();
        format!("redis://{}", nodes.join(","))
    }

    /// Returns which node has a key.
    ///
    /// # Panics
    ///
    /// Panics where none says so.
    pub async fn owner(&self, key: &str) -> usize {
        for (at, node) in self.nodes.iter().enumerate() {
            if node.say::<Option<String>>(&["GET", key]).await.is_ok() {
                return at;
            }
        }
        panic!("nobody has `{key}`")
    }

    /// Gives the slot of a key, with all that is in it, to another node.
    ///
    /// # Panics
    ///
    /// Panics where a node refuses.
    pub async fn move_slot(&self, key: &str, to: usize) {
        let from = self.owner(key).await;
        let ids = [from, to].map(|at| self.nodes[at].say::<String>(&["CLUSTER", "MYID"]));
        let [from_id, to_id] = ids;
        let (from_id, to_id) = (from_id.await.unwrap(), to_id.await.unwrap());
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let slot: u16 = source.say(&["CLUSTER", "KEYSLOT", key]).await.unwrap();
        let slot = slot.to_string();
        target.tell(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await;
        source.tell(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await;
        let keys: Vec<String> =
            source.say(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).await.unwrap();
        let port = target.port.to_string();
        for key in &keys {
            source.tell(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
        }
        for node in [target, source].into_iter().chain(&self.nodes) {
            node.tell(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
        }
    }
}

/// A master, its replica, and a sentinel that makes the replica the master when it is gone.
#[derive(Debug)]
pub struct RedisSentinel {
    pub master: RedisServer,
    pub replica: RedisServer,
    pub sentinel: RedisServer,
}

impl RedisSentinel {
    /// Starts all three, the sentinel watching `main`; `None` where Redis is not installed.
    ///
    /// # Panics
    ///
    /// Panics where the replica does not follow the master.
    pub async fn start() -> Option<Self> {
        let master = RedisServer::start(&[]).await?;
        let port = master.port.to_string();
        let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]).await?;
        let file = master.folder.join("sentinel.conf");
        let text = format!(
            "bind 127.0.0.1\nsentinel monitor main 127.0.0.1 {port} 1\nsentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 2000\n"
        );
        fs::write(&file, text).expect("a file for the sentinel");
        let file = file.to_string_lossy();
        let sentinel = RedisServer::start(&[&file, "--sentinel"]).await?;
        let set = Self { master, replica, sentinel };
        set.wait_for(async |set| {
            let said = set.sentinel.say::<String>(&["INFO", "sentinel"]).await.unwrap_or_default();
            let followed = set.master.say::<i64>(&["WAIT", "1", "100"]).await;
            said.contains("slaves=1") && followed.is_ok_and(|replicas| replicas == 1)
        })
        .await;
        Some(set)
    }

    async fn wait_for(&self, mut ready: impl AsyncFnMut(&Self) -> bool) {
        let ready = async {
            while !ready(self).await {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(START, ready).await.expect("replica and sentinel find the master");
    }

    /// Returns the address of the sentinel, for a bus.
    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/main", self.sentinel.address())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // With its input, the keeper ends the server and removes the folder.
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
        if let Some(mut server) = self.server.take() {
            drop(server.kill());
            drop(server.wait());
        }
    }
}

fn installed() -> Result<(), String> {
    let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
    version.map(drop).map_err(|error| format!("`redis-server` cannot be started: {error}"))
}

/// Says once that tests of Redis are left out, or fails where they must not be.
fn skip(reason: &str) {
    static TOLD: Once = Once::new();
    let required = env::var_os("AGENTBUS_REQUIRE_REDIS").is_some_and(|set| set != "0");
    assert!(!required, "Redis cannot be tried, and AGENTBUS_REQUIRE_REDIS requires it: {reason}");
    TOLD.call_once(|| {
        let _ = writeln!(io::stderr(), "redis skipped: {reason}");
    });
}
