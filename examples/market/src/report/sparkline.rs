//! A series in one line.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws `values` as bars from the lowest to the highest, at most `width` of them.
///
/// More values than that are thinned out evenly, the first and the last kept. Equal values are
/// drawn at half height.
#[must_use]
pub fn sparkline(values: &[f64], width: usize) -> String {
    let count = values.len().min(width);
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (0..count)
        .filter_map(|i| {
            values.get(if count == 1 {
                values.len() - 1
            } else {
                i * (values.len() - 1) / (count - 1)
            })
        })
        .map(|value| bar(value / highest, lowest / highest))
        .collect()
}

/// Returns the bar for a value, both as shares of the highest so that nothing overflows.
fn bar(value: f64, lowest: f64) -> char {
    let height = (value - lowest) / (1.0 - lowest);
    if !height.is_finite() {
        return BARS[3];
    }
    let mut index = 0;
    while index < 7 && height * 8.0 >= f64::from(index) + 1.0 {
        index += 1;
    }
    usize::try_from(index).ok().and_then(|index| BARS.get(index)).copied().unwrap_or(BARS[7])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_go_from_the_lowest_to_the_highest() {
        for (values, width, drawn) in [
            (&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0][..], 60, "▁▂▃▄▅▆▇█"),
            (&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], 2, "▁█"),
            (&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], 1, "█"),
            (&[5.0, 5.0, 5.0], 60, "▄▄▄"),
            (&[5.0], 60, "▄"),
            (&[1.0, f64::MAX, 1.0], 60, "▁█▁"),
            (&[], 60, ""),
            (&[1.0, 2.0], 0, ""),
        ] {
            assert_eq!(sparkline(values, width), drawn, "{values:?}");
        }
    }
}
