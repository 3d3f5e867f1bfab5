//! How many connections one uid, and all together, may hold open: the local socket's share rule.
//!
//! Decides admission only; the daemon accepts, reads the peer's uid and drops what is refused.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Why a connection was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("uid {uid} already holds {limit} connections; close some")]
    Uid { uid: u32, limit: usize },
    #[error("the agent already holds {limit} connections")]
    Total { limit: usize },
}

#[derive(Default)]
struct Counts {
    total: usize,
    by_uid: HashMap<u32, usize>,
}

/// The counters of one listener.
pub struct Admission {
    per_uid: usize,
    total: usize,
    counts: Arc<Mutex<Counts>>,
}

impl Admission {
    pub fn new(per_uid: usize, total: usize) -> Self {
        Self { per_uid, total, counts: Arc::default() }
    }

    /// One more connection of `uid`, counted until the permit is dropped.
    pub fn enter(&self, uid: u32) -> Result<Permit, Refused> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= self.total {
            return Err(Refused::Total { limit: self.total });
        }
        let held = counts.by_uid.get(&uid).copied().unwrap_or(0);
        if held >= self.per_uid {
            return Err(Refused::Uid { uid, limit: self.per_uid });
        }
        counts.by_uid.insert(uid, held + 1);
        counts.total += 1;
        Ok(Permit { uid, counts: self.counts.clone() })
    }
}

/// An admitted connection.
pub struct Permit {
    uid: u32,
    counts: Arc<Mutex<Counts>>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        let left = counts.by_uid.get(&self.uid).map_or(0, |n| n.saturating_sub(1));
        // A uid that holds nothing leaves no row, so the map is bounded by the total.
        if left == 0 {
            counts.by_uid.remove(&self.uid);
        } else {
            counts.by_uid.insert(self.uid, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uid_that_floods_is_refused_while_another_is_served() {
        let gate = Admission::new(100, 1000);
        let held: Vec<_> = (0..10_000).filter_map(|_| gate.enter(7).ok()).collect();
        assert_eq!(held.len(), 100);
        assert_eq!(gate.enter(7).err(), Some(Refused::Uid { uid: 7, limit: 100 }));
        assert!(gate.enter(8).is_ok());
        drop(held);
        assert!(gate.enter(7).is_ok(), "a closed connection frees its place");
        assert!(gate.counts.lock().unwrap().by_uid.is_empty());
    }

    #[test]
    fn all_uids_together_are_bounded_too() {
        let gate = Admission::new(2, 3);
        let held: Vec<_> = (0..3).map(|uid| gate.enter(uid).unwrap()).collect();
        assert_eq!(gate.enter(9).err(), Some(Refused::Total { limit: 3 }));
        drop(held);
        assert!(gate.enter(9).is_ok());
    }
}
