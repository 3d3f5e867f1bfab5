//! Leases as an operator sees them: ending one by hand, and who a credential belonged to.

use crate::{Service, ServiceError};
use proto_types::{CredentialName, Lease, LeaseId, LeaseState, Position, Record, Task};
use server_core::{lease, ports::Filter};

/// The story behind one credential.
#[derive(Debug)]
pub struct Who {
    pub lease: Option<Lease>,
    pub task: Option<Task>,
    /// Oldest first.
    pub records: Vec<(Position, Record)>,
}

impl Service {
    /// Ends one credential while its task goes on.
    pub async fn lease_revoke(&self, id: LeaseId, operator: Option<String>) -> Result<Lease, ServiceError> {
        let held = self.read(|s| s.leases.get(&id).cloned());
        let Some(held) = held else {
            return self.inner.ports.archive.lease(id).await?.ok_or_else(|| ServiceError::not_found("lease", id));
        };
        if matches!(held.state, LeaseState::Handed | LeaseState::Intended) {
            let mut moved = lease::revoke(&held, "revoked", self.now()).map_err(conflict)?;
            moved.record.operator = operator;
            self.commit_and_follow(moved.commit()).await?;
            self.inner.leases.wake();
        }
        self.lease(id).await
    }

    /// A lease as it stands: from memory while it is alive, from the store after.
    pub async fn lease(&self, id: LeaseId) -> Result<Lease, ServiceError> {
        if let Some(lease) = self.read(|s| s.leases.get(&id).cloned()) {
            return Ok((*lease).clone());
        }
        self.inner.ports.archive.lease(id).await?.ok_or_else(|| ServiceError::not_found("lease", id))
    }

    /// From a name found in a target's own log (or a serial, a `jti`, a lease id) back to task, workload and intent.
    pub async fn who(&self, credential: &str) -> Result<Who, ServiceError> {
        let mut lease = match credential.parse::<LeaseId>() {
            Ok(id) => self.inner.ports.archive.lease(id).await?,
            Err(_) => None,
        };
        if let Some(name) = CredentialName::recognise(&self.inner.meta.store_id, credential) {
            let targets: Vec<String> = self.read(|s| s.targets.keys().cloned().collect());
            for target in targets {
                lease = match lease {
                    None => self.inner.ports.archive.lease_named(&target, &name).await?,
                    found => found,
                };
            }
        }
        let wanted = lease.as_ref().map_or_else(|| credential.to_string(), |l| l.id.to_string());
        let filter = Filter { credential: Some(wanted), ..Filter::default() };
        let mut records = self.inner.ports.archive.search(&filter, None, 200).await?;
        records.reverse();
        if lease.is_none() {
            let named = records.iter().filter(|(_, r)| r.kind.starts_with("lease."));
            let id = named.filter_map(|(_, r)| r.credential.as_ref()?.id.parse::<LeaseId>().ok()).next();
            lease = match id {
                Some(id) => self.inner.ports.archive.lease(id).await?,
                None => None,
            };
        }
        let task_id = lease.as_ref().map(|l| l.task_id).or_else(|| records.iter().find_map(|(_, r)| r.task_id));
        let task = match task_id {
            Some(id) => self.task(id).await.ok(),
            None => None,
        };
        if lease.is_none() && records.is_empty() {
            return Err(ServiceError::not_found("credential", credential));
        }
        Ok(Who { lease, task, records })
    }

    /// A task as it stands.
    pub async fn task(&self, id: proto_types::TaskId) -> Result<Task, ServiceError> {
        if let Some(task) = self.read(|s| s.tasks.get(&id).cloned()) {
            return Ok((*task).clone());
        }
        self.inner.ports.archive.task(id).await?.ok_or_else(|| ServiceError::not_found("task", id))
    }
}

fn conflict(e: lease::LeaseError) -> ServiceError {
    ServiceError::Conflict(e.to_string())
}
