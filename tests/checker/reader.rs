//! A reader: a process with the agents that handle jobs and log what they did.
//!
//! It is this test binary, started once more; see [`orders`].

use std::{env, io::Read as _, path::PathBuf, sync::Arc, time::Duration};

use agentbus::{
    Agent, Client, Config, Context, HandlerError, RequestError, RequestOptions, Routes, Runtime,
    broker::ConnectError,
};
#[cfg(feature = "redis")]
use agentbus::{
    broker::redis::{Redis, RedisOptions},
    config::BusUrl,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{
    log::{Line, Log, What},
    messages::{ASK, Done, JOB, Job, Kind, PULSE, Pending, STEP, WHEN_DONE},
};

/// Where a process finds its orders; one without any is no reader.
const ORDERS: &str = "AGENTBUS_CHECKER_READER";

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(10);

/// What a reader is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    pub url: String,
    pub exchange: String,
    pub heartbeat: u64,
    /// How long a message stays with a reader that is gone, in seconds, where there are leases.
    pub lease: u64,
    pub log: PathBuf,
    /// Whether it says that it is done before it has done anything: a mistake, to be found out.
    pub careless: bool,
}

impl Orders {
    /// Returns the environment variable that makes a process this reader.
    pub fn variable(&self) -> (&'static str, String) {
        (ORDERS, serde_json::to_string(self).expect("orders are plain data"))
    }

    /// Connects to the bus, as readers and writers do alike.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        let config = self.config();
        #[cfg(feature = "redis")]
        if let BusUrl::Redis(url) = &config.bus {
            let options = RedisOptions {
                exchange: config.exchange.clone().into(),
                heartbeat: config.heartbeat,
                lease: Duration::from_secs(self.lease),
                ..RedisOptions::from(url)
            };
            let broker = Redis::connect(options).await?;
            return Ok(Client::with_config(Arc::new(broker), config));
        }
        Client::connect(config).await
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.bus = self.url.parse().expect("the address of a broker");
        config.exchange.clone_from(&self.exchange);
        config.queue_prefix = format!("{}.", self.exchange);
        config.heartbeat = Duration::from_secs(self.heartbeat);
        config
    }
}

/// Returns the orders of this process, if it is a reader.
pub fn orders() -> Option<Orders> {
    let orders = env::var(ORDERS).ok()?;
    Some(serde_json::from_str(&orders).expect("orders are written by `Orders::variable`"))
}

/// Works until the input ends: when the process that started this one says so, or is gone.
pub async fn run(orders: Orders) {
    let log = Arc::new(Log::create(&orders.log).expect("a log can be made"));
    // Dialling is only tried once by itself, and the broker may be down just now.
    let client = loop {
        match orders.connect().await {
            Ok(client) => break client,
            Err(error) => eprintln!("cannot connect: {error}"),
        }
        sleep(Duration::from_millis(100)).await;
    };
    let agents = loop {
        let worker = Worker { log: Arc::clone(&log), careless: orders.careless };
        let second = Second { log: Arc::clone(&log) };
        match Runtime::new(client.clone()).agent(worker).agent(second).start().await {
            Ok(agents) => break agents,
            Err(error) => eprintln!("cannot start: {error}"),
        }
        sleep(Duration::from_millis(100)).await;
    };
    log.append(&Line::bare(What::Ready));
    let input = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    drop(input.await);
    agents.stop().await;
    client.close().await;
    log.append(&Line::bare(What::Stopped));
}

fn line(what: What, job: &Job, ctx: &Context) -> Line {
    Line {
        job: job.number,
        message_id: ctx.message_id().map(ToString::to_string).unwrap_or_default(),
        attempt: ctx.attempt(),
        redelivered: ctx.is_redelivered(),
        ..Line::bare(what)
    }
}

/// Handles jobs.
struct Worker {
    log: Arc<Log>,
    careless: bool,
}

impl Agent for Worker {
    fn name(&self) -> &'static str {
        "worker"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new()
            .on(JOB, Self::job)
            .on_each(PULSE, Self::pulse)
            .on_reply(WHEN_DONE, Self::when_done)
    }
}

impl Worker {
    async fn job(&self, job: Job, ctx: &Context) -> Result<(), HandlerError> {
        self.log.append(&line(What::Begun, &job, ctx));
        let work = sleep(Duration::from_millis(job.millis.into()));
        if self.careless {
            let (log, done) = (Arc::clone(&self.log), line(What::Handled, &job, ctx));
            tokio::spawn(async move {
                work.await;
                log.append(&Line { at: super::log::now(), ..done });
            });
            return Ok(());
        }
        work.await;
        self.end(&job, ctx, self.effect(&job, ctx).await)
    }

    /// What a job does beside taking its time.
    async fn effect(&self, job: &Job, ctx: &Context) -> Result<(), HandlerError> {
        match job.kind() {
            Kind::Flaky if ctx.attempt() <= job.failures => Err(failure("fails at first").into()),
            Kind::Doomed if job.failures == 0 => Err(HandlerError::reject("no use")),
            Kind::Doomed => Err(failure("fails always").into()),
            Kind::Chained => {
                ctx.publish(STEP, job).await?;
                Ok(())
            }
            Kind::Errand => {
                let (state, options) =
                    (Pending { number: job.number }, RequestOptions::default().timeout(ANSWER));
                let asked = ctx.request_later_with(WHEN_DONE, job, &state, options).await?;
                let message_id = asked.to_string();
                self.log.append(&Line { message_id, ..line(What::Asked, job, ctx) });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end(
        &self,
        job: &Job,
        ctx: &Context,
        result: Result<(), HandlerError>,
    ) -> Result<(), HandlerError> {
        let what = if result.is_ok() { What::Handled } else { What::Failed };
        self.log.append(&line(what, job, ctx));
        result
    }

    async fn pulse(&self, job: Job, ctx: &Context) -> Result<(), HandlerError> {
        self.log.append(&line(What::Pulse, &job, ctx));
        Ok(())
    }

    async fn when_done(
        &self,
        _: Result<Done, RequestError>,
        pending: Pending,
        ctx: &Context,
    ) -> Result<(), HandlerError> {
        let job = Job { number: pending.number, ..Job::default() };
        let message_id = ctx.correlation_id().map(ToString::to_string).unwrap_or_default();
        self.log.append(&Line { message_id, ..line(What::Followed, &job, ctx) });
        Ok(())
    }
}

/// Handles what jobs publish, and answers.
struct Second {
    log: Arc<Log>,
}

impl Agent for Second {
    fn name(&self) -> &'static str {
        "second"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(STEP, Self::step).on(ASK, Self::answer)
    }
}

impl Second {
    async fn step(&self, job: Job, ctx: &Context) -> Result<(), HandlerError> {
        self.log.append(&line(What::Begun, &job, ctx));
        sleep(Duration::from_millis(job.millis.into())).await;
        self.log.append(&line(What::Stepped, &job, ctx));
        Ok(())
    }

    async fn answer(&self, job: Job, ctx: &Context) -> Result<Done, HandlerError> {
        sleep(Duration::from_millis(job.millis.into())).await;
        self.log.append(&line(What::Answered, &job, ctx));
        Ok(Done { number: job.number })
    }
}

fn failure(text: &str) -> std::io::Error {
    std::io::Error::other(text.to_owned())
}
