//! When a failed message is tried again, and when it is given up: pure policy, without a clock or a source of randomness.
//!
//! ```
//! use std::time::Duration;
//! use agentbus::retry::{Attempt, RetryPolicy};
//!
//! let policy = RetryPolicy::default();
//! let waits = (1..=4).map(|number| policy.next(&Attempt::number(number), 0.0).ok());
//! let seconds: Vec<_> = waits.map(|wait| wait.map(|wait| wait.as_secs())).collect();
//! assert_eq!(seconds, [Some(1), Some(2), Some(4), None]);
//! ```
//!
//! # Delays are rounded up
//!
//! A bus keeps delays in units of [`DELAY_UNIT`]. What a policy computes is rounded up to at most three
//! significant bits of it: to 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, … units. On RabbitMQ a message
//! passes through one queue for each bit, so this saves most of the hops; it adds less than a quarter.
//! What somebody asked for in so many words (`RetryAfter`, `Snooze`, a scheduled message) is rounded up to
//! whole units and no further. Nothing is ever rounded down.

mod attempt;
mod backoff;
mod policy;
mod rounding;

pub use self::{
    attempt::{Attempt, GiveUp},
    backoff::{Backoff, Jitter},
    policy::RetryPolicy,
    rounding::{DELAY_UNIT, MAX_DELAY},
};
