//! Lanes: the four kinds of urgency that share a queue's consumers by weight.

use std::fmt;

use super::Priority;

/// How an agent's queue orders its messages by priority.
///
/// `docs/priorities.md` compares the choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Priorities {
    /// Not at all: messages come in the order they were published.
    #[default]
    Off,
    /// Strictly: a message comes before all of a lower priority, within one priority in the order
    /// of publishing. What is never empty above starves what is below.
    ///
    /// On RabbitMQ this takes a classic queue, which is not replicated, has no fuse against crash
    /// loops, and hands on what it gives up on at most once.
    Strict,
    /// By weight, in four [lanes](Lane): while all have messages, of 15 handed out 8 are urgent, 4
    /// high, 2 normal and 1 low, so that nothing starves. Within a lane in the order of publishing.
    Lanes,
}

/// A part of a queue with a weight of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Priorities 1 to 3, weight 1.
    Low,
    /// Priorities 4 to 6, weight 2; also what has no priority.
    Normal,
    /// Priorities 7 and 8, weight 4.
    High,
    /// Priorities 9 and 10, weight 8.
    Urgent,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Urgent, Self::High, Self::Normal, Self::Low];

    /// Returns the lane of a priority.
    #[must_use]
    pub const fn of(priority: Priority) -> Self {
        match priority.level() {
            ..=3 => Self::Low,
            4..=6 => Self::Normal,
            7 | 8 => Self::High,
            _ => Self::Urgent,
        }
    }

    /// Returns the lane's share of what is handed out while all lanes have messages, out of 15.
    #[must_use]
    pub const fn weight(self) -> u16 {
        match self {
            Self::Low => 1,
            Self::Normal => 2,
            Self::High => 4,
            Self::Urgent => 8,
        }
    }

    /// Returns the lane's name: `low`, `normal`, `high` or `urgent`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }

    /// Returns the priorities of the lane.
    pub fn priorities(self) -> impl Iterator<Item = Priority> {
        (1..=10).map(Priority::nearest).filter(move |priority| Self::of(*priority) == self)
    }

    /// Returns the place in [`ALL`](Self::ALL).
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Urgent => 0,
            Self::High => 1,
            Self::Normal => 2,
            Self::Low => 3,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose turn it is: the most urgent lane that has messages and was not yet handed out its weight
/// in this round. A round ends when no lane is left that could be served.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    left: [u16; 4],
}

impl Turns {
    /// Finds the lane that is served next, of those that have messages.
    pub(crate) fn next(&self, has: impl Fn(Lane) -> bool) -> Option<Lane> {
        let waiting = || Lane::ALL.into_iter().filter(|lane| has(*lane));
        waiting().find(|lane| self.left[lane.index()] > 0).or_else(|| waiting().next())
    }

    /// Notes that a lane was served.
    pub(crate) fn served(&mut self, lane: Lane) {
        if self.left[lane.index()] == 0 {
            *self = Self::default();
        }
        self.left[lane.index()] -= 1;
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self { left: Lane::ALL.map(Lane::weight) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_priority_has_one_lane() {
        let of = |lane: Lane| lane.priorities().map(Priority::level).collect::<Vec<_>>();
        assert_eq!(of(Lane::Low), [1, 2, 3]);
        assert_eq!(of(Lane::Normal), [4, 5, 6]);
        assert_eq!(of(Lane::High), [7, 8]);
        assert_eq!(of(Lane::Urgent), [9, 10]);
        assert_eq!(Lane::of(Priority::default()), Lane::Normal);
        for lane in Lane::ALL {
            assert_eq!(Lane::ALL[lane.index()], lane);
        }
    }

    fn serve(turns: &mut Turns, has: impl Fn(Lane) -> bool) -> Lane {
        let lane = turns.next(has).expect("one has messages");
        turns.served(lane);
        lane
    }

    #[test]
    fn full_lanes_share_by_weight_and_the_urgent_goes_first() {
        let mut turns = Turns::default();
        for _ in 0..3 {
            let round: Vec<_> = (0..15).map(|_| serve(&mut turns, |_| true)).collect();
            assert_eq!(round[..8], [Lane::Urgent; 8]);
            assert_eq!(round[8..12], [Lane::High; 4]);
            assert_eq!(round[12..], [Lane::Normal, Lane::Normal, Lane::Low]);
        }
    }

    #[test]
    fn a_lane_alone_has_everything_and_saves_nothing_up() {
        let mut turns = Turns::default();
        for _ in 0..100 {
            assert_eq!(serve(&mut turns, |lane| lane == Lane::Low), Lane::Low);
        }
        let round: Vec<_> = (0..15).map(|_| serve(&mut turns, |_| true)).collect();
        // It has had its one of this round, and the others their share as ever.
        assert_eq!(round[..8], [Lane::Urgent; 8]);
        assert_eq!(round[8..14], [&[Lane::High; 4][..], &[Lane::Normal; 2]].concat());
        assert_eq!(round[14], Lane::Urgent, "the next round");
        assert_eq!(turns.next(|_| false), None);
    }
}
