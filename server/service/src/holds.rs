//! Holds: made by an operator, they end what they match and refuse what is new until they are released.
//!
//! The order is what makes it complete. The hold is committed first; whatever commits after it carries a guard that
//! loses against it, and whatever committed before it is in memory once this server has followed the hold, so that it is
//! found and ended. A server that dies in between ends the rest when it is back: a held task is adrift.

use crate::{Service, ServiceError};
use proto_types::{
    EndReason, Hold, HoldId, TaskId,
    hold::{HoldError, Scope, Stopped, reason},
};
use server_core::{
    hold,
    ports::{Commit, Guard, Write},
};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Tasks ended side by side: as many as one group of the ledger takes with their leases.
const AT_ONCE: usize = 32;

/// A hold, and what it ended.
#[derive(Debug)]
pub struct MadeHold {
    pub hold: Hold,
    /// Tasks that it matched and that are over now; what ended below them is not counted.
    pub ended: usize,
    /// Tasks that could not be ended yet; the server goes on trying.
    pub ending: usize,
    /// Their credentials that are not gone from their targets yet.
    pub leases: usize,
}

impl Service {
    /// That nothing stops this: the guard under which it may be committed.
    pub(crate) fn not_held(&self, work: &Stopped<'_>) -> Result<Guard, ServiceError> {
        match self.read(|s| s.holds.on(work).cloned()) {
            None => Ok(Guard::NoHold(work.keys())),
            Some(hold) => Err(ServiceError::Held { what: hold.scope.to_string(), hold: Some(hold.id) }),
        }
    }

    /// Stops what the scope names. Answers when every task it matches was ended.
    pub async fn hold_create(
        &self,
        scope: Scope,
        why: &str,
        operator: Option<String>,
    ) -> Result<MadeHold, ServiceError> {
        let now = self.now();
        let hold = Hold {
            id: HoldId::new(self.inner.ports.entropy.uuid_v7(now)),
            scope,
            reason: reason(why)?,
            operator: operator.clone(),
            created_at: now,
        };
        let record = hold::record("created", &hold, operator.clone(), now);
        self.commit_and_follow(Commit::of(record).put(Write::Hold(hold.clone()))).await?;
        let key = hold.scope.key();
        let matched: Vec<TaskId> =
            self.read(|s| s.tasks.values().filter(|t| Stopped::task(t).keys().contains(&key)).map(|t| t.id).collect());
        for some in matched.chunks(AT_ONCE) {
            let mut running = JoinSet::new();
            for id in some.iter().copied() {
                let (service, operator) = (self.clone(), operator.clone());
                running.spawn(async move {
                    match service.task_end(id, EndReason::Held, operator).await {
                        // Over already, or with a parent that was held too.
                        Ok(_) | Err(ServiceError::TaskOver) => {}
                        Err(error) => {
                            tracing::warn!(task = %id, %error, "a held task could not be ended yet; it will be tried again");
                        }
                    }
                });
            }
            running.join_all().await;
        }
        let (ending, leases) = self.read(|s| {
            let ending = matched.iter().filter(|id| s.tasks.contains_key(id)).count();
            (ending, matched.iter().map(|id| s.leases_of(*id).len()).sum())
        });
        Ok(MadeHold { hold, ended: matched.len() - ending, ending, leases })
    }

    /// Lifts the hold. What it ended stays ended.
    pub async fn hold_release(&self, id: HoldId, operator: Option<String>) -> Result<Arc<Hold>, ServiceError> {
        let hold = self.hold(id)?;
        let record = hold::record("released", &hold, operator, self.now());
        self.commit_and_follow(Commit::of(record).when(Guard::Held(id)).put(Write::DropHold(id))).await?;
        Ok(hold)
    }

    pub fn hold(&self, id: HoldId) -> Result<Arc<Hold>, ServiceError> {
        self.read(|s| s.holds.get(id).cloned()).ok_or_else(|| ServiceError::not_found("hold", id))
    }
}

impl From<HoldError> for ServiceError {
    fn from(e: HoldError) -> Self {
        Self::Invalid(e.to_string())
    }
}
