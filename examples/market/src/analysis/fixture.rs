//! Two series whose numbers were computed with numpy 2 and scipy 1 as well.
//!
//! ```python
//! import numpy as np
//! rng = np.random.default_rng(7)
//! x = rng.normal(0, .03, 45); y = .6 * x + rng.normal(0, .03, 45)
//! a = np.round(100 * np.exp(np.cumsum(x)), 2); b = np.round(50 * np.exp(np.cumsum(y)), 2)
//! a[40] = round(a[39] * 1.25, 2)                              # one day stands out
//! r, s = np.diff(np.log(a)), np.diff(np.log(b))
//! ga, gb = a.copy(), b.copy(); ga[[10, 20, 21]] = np.nan; gb[30] = np.nan       # with gaps
//! ```

use jiff::{ToSpan, civil::date};

use crate::series::{Point, Series};

/// `a` above.
pub(super) const A: [f64; 45] = [
    100.0, 100.9, 100.08, 97.44, 96.12, 93.3, 93.47, 97.3, 95.88, 94.11, 95.5, 96.53, 96.84, 94.17,
    94.09, 96.07, 92.28, 91.02, 85.97, 82.71, 78.26, 77.71, 74.81, 75.42, 75.78, 75.36, 69.88,
    68.76, 68.66, 68.89, 65.8, 64.86, 62.99, 61.48, 63.46, 61.95, 61.88, 63.55, 62.45, 62.24, 77.8,
    62.56, 60.31, 60.44, 62.96,
];
/// `b` above.
pub(super) const B: [f64; 45] = [
    47.73, 49.24, 49.18, 47.47, 50.0, 50.25, 48.53, 49.82, 50.25, 49.41, 50.88, 51.1, 52.23, 53.63,
    52.53, 53.51, 51.51, 51.29, 47.83, 45.92, 44.17, 45.18, 45.71, 44.14, 43.22, 43.92, 39.54,
    38.62, 38.47, 40.03, 39.76, 39.04, 37.93, 37.1, 39.59, 38.52, 38.15, 39.17, 38.62, 38.32,
    37.13, 37.16, 35.87, 37.2, 38.87,
];

/// Puts closes on consecutive days from 2024-01-01; NaN stands for a missing day.
pub(super) fn series(closes: &[f64]) -> Series {
    let day = |i: usize| date(2024, 1, 1) + i64::try_from(i).expect("few days").days();
    let points = closes.iter().enumerate().filter(|(_, close)| !close.is_nan());
    Series::new("ZEC", points.map(|(i, close)| Point { date: day(i), close: *close }).collect())
}

/// Returns `closes` without the days in `missing`.
pub(super) fn with_gaps(mut closes: [f64; 45], missing: &[usize]) -> Series {
    for day in missing {
        closes[*day] = f64::NAN;
    }
    series(&closes)
}

/// Tells whether two numbers are the same up to rounding.
#[track_caller]
pub(super) fn assert_close(found: Option<f64>, expected: f64) {
    let found = found.expect("a number");
    let allowed = 1e-10 * expected.abs().max(1e-3);
    assert!((found - expected).abs() <= allowed, "{found} is not {expected}");
}
