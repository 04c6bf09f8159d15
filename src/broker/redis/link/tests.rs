//! The kept connections, on servers of the tests' own.

use std::sync::LazyLock;

use redis::Script;

use super::*;
use crate::broker::{
    Stage,
    redis::support::{
        redis_server::{RedisCluster, RedisSentinel, RedisServer},
        relay::{Relay, Side},
    },
};

const LONG: Duration = Duration::from_mins(1);

/// Adds one to a counter, and says so.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local n = redis.call('INCR', KEYS[1]) redis.call('PUBLISH', ARGV[1], 'counted') return n",
    )
});

async fn open(url: &str) -> Result<(Link, Arc<HealthBoard>), ConnectError> {
    let health = Arc::new(HealthBoard::new());
    let options = RedisOptions { connect_timeout: LONG, ..RedisOptions::from_url(url)? };
    Ok((Link::open(options, health.clone()).await?, health))
}

async fn refused(url: &str) -> ConnectError {
    match open(url).await {
        Err(error) => {
            assert!(!format!("{error} {error:?}").contains("SECRET"), "{error}");
            error
        }
        Ok(_) => panic!("`{url}` can be connected to"),
    }
}

impl Link {
    fn counting(&self) -> Call<'static> {
        Call::new(&COUNT, &[self.options.key("n")]).arg(self.options.wake_channel())
    }

    async fn count(&self) -> Result<i64, Fault> {
        self.call(LONG, &self.counting()).await
    }

    /// Counts until it works; may count more than once.
    async fn count_surely(&self) -> i64 {
        let counted = self.call_until(LONG, Again::Harmless, &self.counting()).await;
        counted.expect("within a minute")
    }
}

async fn stage(health: &HealthBoard, stage: Stage) -> String {
    let mut watch = health.watch();
    let reached = timeout(LONG, watch.wait_for(|health| health.stage == stage)).await;
    reached
        .unwrap_or_else(|_| panic!("never {stage}: {:?}", health.watch().borrow()))
        .unwrap()
        .detail
        .clone()
}

async fn rings(bell: &Bell) {
    timeout(LONG, bell.rung()).await.expect("it rings");
}

#[tokio::test]
async fn a_script_is_run_also_where_the_server_does_not_know_it_yet_or_any_more() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (link, health) = open(&server.url()).await.unwrap();
    assert!(health.watch().borrow().is_healthy());
    assert_eq!(link.product().unwrap().name, "Redis");
    assert_eq!(link.count().await, Ok(1));
    server.tell(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(link.count().await, Ok(2));
}

#[tokio::test]
async fn bells_ring_for_what_is_said_and_after_a_loss() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (link, _) = open(&server.url()).await.unwrap();
    let (counted, other) = (link.listen("counted"), link.listen("other"));
    link.count().await.unwrap();
    rings(&counted).await;
    server.tell(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    rings(&other).await;
    rings(&counted).await;
    // Both connections bring the bells to ring: only the one that listens was lost.
    assert_eq!(link.number(), Some(0));
    link.count().await.unwrap();
    rings(&counted).await;
}

#[tokio::test]
async fn a_server_that_was_killed_comes_back_with_everything() {
    let Some(mut server) = RedisServer::start(&[]).await else { return };
    let (link, health) = open(&server.url()).await.unwrap();
    for _ in 0..100 {
        link.count().await.unwrap();
    }
    server.kill();
    let detail = stage(&health, Stage::Dialling).await;
    assert!(!detail.is_empty());
    let fault = link.call::<i64>(Duration::from_millis(50), &link.counting()).await.unwrap_err();
    assert!(matches!(&fault, Fault::Down(_)) && fault.is_undone(), "{fault:?}");
    let call = link.counting();
    let (counted, ()) =
        tokio::join!(link.call_until::<i64>(LONG, Again::Undone, &call), server.boot());
    assert_eq!(counted, Ok(101));
    stage(&health, Stage::Consuming).await;
    assert!(link.number() > Some(0));
}

#[tokio::test]
async fn a_connection_that_the_server_closes_is_made_anew() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (link, health) = open(&server.url()).await.unwrap();
    for _ in 0..3 {
        let number = link.number();
        server.tell(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        timeout(LONG, link.renewed(number)).await.unwrap().unwrap();
        link.count().await.unwrap();
    }
    stage(&health, Stage::Consuming).await;
}

