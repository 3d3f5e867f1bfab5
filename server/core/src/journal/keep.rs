//! How long records keep their contents: `[journal] keep`.
//!
//! Decides up to where a journal may be pruned and when its clock is to be believed. Leaves are never pruned, so that
//! roots, proofs and `verify` stay true; what is lost is what the records said.

use proto_types::{Position, Timestamp};
use std::time::Duration;

/// The newest records below the newest root keep their contents whatever their age: a start rehashes them, and stores
/// hold as many in memory for those who follow.
const TAIL: u64 = 4096;
/// How far the clock may run ahead of the time that passed between two looks.
const DRIFT: Duration = Duration::from_secs(600);
/// Looks without a jump before a clock that jumped is believed again.
const QUIET: u32 = 24;

/// Why less is pruned than is old enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// The sink that has not taken these records yet.
    pub sink: String,
    pub next: Position,
}

/// Up to where (exclusive) contents may go: what is old enough (`old`), was taken by every sink, and lies well below
/// the newest root.
pub fn prunable(old: Position, root_size: u64, sinks: &[(String, Position)]) -> (Position, Option<HeldBack>) {
    let bound = Position(old.0.min(root_size.saturating_sub(TAIL)));
    match sinks.iter().min_by_key(|(_, next)| *next) {
        Some((sink, next)) if *next < bound => (*next, Some(HeldBack { sink: sink.clone(), next: *next })),
        _ => (bound, None),
    }
}

/// Whether the wall clock moves as time passes. A clock that jumped ahead makes everything look old at once.
#[derive(Debug, Default)]
pub struct SteadyClock {
    last: Option<Timestamp>,
    quiet: u32,
}

impl SteadyClock {
    /// Looks at the clock, `passed` after the look before. `true` when it can be believed.
    pub fn look(&mut self, now: Timestamp, passed: Duration) -> bool {
        let jumped = self.last.is_some_and(|last| now.since(last) > passed + DRIFT);
        self.last = Some(now);
        if jumped {
            self.quiet = QUIET;
        }
        let steady = self.quiet == 0;
        self.quiet = self.quiet.saturating_sub(1);
        steady
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sinks(of: &[(&str, u64)]) -> Vec<(String, Position)> {
        of.iter().map(|(name, next)| ((*name).into(), Position(*next))).collect()
    }

    #[test]
    fn what_a_sink_has_not_taken_stays_and_the_sink_is_named() {
        let slow = sinks(&[("siem", 900), ("archive", 40)]);
        let held = HeldBack { sink: "archive".into(), next: Position(40) };
        assert_eq!(prunable(Position(500), 9_000, &slow), (Position(40), Some(held)));
        assert_eq!(prunable(Position(40), 9_000, &slow), (Position(40), None));
        assert_eq!(prunable(Position(500), 9_000, &sinks(&[("siem", 900)])), (Position(500), None));
    }

    #[test]
    fn the_tail_below_the_newest_root_stays() {
        assert_eq!(prunable(Position(500), 4_300, &[]), (Position(204), None));
        assert_eq!(prunable(Position(500), 10, &[]), (Position(0), None));
    }

    #[test]
    fn a_clock_that_jumped_is_not_believed_for_a_day_and_one_that_moves_with_time_is() {
        let hour = Duration::from_secs(3600);
        let (mut clock, mut now) = (SteadyClock::default(), Timestamp::from_secs(1_795_000_000));
        assert!(clock.look(now, hour));
        now = now.plus(hour + DRIFT);
        assert!(clock.look(now, hour));
        now = now.plus(Duration::from_secs(3650 * 86_400));
        assert!(!clock.look(now, hour));
        let believed = (1..).find(|_| {
            now = now.plus(hour);
            clock.look(now, hour)
        });
        assert_eq!(believed, Some(QUIET));
    }
}
