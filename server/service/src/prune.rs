//! Letting old records go, where an operator said how long they are kept.
//!
//! Decides which records nobody needs here any more: old enough, taken by every configured sink, in a tree that was written
//! down, and of no task or credential that is still alive. That they went is itself a record, and their hashes stay.

use crate::{Service, ServiceError};
use proto_types::{Position, Timestamp};
use server_core::{
    journal::pruning,
    ports::{Commit, Write},
};
use std::{
    collections::VecDeque,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

/// Between two looks; so long as time passes, whatever the wall clock says meanwhile.
pub const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// Looks in a row at which a record must have been old enough: a clock that leapt ahead is noticed within a day, and what it
/// made old is still there.
pub const LOOKS: usize = 24;

impl Service {
    /// One look: lets go what was older than `keep` at each of the last [`LOOKS`]. Answers where the journal begins now,
    /// when that moved.
    pub async fn prune_journal(&self, keep: Duration) -> Result<Option<Position>, ServiceError> {
        // A clock in doubt makes nothing old, nor what it said before.
        if self.clock_in_doubt().is_some() {
            self.looks().clear();
            return Ok(None);
        }
        let may_go = self.may_go(keep).await?;
        let Some(limit) = self.at_every_look(may_go) else { return Ok(None) };
        if limit.0 <= self.inner.ports.archive.pruned().await?.size() {
            return Ok(None);
        }
        let record = pruning(limit, keep, self.now());
        self.commit_and_follow(Commit::of(record).put(Write::Prune(limit))).await?;
        Ok(Some(limit))
    }

    fn looks(&self) -> MutexGuard<'_, VecDeque<Position>> {
        self.inner.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What could have gone at this look and at all that count; `None` before there were as many.
    fn at_every_look(&self, now: Position) -> Option<Position> {
        let mut looks = self.looks();
        looks.push_back(now);
        if looks.len() > LOOKS {
            looks.pop_front();
        }
        looks.iter().min().copied().filter(|_| looks.len() == LOOKS)
    }

    /// The position before which nobody needs a record now.
    async fn may_go(&self, keep: Duration) -> Result<Position, ServiceError> {
        let ports = &self.inner.ports;
        // A clock that is a little ahead makes nothing older than the newest record does.
        let now = self.now().min(ports.snapshots.meta().clock_high_water);
        let needed = self.oldest_in_use().map_or(now.minus(keep), |used| used.min(now.minus(keep)));
        let mut limit = ports.archive.older_than(needed).await?;
        for sink in self.sink_views() {
            limit = limit.min(ports.outlets.cursor(&sink.name).await?.unwrap_or_default());
        }
        // Who verifies what is left begins with the tree over what is gone.
        Ok(limit.min(Position(ports.archive.root().await?.map_or(0, |root| root.size))))
    }

    /// Since when the oldest of what lives has done so: its records answer who it is for.
    fn oldest_in_use(&self) -> Option<Timestamp> {
        self.read(|s| {
            let tasks = s.tasks.values().map(|task| task.started_at);
            tasks.chain(s.leases.values().map(|lease| lease.issued_at)).min()
        })
    }
}
