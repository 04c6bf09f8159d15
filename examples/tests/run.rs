//! Runs every example and compares what it prints, to the letter.

#[path = "../../tests/support/rabbitmq/mod.rs"]
mod rabbitmq;

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use agentbus::Config;
use futures::future::join_all;
use tokio::{process::Command, time::timeout};

/// How long an example may take. None needs more than a few seconds; this is for one that hangs.
const LIMIT: Duration = Duration::from_mins(1);

struct Example {
    name: &'static str,
    program: &'static str,
    prints: &'static str,
}

/// Makes the table: each example's name, and what it prints, from the second line of the text on.
macro_rules! examples {
    ($($(#[$attribute:meta])* $name:literal => $prints:literal,)*) => {
        &[$($(#[$attribute])* Example {
            name: $name,
            program: env!(concat!("CARGO_BIN_EXE_", $name)),
            prints: $prints,
        },)*]
    };
}

const EXAMPLES: &[Example] = examples! {
    "hello_agent" => "
Hello, world!
",
    "request_reply" => "
tea: 12 pieces
coffee: we have no coffee (NOT_FOUND); available: sand, tea
sand: no reply in 200ms
nobody answers `stock.reserve`: no queue is bound to it; start an agent that routes it
",
    "publish_subscribe" => "
order.item.returned reached audit
order.item.returned reached returns
order.paid reached audit
order.paid reached ledger
order.placed reached audit
order.placed reached ledger
",
    "addressing" => "
engineer-e2: to e2
engineer-e1: to engineers
engineer-e2: to engineers
engineer-e1: to all
engineer-e2: to all
librarian-l1: to all
",
    "conversation" => "
zcash: Halving is near
tulips: no news is good news
tomorrow: no reply on `news.find` within 2s
",
    "raw_envelopes" => r#"
parcel.sorted.nz, from sorter
header scanner: 4
examples.v1.ParcelLabel {
  "number": "CH-17",
  "country": "nz"
}
examples.v1.ParcelLabelNext {
  "number": "CH-17",
  "country": "nz",
  "handling": "this side up"
}
"#,
    "publisher" => "
nobody listens yet; worth another try: true
sent again under the same id: true
1000 confirmed
1001 received, the last of 100.0 degrees
",
    "subscriber" => "
answered: The printer is on fire
rejected: You have won!
released: Where is my order?
answered: Where is my order?
",
    "failures" => "
attempt 3: 1250 cents to Ann
dead letter (rejected): -1 cents cannot be paid
it can still be read: Bob
",
    "contract_terms" => r#"
a quote may take Some(10s)
{"cents":"12050","validUntil":"2030-01-01T00:00:00Z"}
it reads back the same: true
a request of priority 8
withdrawn, attempt 1
withdrawn, attempt 2
withdrawn, attempt 3
"#,
    #[cfg(feature = "sqlite")]
    "durable" => "
asked; nobody is there now
zcash: Halving is near
",
    "batches" => "
a batch of 4
a batch of 4
a batch of 2
",
    "middleware" => "
12345: the password is wrong (PERMISSION_DENIED)
swordfish: inside is a smaller vault
",
};

/// The queues that stay when an example has ended; those of single subscribers expire.
const QUEUES: &[&str] = &[
    "audit",
    "click-counter",
    "desk",
    "engineer-e1",
    "engineer-e2",
    "greeter",
    "ledger",
    "librarian-l1",
    "news",
    "payments",
    "query",
    "returns",
    "sorter",
    "stock",
    "support-desk",
    "vault",
];

/// Runs all examples at once on the bus at `url`, with the names of `config`, and returns what went
/// wrong.
///
/// They share no topic and no queue, so one bus does for all of them.
async fn run_on(url: &str, config: &Config) -> Vec<String> {
    let runs = join_all(EXAMPLES.iter().map(|example| example.run(url, config))).await;
    runs.into_iter().filter_map(Result::err).collect()
}

impl Example {
    /// Names of its own, since several examples have the same agents.
    fn apart(&self, config: &Config) -> Config {
        let (exchange, prefix) = (&config.exchange, &config.queue_prefix);
        let config = config.clone().with_exchange(format!("{exchange}.{}", self.name));
        config.with_queue_prefix(format!("{prefix}{}.", self.name))
    }

    async fn run(&self, url: &str, config: &Config) -> Result<(), String> {
        let mut command = Command::new(self.program);
        let chooses_a_bus = |variable: &str| {
            ["AGENTBUS_", "RABBITMQ_", "REDIS_", "QUEUE_", "MESSAGE_QUEUE_"]
                .iter()
                .any(|prefix| variable.starts_with(prefix))
        };
        for (variable, _) in std::env::vars_os() {
            if variable.to_str().is_some_and(chooses_a_bus) {
                command.env_remove(variable);
            }
        }
        command.env("AGENTBUS_URL", url);
        let config = self.apart(config);
        command.env("AGENTBUS_EXCHANGE", &config.exchange);
        command.env("AGENTBUS_QUEUE_PREFIX", &config.queue_prefix);
        let output = command.kill_on_drop(true).output();
        let Ok(output) = timeout(LIMIT, output).await else {
            return Err(format!("`{}` has not ended after {LIMIT:?}", self.name));
        };
        let output = output.expect("the example starts");
        let printed = String::from_utf8_lossy(&output.stdout);
        let expected = self.prints.trim_start();
        if output.status.success() && printed == expected {
            return Ok(());
        }
        Err(format!(
            "`{}` ended with {}\n--- expected\n{expected}--- printed\n{printed}--- complaints\n{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr),
        ))
    }
}

#[tokio::test]
async fn every_example_prints_what_it_should_on_the_embedded_bus() {
    let failures = run_on("memory:", &Config::default()).await;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn every_example_prints_what_it_should_on_rabbitmq() {
    let Some(config) = rabbitmq::config() else { return };
    let failures = run_on(&rabbitmq::address(&config), &config).await;
    sweep(&config);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Removes the queues of all examples, and the exchanges.
fn sweep(config: &Config) {
    for example in EXAMPLES {
        let config = example.apart(config);
        let queues = QUEUES.iter().map(|queue| format!("{}{queue}", config.queue_prefix));
        let queues = queues.flat_map(|queue| [format!("{queue}.dlq"), queue]).collect();
        rabbitmq::sweep(&config, queues);
    }
    // `addressing` has an exchange of its own.
    let config = config.clone().with_exchange("stage7");
    rabbitmq::sweep(&config, BTreeSet::new());
}

#[test]
fn every_program_is_in_the_table() {
    let manifest = read("Cargo.toml");
    let mut programs: Vec<_> = manifest
        .split("[[bin]]")
        .skip(1)
        .filter_map(|program| program.split_once("name = \"")?.1.split_once('"'))
        .map(|(name, _)| name)
        .collect();
    let mut examples: Vec<_> = EXAMPLES.iter().map(|example| example.name).collect();
    if !cfg!(feature = "sqlite") {
        examples.push("durable");
    }
    programs.sort_unstable();
    examples.sort_unstable();
    assert_eq!(programs, examples);

    let files = fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("the package's directory");
    let mut sources: Vec<_> = files
        .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
        .filter_map(|file| Some(file.strip_suffix(".rs")?.to_owned()))
        .filter(|file| file != "build")
        .collect();
    sources.sort_unstable();
    assert_eq!(sources, examples);
}

#[test]
fn every_example_is_short_and_says_how_to_run_it() {
    for Example { name, .. } in EXAMPLES {
        let source = read(&format!("{name}.rs"));
        let count = source.lines().count();
        assert!(count < 100, "`{name}.rs` has {count} lines");
        let features = if *name == "durable" { "--features sqlite " } else { "" };
        let run = format!("//! Run it with `cargo run -p examples {features}--bin {name}`.");
        assert_eq!(source.lines().nth(1), Some(run.as_str()), "the second line of `{name}.rs`");
    }
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()))
}
