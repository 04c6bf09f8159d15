//! The rounds: each run in a process of its own, ours and its limits in turn.

use std::process::Command;

use super::{
    arguments::Arguments,
    bed,
    measure::Figures,
    plan::{Engine, Run, System, WORKLOADS, Workload},
    report,
};

/// Measures what is asked for and prints it; tells whether all of it could be measured.
pub fn measure(arguments: &Arguments) -> bool {
    let chosen: Vec<_> =
        WORKLOADS.into_iter().filter(|workload| is_chosen(workload, arguments)).collect();
    if arguments.list {
        for workload in chosen {
            println!("{}", workload.name);
        }
        return true;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    let rabbitmq = runtime.block_on(bed::there_is_rabbitmq());
    drop(runtime);
    if let Err(error) = &rabbitmq {
        println!("without RabbitMQ, which RABBITMQ_URL can name: {error}\n");
    }
    let mut all = true;
    report::head();
    for workload in chosen {
        for systems in workload.contests() {
            if systems[0].engine() == Engine::RabbitMq && rabbitmq.is_err() {
                continue;
            }
            match contest(workload, &systems, arguments) {
                Ok(figures) => report::contest(workload, &systems, &figures),
                Err(error) => {
                    all = false;
                    println!("{}: {error}", workload.name);
                }
            }
        }
    }
    all
}

fn is_chosen(workload: &Workload, arguments: &Arguments) -> bool {
    let named = |name: &String| workload.name.starts_with(name.as_str());
    let exactly = |name: &String| workload.name == name;
    if workload.long {
        return arguments.list || arguments.workloads.iter().any(exactly);
    }
    arguments.workloads.is_empty() || arguments.workloads.iter().any(named)
}

/// Runs the systems in turn, each round beginning with another of them, and returns each one's
/// figures.
fn contest(
    workload: Workload,
    systems: &[System],
    arguments: &Arguments,
) -> Result<Vec<Vec<Figures>>, String> {
    let mut figures = vec![Vec::new(); systems.len()];
    for round in 0..arguments.rounds {
        for turn in 0..systems.len() {
            let which = (round + turn) % systems.len();
            let run = Run::new(systems[which], workload, arguments.scale);
            figures[which].push(one(&run)?);
        }
    }
    Ok(figures)
}

fn one(run: &Run) -> Result<Figures, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .args(["--one", &run.to_string()])
        .output()
        .map_err(|error| error.to_string())?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let line = printed.lines().find(|line| line.starts_with("RESULT"));
    line.and_then(Figures::read).ok_or_else(|| {
        format!("`{run}` failed: {}", String::from_utf8_lossy(&output.stderr).trim())
    })
}
