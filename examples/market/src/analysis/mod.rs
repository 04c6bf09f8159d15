//! Statistics of daily closes.
//!
//! A *daily return* is the log of a close over the close of the calendar day before. Where days are
//! missing between two closes there is none: the change over a gap is not the change of a day, and
//! scaling it would make it look calmer than it was. Such gaps are counted. Volatility, anomalies
//! and correlation rest on daily returns; price statistics, the return over the range and the trend
//! on closes.
//!
//! What cannot be computed is `None`; no result is ever NaN or infinite.

mod anomalies;
mod correlation;
mod results;
mod returns;
mod statistics;
mod trend;
mod volatility;

pub use anomalies::{Anomalies, Anomaly, Severity, THRESHOLD, WINDOW, anomalies};
pub use correlation::{Correlation, correlation};
pub use results::{AssetResults, Pair, Task, analyse};
pub use returns::{DailyReturn, DailyReturns, fraction};
pub use statistics::{Statistics, statistics};
pub use trend::{Trend, trend};
pub use volatility::{DAYS_A_YEAR, Volatility, volatility};

/// Drops what is NaN or infinite.
fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

/// Converts a count of days or observations, far below 2⁵³, without loss.
#[allow(clippy::cast_precision_loss)] // counts of days
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod fixture;
