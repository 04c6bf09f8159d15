//! The table of medians, and a line for machines under each row.

use super::{
    measure::Figures,
    plan::{Run, System, Workload},
};

pub fn head() {
    println!(
        "{:<16}{:<16}{:>11}{:>7}{:>10}{:>10}{:>9}{:>10}{:>9}",
        "workload", "system", "rate/s", "ratio", "p50 µs", "p99 µs", "cpu µs", "allocs", "rss MB"
    );
}

/// Prints a system a row; the ratio is that of the first one to it.
pub fn contest(workload: Workload, systems: &[System], figures: &[Vec<Figures>]) {
    let medians: Vec<_> = figures.iter().map(|figures| Figures::median(figures)).collect();
    for (system, median) in systems.iter().zip(&medians) {
        let ratio = if *system == systems[0] {
            String::new()
        } else {
            format!("{:.2}", medians[0].rate / median.rate)
        };
        println!(
            "{:<16}{:<16}{:>11.0}{:>7}{:>10}{:>10}{:>9}{:>10.1}{:>9}",
            workload.name,
            system.name(),
            median.rate,
            ratio,
            shown(median.p50),
            shown(median.p99),
            shown(median.processor),
            median.allocations,
            shown(median.memory),
        );
    }
    for (system, median) in systems.iter().zip(&medians) {
        println!("{}", median.line(&Run::new(*system, workload, 100)));
    }
}

fn shown(figure: Option<f64>) -> String {
    figure.map_or("-".to_owned(), |figure| format!("{figure:.1}"))
}