#[tokio::test]
async fn a_half_open_connection_is_given_up_where_an_answer_is_awaited() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let relay = Relay::to(server.address()).await;
    let (link, _) = open(&server.url_through(relay.address())).await.unwrap();
    relay.half_open(Side::Client);
    let fault = link.count().await.unwrap_err();
    assert!(matches!(&fault, Fault::Lost(_)) && !fault.is_undone(), "{fault:?}");
    assert_eq!(link.count_surely().await, 1);
}

#[tokio::test]
async fn a_half_open_connection_that_nobody_uses_is_noticed() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let relay = Relay::to(server.address()).await;
    let url = server.url_through(relay.address());
    let heartbeat = Duration::from_secs(1);
    let options = RedisOptions { heartbeat, ..RedisOptions::from_url(&url).unwrap() };
    let health = Arc::new(HealthBoard::new());
    let link = Link::open(options, health.clone()).await.unwrap();
    let bell = link.listen("counted");
    let accepted = relay.accepted();
    relay.half_open(Side::Client);
    stage(&health, Stage::Dialling).await;
    timeout(LONG, link.renewed(Some(0))).await.unwrap().unwrap();
    let both = async {
        while relay.accepted() < accepted + 2 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, both).await.expect("both connections are made anew");
    stage(&health, Stage::Consuming).await;
    rings(&bell).await;
}

#[tokio::test]
async fn a_server_that_is_frozen_is_used_again_when_it_thaws() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (link, health) = open(&server.url()).await.unwrap();
    link.count().await.unwrap();
    server.freeze();
    let fault = link.call::<i64>(Duration::from_millis(200), &link.counting()).await.unwrap_err();
    assert_eq!(fault, Fault::Timeout(Duration::from_millis(200)));
    stage(&health, Stage::Dialling).await;
    server.thaw();
    assert!(link.count_surely().await > 1);
    stage(&health, Stage::Consuming).await;
}

#[tokio::test]
async fn a_server_that_pauses_its_clients_is_waited_for() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (link, _) = open(&server.url()).await.unwrap();
    server.tell(&["CLIENT", "PAUSE", "4500", "ALL"]).await;
    assert!(link.count_surely().await >= 1);
}

#[tokio::test]
async fn who_may_not_come_in_is_told_why() {
    let Some(server) = RedisServer::start(&["--requirepass", "right"]).await else { return };
    let at = server.address();
    let wrong = refused(&format!("redis://:SECRET@{at}")).await;
    assert!(
        matches!(&wrong, ConnectError::Credentials { user, .. } if user == "default"),
        "{wrong}"
    );
    let none = refused(&format!("redis://{at}")).await;
    assert!(matches!(none, ConnectError::NoPassword { .. }), "{none}");
    let nobody = refused(&format!("redis://nobody:SECRET@{at}")).await;
    assert!(
        matches!(&nobody, ConnectError::Credentials { user, .. } if user == "nobody"),
        "{nobody}"
    );
    let database = refused(&format!("redis://:right@{at}/99")).await;
    assert!(matches!(database, ConnectError::NoDatabase { database: 99, .. }), "{database}");
    server.tell(&["ACL", "SETUSER", "half", "on", ">SECRET", "~other:*", "&*", "+@all"]).await;
    let denied = refused(&format!("redis://half:SECRET@{at}")).await;
    assert!(matches!(&denied, ConnectError::Denied { user, .. } if user == "half"), "{denied}");
    server.tell(&["ACL", "SETUSER", "deaf", "on", ">SECRET", "~*", "resetchannels", "+@all"]).await;
    let deaf = refused(&format!("redis://deaf:SECRET@{at}")).await;
    assert!(matches!(&deaf, ConnectError::Denied { user, .. } if user == "deaf"), "{deaf}");
    server.tell(&["ACL", "SETUSER", "open", "on", "nopass", "~*", "&*", "+@all"]).await;
    let (link, _) = open(&format!("redis://open@{at}/3")).await.unwrap();
    assert_eq!(link.count().await, Ok(1));
}

