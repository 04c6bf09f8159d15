//! A server that speaks RabbitMQ's management API, as its documentation has it: where the tests run,
//! RabbitMQ comes without. And what the program makes of it.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use agentbus::{Config, config::BusUrl};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    program::{on, run},
    support::{bus::Bus, rabbitmq},
};

/// The API, which knows what it is told by path.
pub(crate) struct Management {
    address: String,
}

impl Management {
    /// Serves until the process ends.
    pub(crate) fn serve(answers: impl IntoIterator<Item = (String, Value)>) -> Self {
        let answers: BTreeMap<String, Value> = answers.into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is none of ours.
                drop(answer(stream, &answers));
            }
        });
        Self { address }
    }

    pub(crate) fn url(&self, password: &str) -> String {
        format!("http://monitor:{password}@{}", self.address)
    }
}

fn answer(mut stream: TcpStream, answers: &BTreeMap<String, Value>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let wanted = format!("Basic {}", BASE64_STANDARD.encode("monitor:s3cret"));
    let mut allowed = false;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap_or_default();
        allowed |= name.eq_ignore_ascii_case("authorization") && value == wanted;
    }
    let (status, body) = match answers.get(&path) {
        _ if !allowed => ("401 Unauthorized", json!({ "error": "not_authorised" })),
        None => ("404 Not Found", json!({ "error": "Object Not Found" })),
        Some(body) => ("200 OK", body.clone()),
    };
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The virtual host, as a path has it.
pub(crate) fn vhost(config: &Config) -> String {
    let BusUrl::Amqp(url) = &config.bus else { panic!("{} is not RabbitMQ", config.bus) };
    url.vhost().replace('/', "%2F")
}

#[tokio::test]
async fn all_queues_are_listed_but_those_that_delays_go_through() {
    let Some(config) = rabbitmq::config() else { return };
    let (prefix, exchange) = (&config.queue_prefix, &config.exchange);
    let queue = |name: String, ready: u32| {
        json!({ "name": name, "vhost": "v", "type": "quorum", "durable": true, "state": "running",
            "arguments": { "x-queue-type": "quorum" }, "messages": ready + 1,
            "messages_ready": ready, "messages_unacknowledged": 1, "consumers": 2 })
    };
    let queues = json!([
        queue(format!("{prefix}data"), 7),
        queue(format!("{exchange}.delay.v1.03"), 1),
        queue(format!("{exchange}.delay.v1.undeliverable"), 0),
        queue("of somebody else".to_owned(), 0),
        // Just made: nothing was counted yet.
        { "name": format!("{prefix}data.dlq"), "vhost": "v", "arguments": {} },
    ]);
    let api = Management::serve([(format!("/api/queues/{}", vhost(&config)), queues)]);
    let list = |password: &str, arguments: &[&str]| {
        let arguments = [&["queues", "list"], arguments].concat();
        let mut command = on(&config, &arguments);
        command.env("AGENTBUS_MANAGEMENT_URL", api.url(password));
        run(command)
    };
    let said = list("s3cret", &["--json"]).await.with_code(0);
    let names: Vec<_> = said.json().iter().map(|row| row["queue"].clone()).collect();
    let expected = [
        format!("{prefix}data"),
        format!("{prefix}data.dlq"),
        format!("{exchange}.delay.v1.undeliverable"),
    ];
    assert_eq!(names, expected);
    assert_eq!(said.json()[0]["unsettled"], 1);
    let said = list("s3cret", &["--agent", "data"]).await.with_code(0);
    assert!(said.out.contains('?') && said.out.contains('7'), "{}", said.out);
    list("s3cret", &["missing"]).await.with_code(1);
    let said = list("WRONG", &[]).await.with_code(1);
    assert!(said.err.contains("wrong password") && !said.err.contains("WRONG"), "{}", said.err);
}

#[tokio::test]
async fn without_it_names_are_needed() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let said = run(on(&bus.config, &["queues", "list"])).await.with_code(2);
    assert!(said.err.contains("cannot be checked: ") && said.err.contains("--agent"), "{said:?}");
}

#[tokio::test]
async fn an_address_that_is_none_is_not_shown() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let mut command = on(&bus.config, &["queues", "list", "q"]);
    command.env("AGENTBUS_MANAGEMENT_URL", "https://me:SECRET@host");
    let said = run(command).await.with_code(2);
    assert!(said.err.contains("AGENTBUS_MANAGEMENT_URL"), "{}", said.err);
    assert!(!said.err.contains("SECRET"), "{}", said.err);
}
