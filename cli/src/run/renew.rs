//! Credentials that would expire before their task does: obtained again in time. Decides when; the server decides that
//! a renewed credential keeps its name. Files and what is served are renewed in place; a variable cannot be changed in a
//! running program.

use super::placement::Held;
use proto_types::Timestamp;
use std::time::Duration;

/// Never more often than this, whatever a target hands out.
const LEAST: Duration = Duration::from_secs(1);

/// When each credential is due, by its place among the grants.
#[derive(Debug)]
pub struct Renewals {
    due: Vec<Option<Timestamp>>,
    /// Which are served: whoever asks keeps what it is given, so what it is given must not be old.
    served: Vec<bool>,
    ends_at: Timestamp,
}

impl Renewals {
    pub fn new(held: &[Held], ends_at: Timestamp, now: Timestamp) -> Self {
        let served = held.iter().map(Held::is_served).collect();
        let mut renewals = Self { due: vec![None; held.len()], served, ends_at };
        for (grant, one) in held.iter().enumerate() {
            renewals.renewed(grant, one.credential.expires_at, now);
        }
        renewals
    }

    /// The one that is due first, and when.
    pub fn next(&self) -> Option<(usize, Timestamp)> {
        let due = self.due.iter().enumerate().filter_map(|(grant, due)| due.map(|due| (grant, due)));
        due.min_by_key(|(_, due)| *due)
    }

    /// It now lives until `expires_at`: due again when two thirds of that have passed, or half where it is served, unless
    /// the task ends first.
    pub fn renewed(&mut self, grant: usize, expires_at: Timestamp, now: Timestamp) {
        let life = expires_at.since(now);
        // An expiry that differs from the task's end by rounding is the task's end.
        let is_enough = expires_at.plus(LEAST) >= self.ends_at;
        let rest = if self.served[grant] { life / 2 } else { life * 2 / 3 };
        self.due[grant] = (!is_enough).then(|| now.plus(rest.max(LEAST)));
    }

    /// It could not be renewed: tried again after a quarter of what is left. Answers whether it has expired.
    pub fn failed(&mut self, grant: usize, expires_at: Timestamp, now: Timestamp) -> bool {
        let left = expires_at.since(now);
        self.due[grant] = (!left.is_zero()).then(|| now.plus((left / 4).clamp(LEAST, Duration::from_secs(30))));
        left.is_zero()
    }

    /// No more.
    pub fn stop(&mut self) {
        self.due.fill(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn of(ends_at: i64) -> Renewals {
        Renewals { due: vec![None, None], served: vec![false, true], ends_at: at(ends_at) }
    }

    #[test]
    fn a_credential_is_renewed_after_two_thirds_of_its_life_unless_the_task_ends_first() {
        let mut renewals = of(3600);
        renewals.renewed(0, at(900), at(0));
        renewals.renewed(1, at(3600), at(0));
        assert_eq!(renewals.next(), Some((0, at(600))));
        renewals.renewed(0, at(3600), at(600));
        assert_eq!(renewals.next(), None);
    }

    #[test]
    fn what_is_served_is_renewed_after_half_of_its_life() {
        let mut renewals = of(3600);
        renewals.renewed(1, at(900), at(0));
        assert_eq!(renewals.next(), Some((1, at(450))));
    }

    #[test]
    fn what_failed_is_tried_again_until_it_has_expired() {
        let mut renewals = of(3600);
        assert!(!renewals.failed(0, at(900), at(600)));
        assert_eq!(renewals.next(), Some((0, at(630))));
        assert!(!renewals.failed(0, at(900), at(899)));
        assert_eq!(renewals.next(), Some((0, at(900))));
        assert!(renewals.failed(0, at(900), at(900)));
        assert_eq!(renewals.next(), None);
    }

    #[test]
    fn a_credential_that_lives_no_time_is_not_asked_for_without_end() {
        let mut renewals = of(3600);
        renewals.renewed(0, at(100), at(100));
        assert_eq!(renewals.next(), Some((0, at(101))));
    }
}
