//! What is Redis's own: a server that is killed and comes back, and one that refuses.

use std::{
    env,
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Once,
    time::Duration,
};

use agentbus::store::{Begun, Conversations as _, Deduplication as _, StoreError, redis::Redis};

use crate::{
    backend::Place,
    conversations::conversation,
    deduplication::{key, reply},
    port::free_ports,
};

const MINUTE: Duration = Duration::from_mins(1);

/// Keys of one test's own, which go with it.
pub(crate) struct Keys {
    pub(crate) redis: Redis,
    client: redis::Client,
    name: String,
}

impl Drop for Keys {
    fn drop(&mut self) {
        let remove = || -> redis::RedisResult<()> {
            let mut connection = self.client.get_connection()?;
            let pattern = format!("agentbus:{{{}}}:*", self.name);
            let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut connection)?;
            keys.iter().try_for_each(|key| redis::cmd("DEL").arg(key).query(&mut connection))
        };
        if let Err(error) = remove() {
            eprintln!("keys of a test stay behind: {error}");
        }
    }
}

/// Finds the Redis of the tests; `None` where there is none, which has been said then.
pub(crate) async fn place() -> Option<Place> {
    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let client = redis::Client::open(url.as_str()).expect("REDIS_URL is an address");
    if let Err(error) = client.get_multiplexed_async_connection().await {
        skip(&error.to_string());
        return None;
    }
    let name = format!("test-{:016x}", fastrand::u64(..));
    let redis = Redis::open(&url).unwrap().named(&name);
    Some(Place::Redis(Box::new(Keys { redis, client, name })))
}

fn skip(reason: &str) {
    static TOLD: Once = Once::new();
    let required = env::var_os("AGENTBUS_REQUIRE_REDIS").is_some_and(|set| set != "0");
    assert!(!required, "Redis cannot be tried, and AGENTBUS_REQUIRE_REDIS requires it: {reason}");
    TOLD.call_once(|| {
        let _ = writeln!(std::io::stderr(), "stores: redis skipped: {reason}");
    });
}

/// A server of a test's own, with its data in a directory that goes with it.
struct Server {
    port: u16,
    directory: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts a server; `None` where Redis is not installed, which has been said then.
    async fn start() -> Option<Self> {
        let [port] = free_ports();
        let directory = env::temp_dir().join(format!("agentbus-redis-{:016x}", fastrand::u64(..)));
        std::fs::create_dir(&directory).unwrap();
        let mut server = Self { port, directory, child: None };
        server.run().await.then_some(server)
    }

    async fn run(&mut self) -> bool {
        let started = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(&self.directory)
            .stdout(Stdio::null())
            .spawn();
        match started {
            Ok(child) => self.child = Some(child),
            Err(error) => {
                skip(&format!("`redis-server` cannot be started: {error}"));
                return false;
            }
        }
        let answers = async {
            while self.say(&["PING"]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(MINUTE, answers).await.expect("the server starts");
        true
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn say(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// Calls until the store is there again.
async fn surely<T>(mut call: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    let called = async {
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(StoreError::Unavailable(_)) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(MINUTE, called).await.expect("the store comes back")
}

#[tokio::test]
async fn a_server_that_was_killed_has_not_said_no_and_still_knows() {
    let Some(mut server) = Server::start().await else { return };
    let redis = Redis::open(&server.url()).unwrap();
    let (store, handled) = (redis.conversations(), redis.deduplication());
    let saved = conversation("a", 30 * MINUTE);
    store.save(saved.clone()).await.unwrap();
    assert_eq!(handled.begin(&key("1"), &"x".into()).await.unwrap(), Begun::New);
    handled.done(&key("1"), &"x".into(), reply(9)).await.unwrap();
    server.kill();
    let id = "a".into();
    for _ in 0..2 {
        let taken = store.take("query", &id).await;
        assert!(matches!(taken, Err(StoreError::Unavailable(_))), "{taken:?}");
        let begun = handled.begin(&key("1"), &"y".into()).await;
        assert!(matches!(begun, Err(StoreError::Unavailable(_))), "{begun:?}");
        let refused = store.save(conversation("b", MINUTE)).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    assert!(server.run().await);
    let begun = surely(async || handled.begin(&key("1"), &"y".into()).await).await;
    assert_eq!(begun, Begun::Done(reply(9)));
    assert_eq!(surely(async || store.take("query", &id).await).await, Some(saved));
    assert_eq!(surely(async || store.take("query", &id).await).await, None);
}

#[tokio::test]
async fn a_take_whose_answer_was_lost_is_answered_again() {
    let Some(server) = Server::start().await else { return };
    let redis = Redis::open(&server.url()).unwrap();
    let store = redis.conversations();
    for round in 0..5 {
        let id = format!("{round}");
        let saved = conversation(&id, 30 * MINUTE);
        store.save(saved.clone()).await.unwrap();
        // Writes are done, and no answer comes until the pause is over.
        server.say(&["CLIENT", "PAUSE", "4000", "ALL"]).await.unwrap();
        let id = saved.id.clone();
        let lost = store.take("query", &id).await;
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
        assert_eq!(surely(async || store.take("query", &id).await).await, Some(saved));
        assert_eq!(store.take("query", &id).await.unwrap(), None);
        if round == 1 {
            break;
        }
    }
}

#[tokio::test]
async fn a_server_that_refuses_has_not_said_no() {
    let Some(server) = Server::start().await else { return };
    let redis = Redis::open(&server.url()).unwrap();
    let store = redis.conversations();
    let saved = conversation("a", 30 * MINUTE);
    store.save(saved.clone()).await.unwrap();
    let [nobody] = free_ports();
    server.say(&["REPLICAOF", "127.0.0.1", &nobody.to_string()]).await.unwrap();
    let taken = store.take("query", &"a".into()).await;
    assert!(matches!(taken, Err(StoreError::Unavailable(_))), "{taken:?}");
    server.say(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    server.say(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    let refused = store.save(conversation("b", MINUTE)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    server.say(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    assert_eq!(store.take("query", &"a".into()).await.unwrap(), Some(saved));
}

#[test]
fn an_address_that_cannot_be_read_is_an_error_without_the_password() {
    let error = Redis::open("rediss:/me:secret@nowhere:port").unwrap_err();
    let text = agentbus::Report::from(error).to_string();
    assert!(text.contains("redis://") && !text.contains("secret"), "{text}");
}