#[tokio::test]
async fn nobody_there_is_an_error_with_the_address() {
    let [port] = crate::broker::redis::support::port::free_ports();
    let error = refused(&format!("redis://:SECRET@127.0.0.1:{port}")).await;
    assert!(matches!(&error, ConnectError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[tokio::test]
async fn a_server_that_never_says_a_word_is_given_up() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let relay = Relay::to(server.address()).await;
    relay.stall();
    let url = format!("redis://{}", relay.address());
    let connect_timeout = Duration::from_millis(100);
    let options = RedisOptions { connect_timeout, ..RedisOptions::from_url(&url).unwrap() };
    let error = Link::open(options, Arc::new(HealthBoard::new())).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Timeout { after, .. } if after == connect_timeout),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_without_memory_is_blocked_until_it_has_some_again() {
    let Some(server) = RedisServer::start(&["--maxmemory-policy", "noeviction"]).await else {
        return;
    };
    let (link, health) = open(&server.url()).await.unwrap();
    server.tell(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let fault = link.count().await.unwrap_err();
    assert!(matches!(&fault, Fault::Full(_)) && fault.is_undone(), "{fault:?}");
    let detail = stage(&health, Stage::Blocked).await;
    assert!(detail.contains("maxmemory"), "{detail}");
    // One that comes meanwhile is told so, and takes messages out.
    let (late, late_health) = open(&server.url()).await.unwrap();
    stage(&late_health, Stage::Blocked).await;
    let exists = Script::new("return redis.call('EXISTS', KEYS[1])");
    let exists = Call::new(&exists, &[late.options.key("n")]);
    assert_eq!(late.call::<i64>(LONG, &exists).await, Ok(0));
    server.tell(&["CONFIG", "SET", "maxmemory", "0"]).await;
    stage(&health, Stage::Consuming).await;
    stage(&late_health, Stage::Consuming).await;
    assert_eq!(link.count().await, Ok(1));
}

/// Regression: a server that came back with memory was thought to have none.
#[tokio::test]
async fn a_server_that_restarts_with_memory_is_not_blocked_any_more() {
    let Some(mut server) = RedisServer::start(&[]).await else { return };
    let (link, health) = open(&server.url()).await.unwrap();
    server.tell(&["CONFIG", "SET", "maxmemory", "1"]).await;
    link.count().await.unwrap_err();
    stage(&health, Stage::Blocked).await;
    server.kill();
    stage(&health, Stage::Dialling).await;
    server.boot().await;
    stage(&health, Stage::Consuming).await;
}

#[tokio::test]
async fn a_call_without_memory_is_tried_until_there_is_some() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (link, health) = open(&server.url()).await.unwrap();
    server.tell(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let call = link.counting();
    let fault = link.call_until::<i64>(Duration::from_millis(300), Again::Undone, &call).await;
    assert!(matches!(fault, Err(Fault::Full(_))), "{fault:?}");
    let later = async {
        stage(&health, Stage::Blocked).await;
        server.tell(&["CONFIG", "SET", "maxmemory", "0"]).await;
    };
    let (counted, ()) = tokio::join!(link.call_until::<i64>(LONG, Again::Undone, &call), later);
    assert_eq!(counted, Ok(1));
}

#[tokio::test]
async fn a_server_that_lacks_replicas_or_cannot_save_is_blocked() {
    let Some(server) = RedisServer::start(&["--min-replicas-max-lag", "1"]).await else { return };
    let (link, health) = open(&server.url()).await.unwrap();
    server.tell(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let fault = link.count().await.unwrap_err();
    assert!(
        matches!(&fault, Fault::Unwritable(said) if said.starts_with("NOREPLICAS")),
        "{fault:?}"
    );
    stage(&health, Stage::Blocked).await;
    server.tell(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    stage(&health, Stage::Consuming).await;
    // A snapshot cannot replace a folder.
    std::fs::create_dir(server.folder().join("dump.rdb")).unwrap();
    server.tell(&["CONFIG", "SET", "save", "3600 1"]).await;
    server.tell(&["BGSAVE"]).await;
    let misconf = async {
        loop {
            if let Err(fault) = link.count().await {
                return fault;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let fault = timeout(LONG, misconf).await.unwrap();
    assert!(matches!(&fault, Fault::Unwritable(said) if said.starts_with("MISCONF")), "{fault:?}");
    stage(&health, Stage::Blocked).await;
    std::fs::remove_dir(server.folder().join("dump.rdb")).unwrap();
    server.tell(&["BGSAVE"]).await;
    stage(&health, Stage::Consuming).await;
}

#[tokio::test]
async fn a_replica_is_not_taken_for_a_master() {
    let Some(master) = RedisServer::start(&[]).await else { return };
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (link, health) = open(&server.url()).await.unwrap();
    assert_eq!(link.count().await, Ok(1));
    let port = master.address().port().to_string();
    server.tell(&["REPLICAOF", "127.0.0.1", &port]).await;
    // While it takes over what the master has, its own is still there.
    let fault = link.count().await.unwrap_err();
    assert!(matches!(&fault, Fault::ReadOnly(_)) && fault.is_undone(), "{fault:?}");
    let detail = stage(&health, Stage::Dialling).await;
    assert!(detail.contains("read-only replica"), "{detail}");
    let error = refused(&server.url()).await;
    assert!(matches!(error, ConnectError::ReadOnly { .. }), "{error}");
    server.tell(&["REPLICAOF", "NO", "ONE"]).await;
    let counted = link.call_until::<i64>(LONG, Again::Undone, &link.counting()).await;
    assert!(counted.is_ok(), "{counted:?}");
    stage(&health, Stage::Consuming).await;
}

#[tokio::test]
async fn keys_of_somebody_else_and_a_busy_server_are_told_apart() {
    let Some(server) = RedisServer::start(&["--busy-reply-threshold", "10"]).await else { return };
    let (link, health) = open(&server.url()).await.unwrap();
    server.tell(&["LPUSH", &link.options.key("n"), "not a number"]).await;
    let fault = link.count().await.unwrap_err();
    assert!(matches!(&fault, Fault::WrongType(_)) && !fault.is_passing(), "{fault:?}");
    server.tell(&["DEL", &link.options.key("n")]).await;
    let (killed, ()) = tokio::join!(server.say::<()>(&["EVAL", "while true do end", "0"]), async {
        let busy = async {
            loop {
                match link.count().await {
                    Err(fault @ Fault::Busy(_)) => return fault,
                    other => drop(other),
                }
            }
        };
        let fault = timeout(LONG, busy).await.expect("it is busy");
        assert!(fault.is_undone() && fault.is_passing());
        server.tell(&["SCRIPT", "KILL"]).await;
    });
    assert!(killed.is_err());
    assert_eq!(link.number(), Some(0));
    link.count().await.unwrap();
    assert!(health.watch().borrow().is_healthy());
}

#[tokio::test]
async fn a_node_of_a_cluster_is_not_taken_for_a_server_nor_servers_for_a_cluster() {
    let Some(node) = RedisServer::start(&["--cluster-enabled", "yes"]).await else { return };
    let error = refused(&node.url()).await;
    assert!(matches!(error, ConnectError::Cluster { .. }), "{error}");
    let Some(server) = RedisServer::start(&[]).await else { return };
    let error = refused(&format!("redis://{0},{0}", server.address())).await;
    assert!(matches!(error, ConnectError::NoCluster { .. }), "{error}");
}

#[tokio::test]
async fn what_was_asked_before_closing_is_answered_and_nothing_later() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (link, _) = open(&server.url()).await.unwrap();
    let bell = link.listen("counted");
    server.tell(&["CLIENT", "PAUSE", "200", "ALL"]).await;
    let call = link.counting();
    let (counted, ()) = tokio::join!(link.call::<i64>(LONG, &call), async {
        tokio::task::yield_now().await;
        link.close().await;
    });
    assert_eq!(counted, Ok(1));
    assert_eq!(link.count().await, Err(Fault::Closed));
    link.close().await;
    drop(bell);
}

#[tokio::test]
async fn many_calls_share_the_connection() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (link, _) = open(&server.url()).await.unwrap();
    let calls = (0..5000).map(|_| link.count());
    let mut counted = futures::future::try_join_all(calls).await.unwrap();
    counted.sort_unstable();
    assert!(counted.into_iter().eq(1..=5000));
    let clients: String = server.say(&["CLIENT", "LIST"]).await.unwrap();
    assert_eq!(clients.matches("name=agentbus").count(), 2, "{clients}");
}

/// Runs the test of this name in a process of its own, with these variables.
#[cfg(feature = "tls")]
async fn in_another_process(test: &str, variables: &[(&str, &str)]) {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("broker::redis::link::tests::{test}"), "--nocapture"]);
    let output = command.envs(variables.iter().copied()).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let passed = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(passed, "no such test: {test}");
}

/// Makes a certificate for `localhost`, and returns the files of it and of its key.
#[cfg(feature = "tls")]
fn certificate(folder: &std::path::Path) -> [String; 2] {
    let files = ["certificate.pem", "key.pem"].map(|name| folder.join(name).display().to_string());
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE"])
        .args(["-out", &files[0], "-keyout", &files[1]])
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    files
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn an_encrypted_connection_is_made_to_whom_the_system_trusts() {
    const URL: &str = "AGENTBUS_TEST_REDISS";
    if let Ok(url) = std::env::var(URL) {
        let (link, _) = open(&url).await.unwrap();
        let bell = link.listen("counted");
        assert_eq!(link.count().await, Ok(1));
        rings(&bell).await;
        let other = refused(&url.replace("localhost", "127.0.0.1")).await;
        assert!(matches!(other, ConnectError::Tls { .. }), "{other}");
        return;
    }
    let folder = std::env::temp_dir().join(format!("agentbus-tls-{:016x}", fastrand::u64(..)));
    std::fs::create_dir(&folder).unwrap();
    let [certificate, key] = certificate(&folder);
    let [port] =
        crate::broker::redis::support::port::free_ports().map(|port: u16| port.to_string());
    let options = ["--tls-port", &port, "--tls-auth-clients", "no"];
    let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
    let Some(server) = RedisServer::start(&[&options[..], &files[..]].concat()).await else {
        return;
    };
    let variables = [(URL, &*server.tls_url()), ("SSL_CERT_FILE", &certificate)];
    let test = "an_encrypted_connection_is_made_to_whom_the_system_trusts";
    in_another_process(test, &variables).await;
    // Nobody trusts it here.
    let error = refused(&server.tls_url()).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
    let unencrypted = refused(&server.tls_url().replace("rediss:", "redis:")).await;
    assert!(matches!(unencrypted, ConnectError::Refused { .. }), "{unencrypted}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn a_build_without_tls_never_goes_on_in_clear_text() {
    let error = refused("rediss://:SECRET@localhost").await;
    assert!(matches!(error, ConnectError::TlsNotBuilt { .. }), "{error}");
}

#[tokio::test]
async fn the_node_of_a_cluster_that_has_the_bus_is_found_wherever_it_goes() {
    let Some(mut cluster) = RedisCluster::start().await else { return };
    let (link, health) = open(&cluster.url()).await.unwrap();
    let (key, bell) = (link.options.key("n"), link.listen("counted"));
    assert_eq!(link.count().await, Ok(1));
    rings(&bell).await;
    let owner = cluster.owner(&key).await;
    let next = (owner + 1) % 3;
    cluster.move_slot(&key, next).await;
    let fault = link.count().await.unwrap_err();
    assert!(matches!(&fault, Fault::Moved(_)) && fault.is_undone(), "{fault:?}");
    let counted = link.call_until::<i64>(LONG, Again::Undone, &link.counting()).await;
    assert_eq!(counted, Ok(2));
    rings(&bell).await;
    // The others know where it was while it is away, and it comes back with everything.
    cluster.nodes[next].kill();
    stage(&health, Stage::Dialling).await;
    cluster.nodes[next].boot().await;
    let counted = link.call_until::<i64>(LONG, Again::Undone, &link.counting()).await;
    assert_eq!(counted, Ok(3));
    stage(&health, Stage::Consuming).await;
    // Any of the nodes is enough to find it.
    let seeds = cluster.nodes.iter().map(RedisServer::address);
    let seed = seeds.clone().find(|seed| *seed != cluster.nodes[next].address()).unwrap();
    let (other, _) = open(&format!("redis://127.0.0.1:1,{seed}")).await.unwrap();
    assert_eq!(other.count().await, Ok(4));
}

#[tokio::test]
async fn keys_that_a_cluster_keeps_apart_are_a_fault_of_their_own() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let (link, _) = open(&cluster.url()).await.unwrap();
    let both = Call::new(&COUNT, &["a", "b"]);
    let fault = link.call::<i64>(LONG, &both).await.unwrap_err();
    assert!(matches!(&fault, Fault::CrossSlot(_)) && !fault.is_passing(), "{fault:?}");
}

#[tokio::test]
async fn sentinels_lead_to_the_master_and_to_its_successor() {
    let Some(mut set) = RedisSentinel::start().await else { return };
    let (link, health) = open(&set.url()).await.unwrap();
    assert_eq!(link.count().await, Ok(1));
    let followed: i64 = set.master.say(&["WAIT", "1", "5000"]).await.unwrap();
    assert_eq!(followed, 1);
    set.master.kill();
    stage(&health, Stage::Dialling).await;
    let counted = link.call_until::<i64>(LONG, Again::Undone, &link.counting()).await;
    assert_eq!(counted, Ok(2));
    let there: i64 = set.replica.say(&["GET", &link.options.key("n")]).await.unwrap();
    assert_eq!(there, 2);
    stage(&health, Stage::Consuming).await;
}

#[tokio::test]
async fn a_sentinel_that_cannot_help_is_an_error_that_says_so() {
    let Some(set) = RedisSentinel::start().await else { return };
    let unknown = refused(&set.url().replace("/main", "/other")).await;
    assert!(
        matches!(&unknown, ConnectError::NoMaster { master, .. } if master == "other"),
        "{unknown}"
    );
    let none = refused(
        &set.url().replace(&set.sentinel.address().to_string(), &set.master.address().to_string()),
    )
    .await;
    assert!(matches!(none, ConnectError::NoSentinel { .. }), "{none}");
}
