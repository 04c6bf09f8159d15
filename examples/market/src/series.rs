//! Daily closes of an asset, oldest first.

use jiff::civil::Date;

use crate::range::DateRange;

/// The most points of a [`sketch`]: what fits in a line of a terminal.
pub const SKETCH_POINTS: usize = 60;

/// The close of one day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The day, in UTC.
    pub date: Date,
    /// The close; above zero and finite.
    pub close: f64,
}

/// The daily closes of one asset.
///
/// Days without a close are absent; gaps are never filled.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Ticker in capitals.
    pub asset: String,
    points: Vec<Point>,
}

impl Series {
    /// Makes a series of `points` in any order; of two with the same date the later one counts.
    pub fn new(asset: impl Into<String>, mut points: Vec<Point>) -> Self {
        points.sort_by_key(|point| point.date);
        points.dedup_by(|later, kept| {
            let same = later.date == kept.date;
            if same {
                *kept = *later;
            }
            same
        });
        Self { asset: asset.into(), points }
    }

    /// Returns the points, oldest first, at most one a day.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Returns the points of `range`, oldest first.
    #[must_use]
    pub fn within(&self, range: DateRange) -> &[Point] {
        let start = self.points.partition_point(|point| point.date < range.from);
        let end = self.points.partition_point(|point| point.date <= range.to);
        self.points.get(start..end).unwrap_or_default()
    }
}

/// Thins `points` out to at most `most`, evenly and with the first and the last kept.
///
/// Fewer than two wanted points give the last one, or none at all.
#[must_use]
pub fn sketch(points: &[Point], most: usize) -> Vec<Point> {
    match (most, points) {
        (0, _) | (_, []) => Vec::new(),
        (1, [.., last]) => vec![*last],
        _ if points.len() <= most => points.to_vec(),
        _ => (0..most).map(|i| points[i * (points.len() - 1) / (most - 1)]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn points(count: i8) -> Vec<Point> {
        (1..=count).map(|day| Point { date: date(2025, 1, day), close: f64::from(day) }).collect()
    }

    #[test]
    fn points_are_sorted_and_the_later_of_two_counts() {
        let mut unsorted = points(3);
        unsorted.reverse();
        unsorted.push(Point { date: date(2025, 1, 2), close: 20.0 });
        let closes: Vec<_> =
            Series::new("ZEC", unsorted).points().iter().map(|point| point.close).collect();
        assert_eq!(closes, [1.0, 20.0, 3.0]);
    }

    #[test]
    fn within_includes_both_ends() {
        let series = Series::new("ZEC", points(5));
        let range = |from, to| DateRange { from: date(2025, 1, from), to: date(2025, 1, to) };
        assert_eq!(series.within(range(2, 4)), &points(5)[1..4]);
        assert_eq!(series.within(range(5, 31)).len(), 1);
        assert!(series.within(range(6, 9)).is_empty());
        assert!(series.within(range(4, 2)).is_empty(), "a reversed range holds nothing");
    }

    #[test]
    fn a_sketch_keeps_the_ends() {
        let points = points(31);
        for most in 2..40 {
            let sketch = sketch(&points, most);
            assert_eq!(sketch.len(), most.min(31));
            assert_eq!(sketch.first(), points.first());
            assert_eq!(sketch.last(), points.last());
        }
        assert_eq!(sketch(&points, 1), points[30..]);
        assert!(sketch(&points, 0).is_empty());
        assert!(sketch(&[], 10).is_empty());
    }
}
