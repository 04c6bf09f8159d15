//! When a circuit opens and closes: the states, without waiting and without a clock.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Into how many parts the window is cut in which failures are counted; the oldest goes as a whole.
const PARTS: u32 = 10;

/// How long a message that tries the circuit is waited for at least.
const SHORTEST_PROBE: Duration = Duration::from_secs(1);

/// When a circuit opens and closes.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// So many failures, one after the other, open it.
    pub(super) failures: u32,
    /// A share of failures opens it, too.
    pub(super) rate: Option<Rate>,
    /// How long it is open before it is tried.
    pub(super) open_for: Duration,
    /// So many messages try it, and have to succeed.
    pub(super) probes: u32,
}

/// A share of failures among the messages of a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) share: f64,
    pub(super) window: Duration,
    /// Of fewer messages, no share is taken.
    pub(super) at_least: u32,
}

/// What a message says of what its handler needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Works,
    Fails,
    /// Neither.
    Nothing,
}

/// Whether a message may be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes; the sign it gives goes to [`Circuit::report`] with this.
    Now(Pass),
    /// Not before this time.
    At(Instant),
    /// Not before those that try the circuit have ended, or this time has come: one that does not
    /// end must not hold all others.
    AfterProbes(Instant),
}

/// What a message that may be handled was let through by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    era: u64,
    /// Whether the message is to try an open circuit.
    pub(super) is_probe: bool,
}

/// What a report changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened {
        until: Instant,
    },
    Closed,
    /// One who waits may try the circuit now.
    ProbeFree,
}

/// A circuit: closed while all is well.
#[derive(Debug)]
pub(super) struct Circuit {
    state: State,
    /// Raised by every change of state, so that what began before says nothing of after.
    era: u64,
}

#[derive(Debug)]
enum State {
    Closed {
        failures: u32,
        parts: VecDeque<Part>,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        trying: u32,
        succeeded: u32,
        /// When the last one was let through.
        since: Instant,
    },
}

/// What happened in a part of the window.
#[derive(Debug)]
struct Part {
    began: Instant,
    messages: u32,
    failures: u32,
}

impl Circuit {
    pub(super) fn new() -> Self {
        Self { state: State::closed(), era: 0 }
    }

    /// Tells whether a message may be handled.
    pub(super) fn admit(&mut self, rules: &Rules, now: Instant) -> Admission {
        if let State::Open { until } = self.state {
            if now < until {
                return Admission::At(until);
            }
            self.enter(State::HalfOpen { trying: 0, succeeded: 0, since: now });
        }
        let mut is_probe = false;
        if let State::HalfOpen { trying, succeeded, since } = &mut self.state {
            if *trying + *succeeded >= rules.probes.max(1) {
                let patience = *since + rules.open_for.max(SHORTEST_PROBE);
                if now < patience {
                    return Admission::AfterProbes(patience);
                }
                // Whatever they still come to counts, too.
                *trying = 0;
            }
            *trying += 1;
            *since = now;
            is_probe = true;
        }
        Admission::Now(Pass { era: self.era, is_probe })
    }

    /// Takes the sign that an admitted message has given.
    pub(super) fn report(
        &mut self,
        rules: &Rules,
        now: Instant,
        pass: Pass,
        sign: Sign,
    ) -> Option<Change> {
        if pass.era != self.era {
            return None;
        }
        match &mut self.state {
            State::Open { .. } => None,
            State::Closed { failures, parts } => {
                match sign {
                    Sign::Nothing => return None,
                    Sign::Works => *failures = 0,
                    Sign::Fails => *failures = failures.saturating_add(1),
                }
                let enough = *failures >= rules.failures.max(1);
                let rate = rules.rate.is_some_and(|rate| rate.reached(parts, now, sign));
                (sign == Sign::Fails && (enough || rate)).then(|| self.open(rules, now))
            }
            State::HalfOpen { trying, succeeded, .. } => {
                *trying = trying.saturating_sub(1);
                match sign {
                    Sign::Fails => Some(self.open(rules, now)),
                    Sign::Nothing => Some(Change::ProbeFree),
                    Sign::Works => {
                        *succeeded += 1;
                        if *succeeded < rules.probes.max(1) {
                            return None;
                        }
                        self.enter(State::closed());
                        Some(Change::Closed)
                    }
                }
            }
        }
    }

    /// Tells whether messages are held at present.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { until } => now < until,
            State::HalfOpen { trying, .. } => trying > 0,
        }
    }

    fn open(&mut self, rules: &Rules, now: Instant) -> Change {
        let until = now + rules.open_for;
        self.enter(State::Open { until });
        Change::Opened { until }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.era += 1;
    }
}

