//! The follower: reads the journal by position, keeps [`State`] current, and tells watchers what changed.
//!
//! The journal is the only feed: what is not in a record is not seen by anyone.

use crate::{Service, policies::Loaded, state::State};
use proto_types::{Entry, Lease, Position, SpiffeId, Task};
use server_core::ports::ReadError;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Records read at once.
const BATCH: u32 = 512;
/// So many records are always followed, however little there is to load instead.
const NEAR: u64 = 4096;

/// What watchers hear, in journal order.
#[derive(Clone, Debug)]
pub enum Change {
    Entry {
        before: Option<Arc<Entry>>,
        after: Option<Arc<Entry>>,
    },
    Node {
        id: SpiffeId,
        gone: bool,
    },
    Task(Arc<Task>),
    Lease(Arc<Lease>),
    Policy,
    Bundle,
    /// A signing key came, changed or went, here or in another server.
    Authority,
    /// A hold was made or released.
    Hold,
    /// More than can be told: everything may have changed.
    Everything,
}

impl Service {
    /// Follows the journal until `stop`. A read that fails is tried again: the state stays at its last position, and
    /// nothing is acknowledged as seen that is not.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut size = self.inner.ports.feed.size();
        loop {
            let at = *self.inner.applied.borrow();
            let there = *size.borrow_and_update();
            if at < there {
                // Where more was missed than there is to load, everything anew costs less.
                let shared = self.inner.settings.shared_store;
                let far = shared && there - at > NEAR.max(self.read(State::nouns));
                let caught = if far { self.load_anew(at).await } else { self.catch_up(at).await };
                let caught = match caught {
                    Err(ReadError::Pruned(_)) => self.load_anew(at).await,
                    caught => caught,
                };
                if let Err(error) = caught {
                    tracing::error!(%error, position = at, "the journal cannot be read; trying again");
                    self.inner.ports.clock.sleep(Duration::from_millis(100)).await;
                }
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = size.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The state as it stands in the store, in the place of every record since `at`.
    async fn load_anew(&self, at: u64) -> Result<(), ReadError> {
        let snapshot = self.inner.ports.snapshots.load().await?;
        let next = snapshot.at.0;
        let mut state = State::from_snapshot(snapshot, &self.inner.ports.build_target);
        {
            let mut held = self.inner.state.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            // Whatever stood on something may have lost it.
            state.shaken = held.shaken + 1;
            *held = state;
        }
        tracing::info!(from = at, to = next, "far behind the journal: the state was loaded anew");
        self.reload_policy();
        self.inner.applied.send_replace(next);
        let _ = self.inner.changes.send(Change::Everything);
        Ok(())
    }

    async fn catch_up(&self, at: u64) -> Result<(), ReadError> {
        let records = self.inner.ports.feed.from(Position(at), BATCH).await?;
        let Some((last, _)) = records.last() else { return Ok(()) };
        let next = last.0 + 1;
        let mut changes = Vec::new();
        {
            let mut state = self.inner.state.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (_, record) in &records {
                changes.extend(state.apply(record, &self.inner.ports.build_target));
            }
        }
        if changes.iter().any(|c| matches!(c, Change::Policy)) {
            self.reload_policy();
        }
        self.inner.applied.send_replace(next);
        for change in changes {
            // Nobody listening is no error.
            let _ = self.inner.changes.send(change);
        }
        Ok(())
    }

    fn reload_policy(&self) {
        let docs: Vec<_> = self.read(|s| s.policies.values().cloned().collect());
        self.inner.policy.store(Arc::new(Loaded::compile(self.inner.ports.policies.as_ref(), &docs)));
    }
}
