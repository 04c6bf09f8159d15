//! What a message costs on the embedded bus: allocations, and instructions where valgrind is
//! there. Both are the same in every run, unlike time, so that noise hides no regression.
//!
//! A change that makes a figure worse by more than its tolerance fails; one that makes it better
//! by as much fails, too, until the better figure is recorded here.

use std::{
    alloc::System,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use agentbus::{
    Agent, Client, Context, HandlerError, Routes, Rpc, Runtime, Topic, broker::memory::Memory,
};
use futures::{StreamExt, stream};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::sync::Notify;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SAID: Topic<String> = Topic::new("costs.said");
const ECHO: Rpc<String, String> = Rpc::new("costs.echo");

/// Tells the process under valgrind what to do, and how often.
const WORKLOAD: &str = "AGENTBUS_COSTS_WORKLOAD";
const MESSAGES: &str = "AGENTBUS_COSTS_MESSAGES";

/// How many are published before they are waited for.
const BURST: usize = 16;

/// What a message of a workload costs: allocations, and thousands of instructions in a debug build.
struct Recorded {
    workload: Workload,
    allocations: f64,
    instructions: f64,
}

/// A tenth of an allocation is what growing buffers may cost.
const ALLOCATIONS_TOLERANCE: f64 = 0.1;

/// Other compilers and tokios differ by about as much.
const INSTRUCTIONS_TOLERANCE: f64 = 0.15;

const RECORDED: [Recorded; 3] = [
    Recorded { workload: Workload::Publish, allocations: 2.19, instructions: 21.3 },
    Recorded { workload: Workload::Pipe, allocations: 4.19, instructions: 49.3 },
    Recorded { workload: Workload::Request, allocations: 7.0, instructions: 112.3 },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Workload {
    /// Into a queue that nobody takes from.
    Publish,
    /// Published, routed, decoded, handled, settled.
    Pipe,
    /// Asked, and answered.
    Request,
}

struct Counter {
    handled: Arc<AtomicUsize>,
    burst: Arc<Notify>,
}

impl Agent for Counter {
    fn name(&self) -> &'static str {
        "costs"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(SAID, Self::said).on(ECHO, Self::echo)
    }
}

impl Counter {
    async fn said(&self, text: String, _: &Context) -> Result<(), HandlerError> {
        std::hint::black_box(text);
        if (self.handled.fetch_add(1, Relaxed) + 1).is_multiple_of(BURST) {
            self.burst.notify_one();
        }
        Ok(())
    }

    async fn echo(&self, text: String, _: &Context) -> Result<String, HandlerError> {
        Ok(text)
    }
}

/// Does the work, and returns how many allocations it took, without what starts and ends it.
fn run(workload: Workload, messages: usize) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let client = Client::new(Memory::default());
        let (handled, burst) = (Arc::default(), Arc::new(Notify::new()));
        let agent = Counter { handled, burst: Arc::clone(&burst) };
        let mut running = Some(Runtime::new(client.clone()).agent(agent).start().await.unwrap());
        if workload == Workload::Publish {
            running.take().unwrap().stop().await;
        }
        let text = "x".repeat(64);
        let work = async |messages: usize| match workload {
            Workload::Request => {
                for _ in 0..messages {
                    client.request(ECHO, &text).await.unwrap();
                }
            }
            Workload::Publish | Workload::Pipe => {
                for _ in 0..messages / BURST {
                    let texts = stream::iter(std::iter::repeat_n(text.clone(), BURST));
                    let published = client.publish_many(SAID, texts);
                    published.for_each(|result| async { drop(result.unwrap()) }).await;
                    if workload == Workload::Pipe {
                        burst.notified().await;
                    }
                }
            }
        };
        // Whatever the first ones set up.
        work(64 * BURST).await;
        let region = Region::new(ALLOCATOR);
        work(messages).await;
        let change = region.change();
        if let Some(running) = running {
            running.stop().await;
        }
        change.allocations + change.reallocations
    })
}

#[expect(clippy::cast_precision_loss, reason = "the counts are small")]
fn allocations(workload: Workload) -> f64 {
    let messages = 4096;
    // The strings that the test itself makes.
    let own = if workload == Workload::Request { 0.0 } else { 1.0 + 1.0 / BURST as f64 };
    run(workload, messages) as f64 / messages as f64 - own
}

/// Thousands of instructions a message; `None` without valgrind.
fn instructions(workload: Workload) -> Option<f64> {
    let all = |messages: u32| {
        let program = std::env::current_exe().unwrap();
        let output = Command::new("valgrind")
            .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
            .arg(program)
            .args(["--exact", "under_valgrind", "--nocapture"])
            .env(WORKLOAD, format!("{workload:?}"))
            .env(MESSAGES, messages.to_string())
            .output()
            .ok()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let refs = said.lines().find_map(|line| line.split_once("refs:"))?.1;
        refs.trim().replace(',', "").parse::<f64>().ok()
    };
    // What starts and ends a process is in both.
    Some((all(4096)? - all(2048)?) / 2048.0 / 1000.0)
}

#[test]
fn under_valgrind() {
    let Ok(name) = std::env::var(WORKLOAD) else { return };
    let recorded = RECORDED.iter().find(|it| format!("{:?}", it.workload) == name).unwrap();
    run(recorded.workload, std::env::var(MESSAGES).unwrap().parse().unwrap());
}

#[test]
fn a_message_costs_what_is_recorded() {
    if std::env::var(WORKLOAD).is_ok() {
        return;
    }
    let mut wrong = Vec::new();
    for Recorded { workload, allocations: recorded, instructions: most } in RECORDED {
        let found = allocations(workload);
        println!("{workload:?}: {found:.2} allocations");
        if (found - recorded).abs() > ALLOCATIONS_TOLERANCE {
            wrong.push(format!("{workload:?}: {found:.2} allocations, recorded are {recorded:.2}"));
        }
        let Some(found) = instructions(workload) else {
            println!("{workload:?}: instructions were not counted: there is no valgrind");
            continue;
        };
        println!("{workload:?}: {found:.2} thousand instructions");
        // What is recorded is of debug builds; of others it is only told.
        if cfg!(debug_assertions) && (found / most - 1.0).abs() > INSTRUCTIONS_TOLERANCE {
            wrong.push(format!(
                "{workload:?}: {found:.2} thousand instructions, recorded are {most:.2}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
