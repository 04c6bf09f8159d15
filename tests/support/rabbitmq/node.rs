//! A RabbitMQ node of one test's own, to be stopped, killed and starved.
//!
//! It has its own name, ports, folder and cookie, and its own `epmd`, the daemon in which Erlang
//! nodes find each other: it cannot be mistaken for another node, nor another for it. Whatever ends
//! the test, be it `kill -9`, the node goes too.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use super::port::free_ports;

/// How long `rabbitmqctl` may take; it needs half a second on an idle machine.
const CONTROL: Duration = Duration::from_mins(1);

/// How long a node may take to start; it needs eight seconds on an idle machine.
const START: Duration = Duration::from_mins(2);

/// How long a process may take to end after `kill -9`.
const END: Duration = Duration::from_secs(30);

/// Ends the node (the last id it was told) and its `epmd`, and removes the folder, once nobody can
/// tell it anything any more.
const KEEPER: &str = r#"
    node=
    while read -r line; do node=$line; done
    for group in $node "$2"; do kill -s KILL -- "-$group"; done
    tries=0
    until rm -rf "$1" || [ $tries -ge 20 ]; do sleep 0.1; tries=$((tries + 1)); done
"#;

/// A RabbitMQ node on this machine, which is removed with this.
#[derive(Debug)]
pub struct Node {
    name: String,
    folder: PathBuf,
    scripts: PathBuf,
    ports: Ports,
    epmd: Child,
    /// None while it is down.
    server: Option<Child>,
    keeper: Child,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    amqp: u16,
    distribution: u16,
    epmd: u16,
}

