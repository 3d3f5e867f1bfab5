//! One credential: leased, created in its target, handed. Whatever fails in between leaves a lease that is ended.

use super::{refuse, unavailable};
use crate::{Service, ServiceError, reconcile::Busy, tasks};
use proto_types::{CredentialInfo, Grant, Lease, LeaseId, RoleName, TargetDoc, Task, Timestamp};
use server_core::{
    exchange::{ExchangeRequest, Limits, OAuthCode, OAuthError, TokenResponse, narrow},
    lease::{self, NewLease},
    ports::{Decision, Guard, IssueError, IssueRequest, Issued, RoleLimits, Target},
};
use std::{sync::Arc, time::Duration};

/// The longest a target may take to create.
const ISSUE_TIMEOUT: Duration = Duration::from_secs(30);

impl Service {
    pub(super) async fn credential(
        &self,
        task: &Task,
        grant: &Grant,
        request: &ExchangeRequest,
        bound: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(TokenResponse, LeaseId), OAuthError> {
        let role = &grant.role;
        let target = self.target(role.target()).ok_or_else(|| {
            refuse(
                OAuthCode::InvalidTarget,
                format!("target {} is not usable now; see errand target check", role.target()),
            )
        })?;
        let limits = target.role(role.role()).ok_or_else(|| {
            refuse(OAuthCode::InvalidTarget, format!("target {} has no role {}", role.target(), role.role()))
        })?;
        if let Some(wanted) = request.requested.filter(|t| t.as_str() != limits.token_type) {
            let why = format!(
                "{role} is issued as {}, not as {}; leave requested_token_type out",
                limits.token_type,
                wanted.as_str()
            );
            return Err(refuse(OAuthCode::InvalidRequest, why));
        }
        let decision = self.ask(task, Some(role), grant.max_ttl, now);
        let asked = request.details.ttl()?;
        let narrowed = Limits { task, grant, role: &limits, decision: &decision, subject_expires: bound, asked, now };
        let not_after = narrow(&narrowed)?;
        let params = request.details.params()?;
        let held = self.intend(task, role, &limits, &decision, not_after, now).await?;
        self.create(task, target, held, params, decision, now).await
    }

    /// The lease with the name its credential will have, durable before the target is touched.
    async fn intend(
        &self,
        task: &Task,
        role: &RoleName,
        limits: &RoleLimits,
        decision: &Decision,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<Intended, OAuthError> {
        let found = self.read(|s| s.targets.get(role.target()).map(|t| t.doc.clone()));
        let Some(TargetDoc { kind, revision, retired: false, .. }) = found else {
            return Err(refuse(OAuthCode::InvalidTarget, format!("target {} is being removed", role.target())));
        };
        let id = LeaseId::new(self.inner.ports.entropy.uuid_v7(now));
        let busy = self.take_lease(id).ok_or_else(|| refuse(OAuthCode::ServerError, "the lease id is taken"))?;
        let moved = lease::intend(NewLease {
            id,
            task,
            role: role.clone(),
            kind: &kind,
            store_id: &self.inner.meta.store_id,
            revocability: limits.revocability,
            expires_at,
            now,
        })
        .on_behalf_of(task, Some(tasks::decision_note(decision)));
        let lease = moved.lease.clone();
        let mut unit = moved.commit().when(Guard::TargetAt(role.target().into(), revision));
        for guard in self.path(task).map_err(unavailable)? {
            unit = unit.when(guard);
        }
        let durable = self.commit_and_follow(unit).await.map_err(unavailable)?;
        Ok(Intended { lease, durable, busy })
    }

    async fn create(
        &self,
        task: &Task,
        target: Arc<dyn Target>,
        intended: Intended,
        params: serde_json::Value,
        decision: Decision,
        now: Timestamp,
    ) -> Result<(TokenResponse, LeaseId), OAuthError> {
        let Intended { lease: held, durable, busy: _busy } = intended;
        let request = IssueRequest {
            name: held.name.clone(),
            role: held.role.role().into(),
            task: task.id,
            workload: task.workload.clone(),
            user: task.user.clone(),
            params,
            now,
            not_after: held.expires_at,
        };
        let made = tokio::select! {
            made = target.issue(&durable, &request) => made,
            () = self.inner.ports.clock.sleep(ISSUE_TIMEOUT) =>
                Err(IssueError::Unknown { why: "no answer within 30s".into() }),
        };
        let issued = match made {
            Ok(issued) => issued,
            Err(error) => return Err(self.not_created(&held, error).await),
        };
        let answer = respond(&held, &issued, self.now())?;
        match self.hand(task, &held, &issued, decision).await {
            Ok(()) => Ok((answer, held.id)),
            Err(error) => {
                self.abandon(&held, "not_handed").await;
                Err(unavailable(error))
            }
        }
    }

    /// The last check and the record of the release, in one commit.
    async fn hand(&self, task: &Task, held: &Lease, issued: &Issued, decision: Decision) -> Result<(), ServiceError> {
        let moved = lease::hand(held, issued.handle.clone(), issued.not_after, self.now())
            .map_err(|e| ServiceError::Unavailable(e.to_string()))?
            .on_behalf_of(task, Some(tasks::decision_note(&decision)));
        let mut unit = moved.commit();
        for guard in self.path(task)? {
            unit = unit.when(guard);
        }
        let _released = self.commit_and_follow(unit).await?;
        Ok(())
    }

    async fn not_created(&self, held: &Lease, error: IssueError) -> OAuthError {
        let target = held.role.target();
        match error {
            IssueError::Refused { why } => {
                if let Ok(moved) = lease::void(held, &why, self.now())
                    && let Err(error) = self.commit_and_follow(moved.commit()).await
                {
                    tracing::warn!(lease = %held.id, %error, "a refused lease could not be closed; the reconciler will");
                }
                refuse(OAuthCode::TemporarilyUnavailable, format!("target {target} refused: {why}"))
            }
            IssueError::Unknown { why } => {
                self.abandon(held, "unknown_outcome").await;
                refuse(OAuthCode::TemporarilyUnavailable, format!("target {target} did not answer clearly: {why}"))
            }
        }
    }

    /// Nobody has the secret: what may have been made is ended. If even that cannot be written now, recovery does it.
    async fn abandon(&self, held: &Lease, why: &str) {
        if let Ok(moved) = lease::revoke(held, why, self.now())
            && let Err(error) = self.commit_and_follow(moved.commit()).await
        {
            tracing::warn!(lease = %held.id, %error, "an abandoned lease could not be moved; the reconciler will");
        }
        self.inner.leases.wake();
    }
}

struct Intended {
    lease: Lease,
    durable: server_core::ports::Durable,
    busy: Busy,
}

/// The answer as the client gets it. Made before `handed` is committed, so that nothing can fail after.
fn respond(held: &Lease, issued: &Issued, now: Timestamp) -> Result<TokenResponse, OAuthError> {
    let fields = serde_json::from_str(issued.fields.expose())
        .map_err(|_| refuse(OAuthCode::ServerError, "the target's answer cannot be read"))?;
    Ok(TokenResponse {
        access_token: issued.access_token.clone(),
        issued_token_type: issued.token_type.into(),
        token_type: "N_A".into(),
        expires_in: issued.not_after.since(now).as_secs(),
        scope: None,
        credential: Some(CredentialInfo {
            kind: held.kind.clone(),
            id: held.id.to_string(),
            expires_at: issued.not_after,
            revocability: held.revocability,
            placement: issued.placement.clone(),
            fields,
        }),
    })
}
