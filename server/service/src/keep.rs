//! Pruning the journal: `[journal] keep`.
//!
//! Decides when; how far is `server_core::journal::prunable`'s. What goes is said in a record of the same commit, so
//! that a verifier tells pruning from loss.

use crate::{Service, ServiceError};
use proto_types::{Position, Record, format_duration};
use serde_json::json;
use server_core::{
    journal::{HeldBack, prunable},
    ports::{Commit, Write},
};
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

/// Records looked at in one step.
const STEP: u32 = 50_000;

impl Service {
    /// Prunes what is older than `keep`, step by step, and answers up to where the journal is pruned now.
    pub async fn prune(&self, keep: Duration) -> Result<Position, ServiceError> {
        let ports = &self.inner.ports;
        loop {
            let from = ports.outlets.pruned().await?;
            // The earlier of both clocks: a wall clock that jumped ahead alone makes nothing old.
            let now = self.now().min(ports.snapshots.meta().clock_high_water);
            let old = ports.outlets.first_since(from, STEP, now.minus(keep)).await?;
            let root = ports.archive.root().await?.map_or(0, |root| root.size);
            let sinks: Vec<_> = self.sinks().iter().map(|progress| progress.place()).collect();
            let (below, held) = prunable(old, root, &sinks);
            self.note_held(held);
            if below <= from {
                return Ok(from);
            }
            let record = Record::new(self.now(), "journal.pruned")
                .detail(json!({ "from": from, "below": below, "keep": format_duration(keep) }));
            self.commit(Commit::of(record).put(Write::PruneJournal(below))).await?;
        }
    }

    fn note_held(&self, held: Option<HeldBack>) {
        let mut known = self.inner.held_back.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.map(Arc::new);
        if let Some(held) = held.as_ref().filter(|held| known.as_ref().is_none_or(|k| k.sink != held.sink)) {
            tracing::warn!(sink = held.sink, next = held.next.0, "a sink holds back the pruning of the journal");
        }
        *known = held;
    }

    /// The sink that holds back pruning, when one does.
    pub fn held_back(&self) -> Option<Arc<HeldBack>> {
        self.inner.held_back.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
