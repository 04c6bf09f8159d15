//! A place on a RabbitMQ where tests disturb nobody.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test binary uses a part of it

#[path = "../support/rabbitmq/mod.rs"]
mod rabbitmq;

use std::{collections::BTreeSet, sync::Mutex, thread};

use agentbus::{
    Config,
    broker::rabbitmq::{Host, RabbitMq, RabbitOptions},
    config::BusUrl,
};

/// An exchange and names of one test's own, in the virtual host of the run or in one of its own.
#[derive(Debug)]
pub struct Vhost {
    pub options: RabbitOptions,
    config: Config,
    /// Whether the virtual host is this test's alone, and goes with it.
    own: bool,
    /// Names that were given out, and may be those of queues.
    names: Mutex<BTreeSet<String>>,
}

impl Vhost {
    /// Returns a place in the virtual host of this run, or why there is none.
    pub async fn shared() -> Result<Self, String> {
        let found = tokio::task::spawn_blocking(rabbitmq::reach).await;
        let config = found.expect("looking for a broker does not panic")?;
        Ok(Self { options: options(&config), config, own: false, names: Mutex::default() })
    }

    /// Makes a virtual host for a test that closes everybody's connections, or says why not.
    pub async fn alone() -> Result<Self, String> {
        let mut vhost = Self::shared().await?;
        let name = format!("agentbus-test-{}", uuid::Uuid::now_v7().simple());
        let options = &mut vhost.options;
        vhost.own = ctl(&["add_vhost", &name]).await
            && ctl(&["set_permissions", "-p", &name, &options.user, ".*", ".*", ".*"]).await;
        if !vhost.own {
            return Err("it needs a virtual host of its own, and `rabbitmqctl` is denied".into());
        }
        options.vhost = name;
        Ok(vhost)
    }

    /// Connects to it.
    pub async fn connect(&self) -> RabbitMq {
        RabbitMq::connect(self.options.clone()).await.expect("the broker was there a moment ago")
    }

    /// Connects to it as a client in another language would.
    pub async fn foreign(&self) -> (lapin::Connection, lapin::Channel) {
        let RabbitOptions { hosts, user, password, .. } = &self.options;
        let vhost = self.options.vhost.replace('/', "%2f");
        let url = format!("amqp://{user}:{password}@{}/{vhost}", hosts[0]);
        let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default());
        let connection = connection.await.expect("the broker was there a moment ago");
        let channel = connection.create_channel().await.expect("a new connection has channels");
        (connection, channel)
    }

    /// Returns the name of a queue or topic.
    pub fn name(&self, name: &str) -> String {
        let name = format!("{}{name}", self.config.queue_prefix);
        self.names.lock().unwrap().extend([name.clone(), format!("{name}.dlq")]);
        name
    }

    /// Remembers a queue that is to be removed.
    pub fn remember(&self, queue: String) {
        self.names.lock().unwrap().insert(queue);
    }

    /// Counts the connections to it.
    pub async fn connections(&self) -> usize {
        self.count(&["list_connections", "vhost"]).await
    }

    /// Counts the channels in it.
    pub async fn channels(&self) -> usize {
        self.count(&["list_channels", "vhost"]).await
    }

    /// Returns the highest number that a channel in it has.
    pub async fn highest_channel(&self) -> u32 {
        let listed = asked(&["list_channels", "vhost", "number"]).await;
        let numbers = listed.lines().filter_map(|line| {
            let (vhost, number) = line.trim().split_once(char::is_whitespace)?;
            (vhost == self.options.vhost).then(|| number.trim().parse().expect("a number"))
        });
        numbers.max().expect("a channel")
    }

    /// Counts the consumers in it.
    pub async fn consumers(&self) -> usize {
        let vhost = &self.options.vhost;
        let arguments = ["list_consumers", "-p", vhost, "--no-table-headers"];
        asked(&arguments).await.lines().count()
    }

    /// Counts what is listed with its virtual host.
    async fn count(&self, arguments: &[&str]) -> usize {
        let listed = asked(arguments).await;
        listed.lines().filter(|line| line.trim() == self.options.vhost).count()
    }

    /// Cuts all connections to it.
    pub async fn cut_connections(&self) {
        let vhost = &self.options.vhost;
        assert!(
            ctl(&["close_all_connections", "-p", vhost, "cut by a test"]).await,
            "cannot close the connections"
        );
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        if self.own {
            let deleted = rabbitmq::control(&["delete_vhost", &self.options.vhost]);
            let ignored = thread::panicking();
            assert!(deleted || ignored, "`{}` could not be removed", self.options.vhost);
            return;
        }
        let names = std::mem::take(&mut *self.names.lock().unwrap());
        rabbitmq::sweep(&self.config, names);
    }
}

/// Says why a test is skipped; fails where skipping is not allowed.
pub fn skip<T>(reached: Result<T, String>) -> Option<T> {
    reached.map_err(|reason| rabbitmq::skipped(&reason)).ok()
}

fn options(config: &Config) -> RabbitOptions {
    let BusUrl::Amqp(url) = &config.bus else { unreachable!("a RabbitMQ was found") };
    RabbitOptions {
        hosts: url.hosts().map(|(name, port)| Host { name: name.to_owned(), port }).collect(),
        user: url.username().to_owned(),
        password: url.password().to_owned(),
        vhost: url.vhost().to_owned(),
        exchange: config.exchange.clone().into(),
        connect_timeout: config.connect_timeout,
        ..RabbitOptions::default()
    }
}

async fn ctl(arguments: &[&str]) -> bool {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let ran = tokio::task::spawn_blocking(move || {
        rabbitmq::control(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    });
    ran.await.unwrap_or(false)
}

/// Returns what `rabbitmqctl` prints.
async fn asked(arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let what = arguments.join(" ");
    let ran = tokio::task::spawn_blocking(move || {
        rabbitmq::control::asked(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let printed = ran.await.expect("it does not panic");
    printed.unwrap_or_else(|| panic!("`rabbitmqctl {what}` did not answer"))
}
