//! Delays in the units that a bus keeps them in.

use std::time::Duration;

/// The unit in which a bus keeps delays, and the shortest delay before a retry.
pub const DELAY_UNIT: Duration = Duration::from_millis(250);

/// The longest delay of a message: two years.
pub const MAX_DELAY: Duration = DELAY_UNIT.saturating_mul((1 << 28) - 1);

/// How many significant bits the delay of a retry has at most.
const BITS: u32 = 3;

/// Rounds up to whole units, at least one.
pub(crate) fn in_units(delay: Duration) -> Duration {
    duration(units(delay))
}

/// Rounds up to at most three significant bits of the unit, at least one unit.
pub(super) fn in_few_bits(delay: Duration) -> Duration {
    let units = units(delay);
    let surplus = (u128::BITS - units.leading_zeros()).saturating_sub(BITS);
    duration(units.div_ceil(1 << surplus) << surplus)
}

fn units(delay: Duration) -> u128 {
    delay.as_nanos().div_ceil(DELAY_UNIT.as_nanos()).max(1)
}

/// What does not fit a `Duration` is the longest one.
fn duration(units: u128) -> Duration {
    let nanos = units * DELAY_UNIT.as_nanos();
    u64::try_from(nanos / 1_000_000_000).map_or(Duration::MAX, |secs| {
        let nanos = u32::try_from(nanos % 1_000_000_000).expect("less than a second");
        Duration::new(secs, nanos)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn retries_wait_a_number_of_units_with_few_bits() {
        for (delay, units) in [
            (0, 1),
            (1, 1),
            (250, 1),
            (251, 2),
            (1_750, 7),
            (2_000, 8),
            (2_001, 10),
            (2_750, 12),
            (3_501, 16),
            (30_000, 128),
            (32_001, 160),
        ] {
            assert_eq!(in_few_bits(millis(delay)), DELAY_UNIT * units, "{delay} ms");
        }
    }

    #[test]
    fn what_was_ordered_is_exact_to_the_unit() {
        for (delay, units) in [(0, 1), (250, 1), (2_001, 9), (30_000, 120), (30_001, 121)] {
            assert_eq!(in_units(millis(delay)), DELAY_UNIT * units, "{delay} ms");
        }
    }

    #[test]
    fn the_longest_delay_stays_the_longest() {
        assert_eq!(in_units(Duration::MAX), Duration::MAX);
        assert_eq!(in_few_bits(Duration::MAX), Duration::MAX);
    }

    proptest! {
        #[test]
        fn rounding_never_shortens_and_adds_less_than_a_quarter_or_a_unit(nanos in 0..u64::MAX) {
            let delay = Duration::from_nanos(nanos);
            let exact = in_units(delay);
            prop_assert!(exact >= delay && exact.saturating_sub(delay) <= DELAY_UNIT);
            let rounded = in_few_bits(delay);
            prop_assert!(rounded >= exact && rounded <= exact + exact / 4);
            prop_assert!(units(rounded).count_ones() <= BITS);
            prop_assert_eq!(in_few_bits(rounded), rounded);
        }

        #[test]
        fn of_two_delays_the_longer_stays_the_longer(one in any::<u64>(), other in any::<u64>()) {
            let (shorter, longer) = (one.min(other), one.max(other));
            prop_assert!(in_few_bits(millis(shorter)) <= in_few_bits(millis(longer)));
        }
    }
}
