//! A request that is sent again to a server that does not have its answer: another one, or the same after a restart.
//!
//! A lease says which request it answers. What an earlier one gave is ended before another is made, and each answer takes
//! a claim in the commit of its lease: of several servers that are asked at once, one makes a credential. A task token has
//! no lease; asked for again elsewhere there are two, and both end with their task. What only runs out, such as an SSH
//! certificate, cannot be ended before: its lease is.

use super::{refuse, unavailable};
use crate::{Service, ServiceError};
use proto_types::{Attempt, Lease, LeaseId, LeaseState, Task};
use server_core::{
    exchange::{OAuthCode, OAuthError, claim_of},
    ports::{Commit, CommitError, Durable, Filter, Guard},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::broadcast::error::RecvError;

/// How long a target may take to end what was given before. Behind it the client is told to come back.
const ENDED_WITHIN: Duration = Duration::from_secs(5);
/// Leases of one task that are searched for those with a key.
const SEARCHED: u32 = 200;

impl Service {
    /// The attempt that is to answer: behind every one that is known here, whose credential is ended first.
    pub(super) async fn supersede(&self, task: &Task, first: Attempt) -> Result<Attempt, OAuthError> {
        let Some(earlier) = newest(&first, self.read(|s| s.leases_of(task.id)))? else { return Ok(first) };
        if earlier.state == LeaseState::Handed {
            let mut changes = self.changes();
            self.lease_revoke(earlier.id, None).await.map_err(unavailable)?;
            let ended = async {
                while self.is_revoking(earlier.id) {
                    if matches!(changes.recv().await, Err(RecvError::Closed)) {
                        return;
                    }
                }
            };
            tokio::select! {
                () = ended => {}
                () = self.inner.ports.clock.sleep(ENDED_WITHIN) => {
                    let why = "what this request was given before is still being ended in its target; try again in a moment";
                    return Err(refuse(OAuthCode::TemporarilyUnavailable, why));
                }
            }
        } else {
            // It is being ended, or made: who makes it finds out when it would hand it over, and nobody has its secret.
            self.lease_revoke(earlier.id, None).await.map_err(unavailable)?;
        }
        Ok(after(&first, &earlier))
    }

    fn is_revoking(&self, id: LeaseId) -> bool {
        self.read(|s| s.leases.get(&id).is_some_and(|l| l.state == LeaseState::Revoking))
    }

    /// Commits the lease that an answer begins with. `None`: somebody has answered so before, or does now.
    pub(super) async fn commit_answer(
        &self,
        unit: Commit,
        task: &Task,
        attempt: Option<&Attempt>,
    ) -> Result<Option<Durable>, OAuthError> {
        let unit = match attempt {
            Some(attempt) => unit.when(Guard::Unclaimed(claim_of(attempt, task))),
            None => unit,
        };
        match self.inner.ports.ledger.commit(unit).await {
            Ok(durable) => {
                self.follow_to(durable.last()).await;
                Ok(Some(durable))
            }
            Err(CommitError::Lost(Guard::Unclaimed(_))) => Ok(None),
            Err(error) => Err(unavailable(ServiceError::from(error))),
        }
    }

    /// The attempt behind one that was made and is over. While one is alive it is somebody's who is asked right now.
    pub(super) async fn behind(&self, task: &Task, lost: &Attempt) -> Result<Attempt, OAuthError> {
        self.confirm().await.map_err(unavailable)?;
        if newest(lost, self.read(|s| s.leases_of(task.id)))?.is_some() {
            return Err(under_way());
        }
        let filter = Filter { task: Some(task.id), live: Some(false), ..Filter::default() };
        let over = self.inner.ports.archive.leases(&filter, None, SEARCHED).await;
        let over = over.map_err(|e| unavailable(e.into()))?.into_iter().map(Arc::new).collect();
        let earlier = newest(lost, over)?.ok_or_else(|| {
            refuse(OAuthCode::InvalidRequest, "this Idempotency-Key was used long ago; take a new one")
        })?;
        Ok(after(lost, &earlier))
    }
}

/// The newest of these that answers a request with this key, which must have been the same request.
fn newest(attempt: &Attempt, leases: Vec<Arc<Lease>>) -> Result<Option<Arc<Lease>>, OAuthError> {
    let answers = |lease: &Lease| lease.attempt.as_ref().is_some_and(|a| a.key == attempt.key);
    let newest = leases.into_iter().filter(|l| answers(l)).max_by_key(|l| l.attempt.as_ref().map(|a| a.number));
    match &newest {
        Some(lease) if lease.attempt.as_ref().is_some_and(|a| a.request != attempt.request) => Err(another_request()),
        _ => Ok(newest),
    }
}

fn after(attempt: &Attempt, earlier: &Lease) -> Attempt {
    let number = earlier.attempt.as_ref().map_or(0, |a| a.number.saturating_add(1));
    Attempt { number, ..attempt.clone() }
}

pub(super) fn another_request() -> OAuthError {
    refuse(OAuthCode::InvalidRequest, "this Idempotency-Key was used for another request; take a new one")
}

pub(super) fn under_way() -> OAuthError {
    let why = "the first request with this Idempotency-Key is still under way; try again in a moment";
    refuse(OAuthCode::TemporarilyUnavailable, why)
}
