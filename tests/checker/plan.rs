//! How much of it there is: a minute by default, or the long run.

use std::{env, time::Duration};

use fastrand::Rng;

use super::nemesis::Fault;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub readers: usize,
    pub writers: usize,
    /// Jobs a second of each writer.
    pub rate: u32,
    /// At least so many jobs.
    pub jobs: usize,
    /// What breaks, in this order.
    pub faults: Vec<Fault>,
    /// How long a message stays with a reader that is gone, in seconds, where there are leases.
    pub lease: u64,
    /// Service must be back after so many milliseconds (99 of 100 times).
    pub back: u64,
    /// How long nothing may happen before the drain is over.
    pub patience: Duration,
}

impl Plan {
    /// Reads it from the environment: `AGENTBUS_CHECKER=long`, `AGENTBUS_CHECKER_SEED=7`,
    /// `AGENTBUS_CHECKER_FAULT=KillBroker`.
    ///
    /// # Panics
    ///
    /// Panics where a value is not one of those allowed.
    pub fn from_env() -> Self {
        let seed = env::var("AGENTBUS_CHECKER_SEED").ok();
        let seed = seed.map(|seed| seed.parse().expect("AGENTBUS_CHECKER_SEED is a number"));
        let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
        let mut plan = match env::var("AGENTBUS_CHECKER").as_deref() {
            Err(_) | Ok("" | "short") => Self::short(seed),
            Ok("long") => Self::long(seed),
            Ok(other) => panic!("AGENTBUS_CHECKER is `{other}`; allowed: `short`, `long`"),
        };
        if let Ok(only) = env::var("AGENTBUS_CHECKER_FAULT") {
            let fault = Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == only);
            let fault = fault.unwrap_or_else(|| panic!("`{only}` is none of {:?}", Fault::ALL));
            plan.faults.fill(fault);
        }
        plan
    }

    /// One fault of each kind.
    fn short(seed: u64) -> Self {
        Self {
            seed,
            readers: 2,
            writers: 1,
            rate: 150,
            jobs: 2_000,
            faults: shuffled(&mut Rng::with_seed(seed), 1),
            lease: 5,
            // Other tests may run beside it: only what hangs is a failure.
            back: 60_000,
            patience: Duration::from_mins(4),
        }
    }

    /// Three faults of each kind, and 100 000 jobs.
    fn long(seed: u64) -> Self {
        Self {
            seed,
            readers: 3,
            writers: 3,
            rate: 250,
            jobs: 100_000,
            faults: shuffled(&mut Rng::with_seed(seed), 3),
            lease: 5,
            back: 3_000,
            patience: Duration::from_mins(5),
        }
    }
}

/// Rounds of all faults, each in an order of its own.
fn shuffled(rng: &mut Rng, rounds: usize) -> Vec<Fault> {
    let mut faults = Vec::new();
    for _ in 0..rounds {
        let mut round = Fault::ALL;
        rng.shuffle(&mut round);
        faults.extend(round);
    }
    faults
}
