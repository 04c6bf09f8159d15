//! Delays that grow.

use std::time::Duration;

/// What chance does to a delay, so that many who failed together do not come back together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// Leaves the delay as it is.
    None,
    /// Adds 0–25 %; never shortens. What retries of messages use.
    #[default]
    Add,
    /// Takes any part of the delay, down to nothing. What redialling uses.
    Full,
}

/// Delays that grow from one retry to the next.
///
/// The `n`th retry waits `initial × multiplier^(n-1)`, at most `max`; the jitter comes on top of that, so [`Jitter::Add`]
/// may reach 1.25 × `max`. (Jitter under the cap would bring everybody back together once the cap is reached.)
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Backoff {
    /// The delay before the first retry. Default 1 s. Above `max` it is cut to `max`.
    pub initial: Duration,
    /// How many times longer each delay is than the one before. Default 2. Below 1, or not a number, counts as 1.
    pub multiplier: f64,
    /// The longest delay, before jitter. Default 30 s.
    pub max: Duration,
    /// What chance does to each delay. Default [`Jitter::Add`].
    pub jitter: Jitter,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30))
    }
}

impl Backoff {
    /// Returns a backoff that doubles from `initial` up to `max`, with [`Jitter::Add`].
    #[must_use]
    pub const fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, multiplier: 2.0, max, jitter: Jitter::Add }
    }

    /// Returns the same delay for every retry, without jitter.
    #[must_use]
    pub const fn constant(delay: Duration) -> Self {
        Self { initial: delay, multiplier: 1.0, max: delay, jitter: Jitter::None }
    }

    /// Returns this backoff with another multiplier.
    #[must_use]
    pub const fn with_multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// Returns this backoff with another jitter.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Returns how long to wait before the retry numbered `retry`, where 1 is the first (0 counts as 1).
    ///
    /// `random` is drawn by the caller, evenly from 0 to 1; what lies outside is clamped, and not-a-number counts as 0.
    /// Defined for every input: what would overflow is `max`.
    #[must_use]
    pub fn delay(&self, retry: u32, random: f64) -> Duration {
        let base = self.base(retry);
        let random = if random.is_nan() { 0.0 } else { random.clamp(0.0, 1.0) };
        match self.jitter {
            Jitter::None => base,
            Jitter::Add => base.saturating_add(part(base, 0.25 * random)),
            Jitter::Full => part(base, random),
        }
    }

    fn base(&self, retry: u32) -> Duration {
        let steps = f64::from(retry.saturating_sub(1));
        let multiplier = self.multiplier.max(1.0); // `max` also turns NaN into 1
        let factor = multiplier.powf(steps);
        if factor <= 1.0 || self.initial.is_zero() {
            return self.initial.min(self.max);
        }
        // An infinite or huge product does not fit a `Duration`; it is above any `max`.
        Duration::try_from_secs_f64(self.initial.as_secs_f64() * factor)
            .map_or(self.max, |delay| delay.min(self.max))
    }
}

/// Returns `fraction` (0 to 1) of `whole`, never more than `whole`.
fn part(whole: Duration, fraction: f64) -> Duration {
    Duration::try_from_secs_f64(whole.as_secs_f64() * fraction)
        .map_or(whole, |part| part.min(whole))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn default_delays_double_from_one_second_to_thirty() {
        let backoff = Backoff::default();
        let delays: Vec<_> = (1..=8).map(|retry| backoff.delay(retry, 0.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn added_jitter_is_at_most_a_quarter_and_also_above_the_cap() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(1, 1.0), Duration::from_millis(1250));
        assert_eq!(backoff.delay(9, 1.0), Duration::from_millis(37_500));
    }

    #[test]
    fn full_jitter_reaches_from_nothing_to_the_whole_delay() {
        let backoff = Backoff::default().with_jitter(Jitter::Full);
        assert_eq!(backoff.delay(3, 0.0), Duration::ZERO);
        assert_eq!(backoff.delay(3, 1.0), secs(4));
    }

    #[test]
    fn retry_zero_counts_as_the_first() {
        assert_eq!(Backoff::default().delay(0, 0.0), Backoff::default().delay(1, 0.0));
    }

    pub(in crate::retry) fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (any::<u64>(), 0..1_000_000_000_u32)
                .prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
            (0..100_000_u64).prop_map(Duration::from_millis),
            Just(Duration::ZERO),
            Just(Duration::MAX),
        ]
    }

    pub(in crate::retry) fn any_f64() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            0.0..3.0_f64,
            Just(f64::NAN),
            Just(f64::INFINITY)
        ]
    }

    pub(in crate::retry) fn any_backoff(jitter: Jitter) -> impl Strategy<Value = Backoff> {
        (any_duration(), any_f64(), any_duration()).prop_map(move |(initial, multiplier, max)| {
            Backoff { initial, multiplier, max, jitter }
        })
    }

    proptest! {
        #[test]
        fn delays_never_shrink_and_stay_between_the_initial_one_and_the_maximum(
            backoff in any_backoff(Jitter::None), retry in any::<u32>(), random in any_f64(),
        ) {
            let delay = backoff.delay(retry, random);
            prop_assert!(delay <= backoff.max);
            prop_assert!(delay >= backoff.base(1));
            prop_assert!(backoff.delay(retry.saturating_add(1), random) >= delay);
        }

        #[test]
        fn added_jitter_never_shortens_and_adds_at_most_a_quarter(
            backoff in any_backoff(Jitter::Add), retry in any::<u32>(), random in any_f64(),
        ) {
            let base = backoff.base(retry);
            let delay = backoff.delay(retry, random);
            prop_assert!(delay >= base);
            prop_assert!(delay.saturating_sub(base) <= part(base, 0.25));
        }

        #[test]
        fn full_jitter_never_lengthens(
            backoff in any_backoff(Jitter::Full), retry in any::<u32>(), random in any_f64(),
        ) {
            prop_assert!(backoff.delay(retry, random) <= backoff.base(retry));
        }
    }
}