impl Node {
    /// Starts a node, or says why there is none.
    ///
    /// # Errors
    ///
    /// Returns an error where RabbitMQ is not installed here, or does not start.
    pub async fn start() -> Result<Self, String> {
        let mut tries = 0;
        loop {
            let mut node = Self::prepare()?;
            match node.boot().await {
                Ok(()) => return Ok(node),
                // Somebody else may have taken a port in between.
                Err(_) if tries < 2 && node.has_ended() => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells where RabbitMQ is installed, or that it is not.
    ///
    /// # Errors
    ///
    /// Returns an error where it is not.
    pub fn installed() -> Result<(), String> {
        scripts().map(drop)
    }

    fn prepare() -> Result<Self, String> {
        let scripts = scripts()?;
        let name = format!("agentbus-{}", uuid::Uuid::now_v7().simple());
        let folder = env::temp_dir().join(&name);
        let [amqp, distribution, epmd] = free_ports();
        let ports = Ports { amqp, distribution, epmd };
        lay_out(&folder, ports).map_err(|error| format!("{}: {error}", folder.display()))?;
        let failed = |error: io::Error| {
            drop(fs::remove_dir_all(&folder));
            format!("a node cannot be started: {error}")
        };
        let mut command = bare("epmd");
        let command = command.args(["-port", &ports.epmd.to_string()]);
        let mut epmd = command.env("ERL_EPMD_ADDRESS", "127.0.0.1").spawn().map_err(failed)?;
        let mut command = bare("sh");
        let command = command.args(["-c", KEEPER, "sh"]).arg(&folder).arg(epmd.id().to_string());
        let keeper = match command.stdin(Stdio::piped()).spawn() {
            Ok(keeper) => keeper,
            Err(error) => {
                drop(epmd.kill());
                drop(epmd.wait());
                return Err(failed(error));
            }
        };
        Ok(Self { name, folder, scripts, ports, epmd, server: None, keeper })
    }

    /// Returns where it takes connections.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.amqp).into()
    }

    /// Returns where it keeps what it has.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the address of a virtual host `/` at a port: a node's own, or one in between.
    pub fn url(port: u16) -> String {
        format!("amqp://guest:guest@127.0.0.1:{port}/")
    }

    /// Starts the node again after [`kill`](Self::kill), with all that it had on disk; returns when
    /// it accepts connections.
    ///
    /// # Errors
    ///
    /// Returns an error, with the end of its log, where it does not within two minutes.
    pub async fn boot(&mut self) -> Result<(), String> {
        assert!(self.server.is_none(), "`{}` runs", self.name);
        // The system's usual limit of open files is that of some hundred queues.
        let script = "ulimit -n 20000 2>/dev/null || ulimit -n \"$(ulimit -Hn)\"; exec \"$0\"";
        let failed = |error: io::Error| format!("`{}`: {error}", self.name);
        let output = fs::File::create(self.folder.join("output")).map_err(failed)?;
        let mut command = self.command("sh");
        command.arg("-c").arg(script).arg(self.scripts.join("rabbitmq-server")).stdout(output);
        let server = command.spawn().map_err(failed)?;
        self.tell_keeper(&server.id().to_string());
        self.server = Some(server);
        self.wait_for_port().await?;
        let waited = self.control(&["await_startup", "--timeout", "60"]).await;
        waited.map(drop).map_err(|error| format!("{error}\n{}", self.output()))
    }

    async fn wait_for_port(&mut self) -> Result<(), String> {
        let started = Instant::now();
        loop {
            if accepts(self.address()) {
                return Ok(());
            }
            if self.has_ended() || started.elapsed() > START {
                return Err(format!("RabbitMQ does not start:\n{}", self.output()));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn has_ended(&mut self) -> bool {
        let server = self.server.as_mut();
        server.is_none_or(|server| !matches!(server.try_wait(), Ok(None)))
    }

    /// Ends the node by `kill -9`; what it has not written to its disk is lost.
    pub async fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        end_group(&server);
        let started = Instant::now();
        while matches!(server.try_wait(), Ok(None)) && started.elapsed() < END {
            sleep(Duration::from_millis(10)).await;
        }
        // So that its id, which may be somebody else's by then, is not used again.
        self.tell_keeper("");
    }

    /// Has the node write to its disk which quorum queues there are, as it does by itself some time
    /// after they are declared.
    ///
    /// RabbitMQ 3.10 forgets the log of a queue that it is killed over before that: after its start
    /// the queue is empty and has no leader, and whoever uses it waits in vain.
    ///
    /// # Errors
    ///
    /// Returns what `rabbitmqctl` says.
    pub async fn write_names(&self) -> Result<(), String> {
        self.control(&["eval", "[ok = dets:sync(Table) || Table <- dets:all()]."]).await.map(drop)
    }

    /// Stops the broker in good order, with the node kept: all connections are closed.
    ///
    /// # Errors
    ///
    /// Returns what `rabbitmqctl` says.
    pub async fn stop_app(&self) -> Result<(), String> {
        self.control(&["stop_app"]).await.map(drop)
    }

    /// Starts the broker again after [`stop_app`](Self::stop_app).
    ///
    /// # Errors
    ///
    /// Returns what `rabbitmqctl` says.
    pub async fn start_app(&self) -> Result<(), String> {
        self.control(&["start_app"]).await.map(drop)
    }

    /// Makes the node believe that it has used up its memory: it reads nothing from connections
    /// that publish.
    ///
    /// # Errors
    ///
    /// Returns what `rabbitmqctl` says.
    pub async fn raise_alarm(&self) -> Result<(), String> {
        self.control(&["set_vm_memory_high_watermark", "0.00001"]).await.map(drop)
    }

    /// Ends what [`raise_alarm`](Self::raise_alarm) began.
    ///
    /// # Errors
    ///
    /// Returns what `rabbitmqctl` says.
    pub async fn clear_alarm(&self) -> Result<(), String> {
        self.control(&["set_vm_memory_high_watermark", "0.8"]).await.map(drop)
    }

    /// Closes all connections, as an operator would.
    ///
    /// # Errors
    ///
    /// Returns what `rabbitmqctl` says.
    pub async fn close_connections(&self) -> Result<(), String> {
        self.control(&["close_all_connections", "closed by a test"]).await.map(drop)
    }

    /// Lists things, `["list_queues", "name", "messages"]`: their columns, line by line.
    ///
    /// # Errors
    ///
    /// Returns what `rabbitmqctl` says.
    pub async fn list(&self, what: &[&str]) -> Result<Vec<Vec<String>>, String> {
        let listed = self.control(&[&["--no-table-headers"], what].concat()).await?;
        Ok(listed.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// Runs `rabbitmqctl` on this node, for a minute at most; returns what it prints.
    ///
    /// # Errors
    ///
    /// Returns what it says where it fails.
    pub async fn control(&self, arguments: &[&str]) -> Result<String, String> {
        let what = arguments.join(" ");
        let mut command =
            tokio::process::Command::from(self.command(self.scripts.join("rabbitmqctl")));
        let command = command.args(["-q", "-n", &self.node_name()]).args(arguments);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let ran = timeout(CONTROL, command.output()).await;
        let ran = ran.map_err(|_| format!("`rabbitmqctl {what}` hangs"))?;
        let ran = ran.map_err(|error| format!("`rabbitmqctl {what}`: {error}"))?;
        if ran.status.success() {
            return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
        }
        let said = [ran.stdout, ran.stderr].concat();
        Err(format!("`rabbitmqctl {what}`: {}", String::from_utf8_lossy(&said).trim()))
    }

    fn node_name(&self) -> String {
        // Has an address wherever there is a network at all, unlike the name of the machine.
        format!("{}@localhost", self.name)
    }

    /// A program in the environment that tells this node, and `rabbitmqctl` with it, from others.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let Ports { distribution, epmd, .. } = self.ports;
        let local = "-kernel inet_dist_use_interface {127,0,0,1}";
        let file = |name| self.folder.join(name);
        let mut command = bare(program);
        command
            .env_clear()
            .envs(
                ["PATH", "TMPDIR"].into_iter().filter_map(|name| Some((name, env::var_os(name)?))),
            )
            .env("HOME", &self.folder)
            .env("LANG", "C.UTF-8")
            .env("ERL_EPMD_PORT", epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", self.node_name())
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", file("environment"))
            .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins"))
            .env("RABBITMQ_MNESIA_BASE", file("data"))
            .env("RABBITMQ_LOG_BASE", file("log"))
            .env("RABBITMQ_PID_FILE", file("pid"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", local)
            .env("RABBITMQ_CTL_ERL_ARGS", local)
            // The script becomes the server, instead of starting and guarding it.
            .env("RUNNING_UNDER_SYSTEMD", "true");
        command
    }

    /// The end of what the server has printed.
    fn output(&self) -> String {
        let output = fs::read_to_string(self.folder.join("output")).unwrap_or_default();
        let lines: Vec<_> = output.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn tell_keeper(&mut self, node: &str) {
        if let Some(keeper) = &mut self.keeper.stdin {
            drop(writeln!(keeper, "{node}"));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
        for child in self.server.iter_mut().chain([&mut self.epmd]) {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Finds the scripts themselves: what Debian has in the path changes to another user first.
fn scripts() -> Result<PathBuf, String> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&paths)
        .filter_map(|path| fs::canonicalize(path.join("rabbitmq-server")).ok())
        .filter(|script| script.ends_with("rabbitmq-server"))
        .filter_map(|script| script.parent().map(Path::to_owned));
    [PathBuf::from("/usr/lib/rabbitmq/bin")]
        .into_iter()
        .chain(in_path)
        .find(|path| path.join("rabbitmq-server").exists() && path.join("rabbitmqctl").exists())
        .ok_or_else(|| "RabbitMQ is not installed on this machine".to_owned())
}

/// Makes the folder with what a node reads at its start.
fn lay_out(folder: &Path, ports: Ports) -> io::Result<()> {
    fs::create_dir(folder)?;
    fs::write(folder.join("environment"), "")?;
    fs::write(folder.join("plugins"), "[].\n")?;
    // Full memory is for a test to bring about, and a full disk is not the point.
    let amqp = ports.amqp;
    let settings = format!(
        "listeners.tcp.local = 127.0.0.1:{amqp}\n\
         vm_memory_high_watermark.relative = 0.8\n\
         disk_free_limit.absolute = 1MB\n\
         log.file.level = warning\n"
    );
    fs::write(folder.join("rabbitmq.conf"), settings)?;
    // A queue that dead-letters at least once, as those of delays do, asks again after this time
    // where a restart has taken the confirmation away. Three minutes is the default.
    let settings = "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 5000}]}].\n";
    fs::write(folder.join("advanced.config"), settings)?;
    let cookie = folder.join(".erlang.cookie");
    let mut cookie =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(cookie)?;
    write!(cookie, "{}", uuid::Uuid::now_v7().simple())
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// A program in a process group of its own, so that what it starts can end with it.
fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).current_dir("/");
    command
}

fn end_group(child: &Child) {
    let group = format!("-{}", child.id());
    drop(bare("kill").args(["-KILL", "--", &group]).status());
}
