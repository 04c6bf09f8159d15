//! Finds a Redis to test on, and keeps the tests away from everybody else's keys.
//!
//! The address is `REDIS_URL`, or localhost. Each test has a bus of its own, whose keys are removed
//! with it.

use std::{
    env,
    io::{Write as _, stderr},
    sync::Once,
};

use agentbus::{Config, config::BusUrl};

/// Returns where the tests find Redis.
pub fn url() -> String {
    env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned())
}

/// Returns the configuration of a bus that nobody else has; `None` where there is no Redis, which
/// has been said then.
pub fn config() -> Option<Config> {
    let client = redis::Client::open(url()).expect("REDIS_URL is an address");
    if let Err(error) = client.get_connection() {
        skip(&error.to_string());
        return None;
    }
    let mut config = Config::default();
    config.discovery = false;
    config.bus = url().parse().expect("REDIS_URL is an address of Redis");
    config.exchange = format!("agentbus-test-{:012x}", fastrand::u64(..1 << 48));
    Some(config)
}

/// Removes the keys of a bus.
pub fn sweep(config: &Config) {
    let BusUrl::Redis(_) = &config.bus else { return };
    let Ok(mut connection) = redis::Client::open(url()).and_then(|it| it.get_connection()) else {
        return;
    };
    let pattern = format!("agentbus:{{{}}}:*", config.exchange);
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(pattern).query(&mut connection).unwrap_or_default();
    for keys in keys.chunks(500) {
        let _: Result<u64, _> = redis::cmd("UNLINK").arg(keys).query(&mut connection);
    }
}

fn skip(reason: &str) {
    static TOLD: Once = Once::new();
    let required = env::var_os("AGENTBUS_REQUIRE_REDIS").is_some_and(|set| set != "0");
    assert!(!required, "Redis cannot be tried, and AGENTBUS_REQUIRE_REDIS requires it: {reason}");
    TOLD.call_once(|| {
        let _ = writeln!(stderr(), "redis skipped: {reason}");
    });
}
