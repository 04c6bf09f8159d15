//! Addresses and settings: read or an error, and no password is ever shown.
#![no_main]

use agentbus::{Config, config::BusUrl};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "hunter2-hunter2";

fuzz_target!(|input: (&str, &str, u8, &str)| {
    let (before, after, which, value) = input;
    // With these before it, it would not be a password but a part of the virtual host.
    if before.contains(['/', '?', '#', '\\']) {
        return;
    }
    let text = format!("amqp://{before}:{SECRET}@{after}");
    let shown = match text.parse::<BusUrl>() {
        Ok(bus) => format!("{bus} {bus:?} {:?}", Config::default().with_bus(bus.clone())),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!shown.contains(SECRET), "{shown}");

    const NAMES: [&str; 6] = [
        "AGENTBUS_URL",
        "AGENTBUS_PREFETCH",
        "AGENTBUS_REQUEST_TIMEOUT",
        "AGENTBUS_EXCHANGE",
        "RABBITMQ_HOST",
        "RABBITMQ_PORT",
    ];
    drop(Config::from_vars([(NAMES[usize::from(which) % NAMES.len()], value)]));
});
