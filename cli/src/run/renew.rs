//! Credentials that would expire before their task does: obtained again in time. Decides when; the server decides that
//! a renewed credential keeps its name. Files are renewed in place; a variable cannot be changed in a running program.

use super::placement::Held;
use proto_types::Timestamp;
use std::time::Duration;

/// Never more often than this, whatever a target hands out.
const LEAST: Duration = Duration::from_secs(1);

/// When each credential is due, by its place among the grants.
#[derive(Debug)]
pub struct Renewals {
    due: Vec<Option<Timestamp>>,
    ends_at: Timestamp,
}

impl Renewals {
    pub fn new(held: &[Held], ends_at: Timestamp, now: Timestamp) -> Self {
        let mut renewals = Self { due: vec![None; held.len()], ends_at };
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

    /// It now lives until `expires_at`: due again when two thirds of that have passed, unless the task ends first.
    pub fn renewed(&mut self, grant: usize, expires_at: Timestamp, now: Timestamp) {
        let life = expires_at.since(now);
        // An expiry that differs from the task's end by rounding is the task's end.
        let is_enough = expires_at.plus(LEAST) >= self.ends_at;
        self.due[grant] = (!is_enough).then(|| now.plus((life * 2 / 3).max(LEAST)));
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