impl State {
    fn closed() -> Self {
        Self::Closed { failures: 0, parts: VecDeque::new() }
    }
}

impl Rate {
    /// Counts a message, and tells whether the share of failures is reached.
    fn reached(&self, parts: &mut VecDeque<Part>, now: Instant, sign: Sign) -> bool {
        while parts.front().is_some_and(|part| now.duration_since(part.began) >= self.window) {
            parts.pop_front();
        }
        let length = self.window / PARTS;
        if parts.back().is_none_or(|part| now.duration_since(part.began) >= length) {
            parts.push_back(Part { began: now, messages: 0, failures: 0 });
        }
        if let Some(part) = parts.back_mut() {
            part.messages = part.messages.saturating_add(1);
            part.failures = part.failures.saturating_add(u32::from(sign == Sign::Fails));
        }
        let sum = |count: fn(&Part) -> u32| parts.iter().map(count).map(u64::from).sum::<u64>();
        let (messages, failures) = (sum(|part| part.messages), sum(|part| part.failures));
        #[allow(clippy::cast_precision_loss)] // far fewer messages than a float can count
        let share = failures as f64 / messages as f64;
        messages >= u64::from(self.at_least.max(1)) && share >= self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(30);

    fn rules(failures: u32, probes: u32) -> Rules {
        Rules { failures, rate: None, open_for: OPEN_FOR, probes }
    }

    /// Handles one message that gives a sign.
    fn handle(circuit: &mut Circuit, rules: &Rules, now: Instant, sign: Sign) -> Option<Change> {
        let Admission::Now(pass) = circuit.admit(rules, now) else { panic!("not admitted") };
        circuit.report(rules, now, pass, sign)
    }

    /// A circuit that was opened just now.
    fn opened(rules: &Rules, now: Instant) -> Circuit {
        let mut circuit = Circuit::new();
        for _ in 1..rules.failures {
            assert_eq!(handle(&mut circuit, rules, now, Sign::Fails), None);
        }
        let opened = handle(&mut circuit, rules, now, Sign::Fails);
        assert_eq!(opened, Some(Change::Opened { until: now + OPEN_FOR }));
        circuit
    }

    #[test]
    fn failures_one_after_the_other_open_it() {
        let (rules, now) = (rules(3, 1), Instant::now());
        let mut circuit = Circuit::new();
        for sign in [Sign::Fails, Sign::Fails, Sign::Works, Sign::Fails, Sign::Fails] {
            assert_eq!(handle(&mut circuit, &rules, now, sign), None);
        }
        assert_eq!(handle(&mut circuit, &rules, now, Sign::Nothing), None);
        assert!(!circuit.is_open(now));
        let opened = handle(&mut circuit, &rules, now, Sign::Fails);
        assert_eq!(opened, Some(Change::Opened { until: now + OPEN_FOR }));
        assert!(circuit.is_open(now));
        assert_eq!(circuit.admit(&rules, now), Admission::At(now + OPEN_FOR));
    }

    #[test]
    fn one_message_tries_it_and_closes_it() {
        let (rules, now) = (rules(2, 1), Instant::now());
        let mut circuit = opened(&rules, now);
        let later = now + OPEN_FOR;
        assert!(!circuit.is_open(later), "the next message will try it");
        let Admission::Now(pass) = circuit.admit(&rules, later) else { panic!("not tried") };
        assert!(pass.is_probe);
        assert!(circuit.is_open(later));
        assert_eq!(circuit.admit(&rules, later), Admission::AfterProbes(later + OPEN_FOR));
        assert_eq!(circuit.report(&rules, later, pass, Sign::Works), Some(Change::Closed));
        assert_eq!(handle(&mut circuit, &rules, later, Sign::Fails), None, "counts from nothing");
    }

    #[test]
    fn one_failure_opens_it_again_while_it_is_tried() {
        let (rules, now) = (rules(2, 3), Instant::now());
        let mut circuit = opened(&rules, now);
        let later = now + OPEN_FOR;
        assert_eq!(handle(&mut circuit, &rules, later, Sign::Works), None);
        let again = handle(&mut circuit, &rules, later, Sign::Fails);
        assert_eq!(again, Some(Change::Opened { until: later + OPEN_FOR }));
    }

    #[test]
    fn several_have_to_succeed_where_several_try_it() {
        let (rules, now) = (rules(1, 2), Instant::now());
        let mut circuit = opened(&rules, now);
        let later = now + OPEN_FOR;
        let eras = [circuit.admit(&rules, later), circuit.admit(&rules, later)];
        assert_eq!(circuit.admit(&rules, later), Admission::AfterProbes(later + OPEN_FOR));
        let changes = eras.map(|admission| {
            let Admission::Now(pass) = admission else { panic!("not tried") };
            circuit.report(&rules, later, pass, Sign::Works)
        });
        assert_eq!(changes, [None, Some(Change::Closed)]);
    }

    #[test]
    fn one_that_does_not_end_leaves_another_to_try_and_still_counts() {
        let (rules, now) = (rules(1, 1), Instant::now());
        let mut circuit = opened(&rules, now);
        let later = now + OPEN_FOR;
        let Admission::Now(hangs) = circuit.admit(&rules, later) else { panic!("not tried") };
        let next = later + OPEN_FOR;
        assert_eq!(circuit.admit(&rules, later), Admission::AfterProbes(next));
        let Admission::Now(tries) = circuit.admit(&rules, next) else { panic!("not tried") };
        assert!(tries.is_probe);
        assert_eq!(circuit.admit(&rules, next), Admission::AfterProbes(next + OPEN_FOR));
        assert_eq!(circuit.report(&rules, next, hangs, Sign::Works), Some(Change::Closed));
        assert_eq!(circuit.report(&rules, next, tries, Sign::Fails), None, "it is closed");
    }

    #[test]
    fn one_that_is_tried_without_a_wait_is_still_tried_by_one_at_a_time() {
        let rules = Rules { open_for: Duration::ZERO, ..rules(1, 1) };
        let now = Instant::now();
        let mut circuit = Circuit::new();
        let opened = handle(&mut circuit, &rules, now, Sign::Fails);
        assert_eq!(opened, Some(Change::Opened { until: now }));
        assert!(matches!(circuit.admit(&rules, now), Admission::Now(_)));
        assert_eq!(circuit.admit(&rules, now), Admission::AfterProbes(now + SHORTEST_PROBE));
    }

    #[test]
    fn one_that_says_nothing_leaves_its_place_to_another() {
        let (rules, now) = (rules(1, 1), Instant::now());
        let mut circuit = opened(&rules, now);
        let later = now + OPEN_FOR;
        let nothing = handle(&mut circuit, &rules, later, Sign::Nothing);
        assert_eq!(nothing, Some(Change::ProbeFree));
        assert_eq!(handle(&mut circuit, &rules, later, Sign::Works), Some(Change::Closed));
    }

    #[test]
    fn what_began_before_a_change_says_nothing_of_after() {
        let (rules, now) = (rules(1, 1), Instant::now());
        let mut circuit = Circuit::new();
        let Admission::Now(slow) = circuit.admit(&rules, now) else { panic!("not admitted") };
        handle(&mut circuit, &rules, now, Sign::Fails);
        assert_eq!(circuit.report(&rules, now, slow, Sign::Works), None);
        let later = now + OPEN_FOR;
        let Admission::Now(_) = circuit.admit(&rules, later) else { panic!("not tried") };
        for sign in [Sign::Works, Sign::Fails, Sign::Nothing] {
            assert_eq!(circuit.report(&rules, later, slow, sign), None);
        }
        assert_eq!(circuit.admit(&rules, later), Admission::AfterProbes(later + OPEN_FOR));
    }

    #[test]
    fn a_share_of_failures_opens_it_in_a_sliding_window() {
        let rate = Rate { share: 0.5, window: Duration::from_secs(10), at_least: 4 };
        let rules = Rules { rate: Some(rate), ..rules(u32::MAX, 1) };
        let start = Instant::now();
        let mut circuit = Circuit::new();
        let mut at = |seconds: u64, sign| {
            handle(&mut circuit, &rules, start + Duration::from_secs(seconds), sign).is_some()
        };
        assert!(!at(0, Sign::Fails), "too few");
        assert!(!at(0, Sign::Fails));
        assert!(!at(1, Sign::Works));
        assert!(!at(10, Sign::Fails), "the first two are forgotten");
        assert!(!at(10, Sign::Works));
        assert!(!at(10, Sign::Works), "a success opens nothing");
        assert!(!at(10, Sign::Fails), "two of five");
        assert!(at(10, Sign::Fails), "three of six");
    }

    #[test]
    fn the_window_stays_small() {
        let rate = Rate { share: 1.0, window: Duration::from_secs(10), at_least: 1 };
        let rules = Rules { rate: Some(rate), ..rules(u32::MAX, 1) };
        let start = Instant::now();
        let mut circuit = Circuit::new();
        for millis in (0..100_000).step_by(7) {
            handle(&mut circuit, &rules, start + Duration::from_millis(millis), Sign::Works);
        }
        let State::Closed { parts, .. } = &circuit.state else { panic!("open") };
        assert!(parts.len() <= 11, "{}", parts.len());
    }
}
