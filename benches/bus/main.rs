//! What agentbus costs beside the bare clients, measured in one run.
//!
//! `cargo bench --bench bus` runs every workload on ours and on its limits, in turn and several
//! times over, each run in a process of its own, and prints the medians with their ratios.
//! `cargo bench --bench bus -- --help` tells what else there is.
//!
//! RabbitMQ is the one at `RABBITMQ_URL`, or on this machine; without one, only what needs no
//! server is measured, and it says so.

#![allow(missing_docs, unreachable_pub)] // its parts are for each other
#![allow(clippy::cast_precision_loss)] // figures are rounded anyway

mod arguments;
mod bare;
mod bed;
mod channel;
mod measure;
mod message;
mod ours;
mod plan;
mod report;
mod rounds;

use std::{alloc::System, process::ExitCode};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use self::{
    arguments::{Arguments, Command},
    plan::{Engine, Run},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Command::Measure(arguments)) => arguments,
        Ok(Command::One(run)) => return one(&run),
        Ok(Command::Help) => {
            print!("{}", arguments::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", arguments::HELP);
            return ExitCode::from(2);
        }
    };
    if rounds::measure(&arguments) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Measures one thing, in this process alone, and prints the figures.
fn one(run: &Run) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    let figures = runtime.block_on(async {
        match run.system.engine() {
            Engine::Channel => channel::measure(run).await,
            Engine::Memory => ours::measure(run, &bed::Bed::memory()).await,
            Engine::RabbitMq => {
                let bed = bed::Bed::rabbitmq();
                let figures = if run.system.is_ours() {
                    ours::measure(run, &bed).await
                } else {
                    bare::measure(run, &bed).await
                };
                bed.remove().await;
                figures
            }
        }
    });
    println!("{}", figures.line(run));
    ExitCode::SUCCESS
}
