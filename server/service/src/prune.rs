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
use std::time::Duration;

impl Service {
    /// Lets go what is older than `keep`; answers where the journal begins now, when that moved.
    pub async fn prune_journal(&self, keep: Duration) -> Result<Option<Position>, ServiceError> {
        // A clock in doubt makes nothing old; one that is a little ahead makes nothing older than the newest record.
        if self.clock_in_doubt().is_some() {
            return Ok(None);
        }
        let ports = &self.inner.ports;
        let now = self.now().min(ports.snapshots.meta().clock_high_water);
        let needed = self.oldest_in_use().map_or(now.minus(keep), |used| used.min(now.minus(keep)));
        let mut limit = ports.archive.older_than(needed).await?;
        for sink in self.sink_views() {
            limit = limit.min(ports.outlets.cursor(&sink.name).await?.unwrap_or_default());
        }
        // Who verifies what is left begins with the tree over what is gone.
        limit = limit.min(Position(ports.archive.root().await?.map_or(0, |root| root.size)));
        if limit.0 <= ports.archive.pruned().await?.size() {
            return Ok(None);
        }
        let record = pruning(limit, keep, self.now());
        self.commit_and_follow(Commit::of(record).put(Write::Prune(limit))).await?;
        Ok(Some(limit))
    }

    /// Since when the oldest of what lives has done so: its records answer who it is for.
    fn oldest_in_use(&self) -> Option<Timestamp> {
        self.read(|s| {
            let tasks = s.tasks.values().map(|task| task.started_at);
            tasks.chain(s.leases.values().map(|lease| lease.issued_at)).min()
        })
    }
}
