//! One credential: leased, created in its target, handed; or minted and handed. Whatever fails in between leaves a lease
//! that is ended, or nothing at all.

use super::{again::under_way, refuse, unavailable};
use crate::{Service, ServiceError, reconcile::Busy, tasks};
use proto_types::{
    Attempt, CredentialInfo, CredentialName, Grant, Lease, LeaseId, RoleName, TargetDoc, Task, Timestamp,
};
use server_core::{
    exchange::{ExchangeRequest, JournalPlace, Limits, OAuthCode, OAuthError, TokenResponse, narrow},
    lease::{self, NewLease},
    ports::{Commit, Decision, Durable, Guard, IssueError, IssueRequest, Issued, Making, RoleLimits, Target},
};
use std::time::Duration;

/// The longest a target may take to create.
const ISSUE_TIMEOUT: Duration = Duration::from_secs(30);

impl Service {
    pub(super) async fn credential(
        &self,
        task: &Task,
        grant: &Grant,
        request: &ExchangeRequest,
        bound: Option<Timestamp>,
        attempt: Option<Attempt>,
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
        let (key, params) = (request.details.key(limits.key)?, request.details.params()?);
        let narrowed = Limits { task, grant, role: &limits, decision: &decision, subject_expires: bound, asked, now };
        let not_after = narrow(&narrowed)?;
        let attempt = match attempt {
            Some(first) => Some(self.supersede(task, first).await?),
            None => None,
        };
        let mut order =
            Order { task, role, limits: &limits, decision: &decision, key, params, not_after, attempt, now };
        if let Some(made) = self.answer(&*target, &order).await? {
            return Ok(made);
        }
        if let Some(lost) = &order.attempt {
            order.attempt = Some(self.behind(task, lost).await?);
        }
        self.answer(&*target, &order).await?.ok_or_else(under_way)
    }

    /// `None` when this attempt is somebody's already, and then nothing was made.
    async fn answer(
        &self,
        target: &dyn Target,
        order: &Order<'_>,
    ) -> Result<Option<(TokenResponse, LeaseId)>, OAuthError> {
        match order.limits.making {
            Making::Created => match self.intend(order).await? {
                Some(held) => self.create(target, held, order).await.map(Some),
                None => Ok(None),
            },
            Making::Minted => self.mint(target, order).await,
        }
    }

    /// The lease with the name its credential will have, durable before the target is touched.
    async fn intend(&self, order: &Order<'_>) -> Result<Option<Intended>, OAuthError> {
        let place = self.place(order.role)?;
        let id = LeaseId::new(self.inner.ports.entropy.uuid_v7(order.now));
        let busy = self.take_lease(id).ok_or_else(|| refuse(OAuthCode::ServerError, "the lease id is taken"))?;
        let moved = lease::intend(self.new_lease(id, order, &place, order.not_after))
            .on_behalf_of(order.task, Some(tasks::decision_note(order.decision)));
        let lease = moved.lease.clone();
        let unit = self.guarded(moved.commit(), order.task).map_err(unavailable)?.when(place.guard);
        let durable = self.commit_answer(unit, order.task, order.attempt.as_ref()).await?;
        Ok(durable.map(|durable| Intended { lease, durable, busy }))
    }

    async fn create(
        &self,
        target: &dyn Target,
        intended: Intended,
        order: &Order<'_>,
    ) -> Result<(TokenResponse, LeaseId), OAuthError> {
        let Intended { lease: held, durable, busy: _busy } = intended;
        let (task, decision) = (order.task, order.decision);
        let request = order.request(held.name.clone());
        let made = tokio::select! {
            made = target.issue(&durable, &request) => made,
            () = self.inner.ports.clock.sleep(ISSUE_TIMEOUT) =>
                Err(IssueError::Unknown { why: "no answer within 30s".into() }),
        };
        let issued = match made {
            Ok(issued) => issued,
            Err(error) => return Err(self.not_created(&held, error).await),
        };
        let mut answer = respond(&held, &issued, self.now())?;
        match self.hand(task, &held, &issued, decision).await {
            Ok(released) => {
                answer.journal = JournalPlace::of(&released);
                Ok((answer, held.id))
            }
            Err(error) => {
                self.abandon(&held, "not_handed").await;
                Err(unavailable(error))
            }
        }
    }

    /// Signed first: nothing exists before the release, and what is not released is forgotten. Its lease begins as
    /// `handed`, in the commit that the release waits for.
    async fn mint(
        &self,
        target: &dyn Target,
        order: &Order<'_>,
    ) -> Result<Option<(TokenResponse, LeaseId)>, OAuthError> {
        let place = self.place(order.role)?;
        let id = LeaseId::new(self.inner.ports.entropy.uuid_v7(order.now));
        let (task, decision) = (order.task, order.decision);
        let request = order.request(CredentialName::of(&self.inner.meta.store_id, id));
        let issued = target.mint(&request).await.map_err(|error| not_minted(&error, task, &request.role))?;
        if issued.not_after > order.not_after {
            return Err(refuse(OAuthCode::ServerError, "the certificate would outlive what was granted"));
        }
        let moved = lease::mint(self.new_lease(id, order, &place, issued.not_after), issued.handle.clone())
            .on_behalf_of(task, Some(tasks::decision_note(decision)));
        let mut answer = respond(&moved.lease, &issued, self.now())?;
        let unit = self.guarded(moved.commit(), task).map_err(unavailable)?.when(place.guard);
        let Some(released) = self.commit_answer(unit, task, order.attempt.as_ref()).await? else { return Ok(None) };
        answer.journal = JournalPlace::of(&released);
        Ok(Some((answer, id)))
    }

    /// The target as its document stands now; the guard makes sure that it still does when the lease is written.
    fn place(&self, role: &RoleName) -> Result<Place, OAuthError> {
        let found = self.read(|s| s.targets.get(role.target()).map(|t| t.doc.clone()));
        match found {
            Some(TargetDoc { kind, revision, retired: false, .. }) => {
                Ok(Place { kind, guard: Guard::TargetAt(role.target().into(), revision) })
            }
            _ => Err(refuse(OAuthCode::InvalidTarget, format!("target {} is being removed", role.target()))),
        }
    }

    fn new_lease<'a>(
        &'a self,
        id: LeaseId,
        order: &'a Order<'_>,
        place: &'a Place,
        expires_at: Timestamp,
    ) -> NewLease<'a> {
        NewLease {
            id,
            task: order.task,
            role: order.role.clone(),
            kind: &place.kind,
            store_id: &self.inner.meta.store_id,
            revocability: order.limits.revocability,
            expires_at,
            attempt: order.attempt.clone().map(Box::new),
            now: order.now,
        }
    }

    /// Loses when the task, or one it descends from, has ended.
    fn guarded(&self, unit: Commit, task: &Task) -> Result<Commit, ServiceError> {
        Ok(self.path(task)?.into_iter().fold(unit, Commit::when))
    }

    /// The last check and the record of the release, in one commit.
    async fn hand(
        &self,
        task: &Task,
        held: &Lease,
        issued: &Issued,
        decision: &Decision,
    ) -> Result<Durable, ServiceError> {
        let moved = lease::hand(held, issued.handle.clone(), issued.not_after, self.now())
            .map_err(|e| ServiceError::Unavailable(e.to_string()))?
            .on_behalf_of(task, Some(tasks::decision_note(decision)));
        let unit = self.guarded(moved.commit(), task)?;
        self.commit_and_follow(unit).await
    }

    async fn not_created(&self, held: &Lease, error: IssueError) -> OAuthError {
        let target = held.role.target();
        match error {
            IssueError::Refused { why } => {
                self.close(held, &why).await;
                refuse(OAuthCode::TemporarilyUnavailable, format!("target {target} refused: {why}"))
            }
            IssueError::Never { why } => {
                self.close(held, &why).await;
                // RFC 8693 section 2.2.2: unwilling or unable to issue for this target.
                refuse(OAuthCode::InvalidTarget, format!("target {target} refused: {why}"))
            }
            IssueError::Unknown { why } => {
                self.abandon(held, "unknown_outcome").await;
                refuse(OAuthCode::TemporarilyUnavailable, format!("target {target} did not answer clearly: {why}"))
            }
        }
    }

    /// Nothing was made.
    async fn close(&self, held: &Lease, why: &str) {
        if let Ok(moved) = lease::void(held, why, self.now())
            && let Err(error) = self.commit_and_follow(moved.commit()).await
        {
            tracing::warn!(lease = %held.id, %error, "a refused lease could not be closed; the reconciler will");
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

/// What is to be made, for whom, and by which decision.
struct Order<'a> {
    task: &'a Task,
    role: &'a RoleName,
    limits: &'a RoleLimits,
    decision: &'a Decision,
    /// The caller's key, when the role asks for one.
    key: Option<String>,
    params: serde_json::Value,
    not_after: Timestamp,
    /// Of a request that may be sent again.
    attempt: Option<Attempt>,
    now: Timestamp,
}

impl Order<'_> {
    fn request(&self, name: CredentialName) -> IssueRequest {
        IssueRequest {
            name,
            role: self.role.role().into(),
            task: self.task.id,
            workload: self.task.workload.clone(),
            user: self.task.user.clone(),
            params: self.params.clone(),
            key: self.key.clone(),
            now: self.now,
            not_after: self.not_after,
        }
    }
}

struct Place {
    kind: String,
    guard: Guard,
}

struct Intended {
    lease: Lease,
    durable: Durable,
    busy: Busy,
}

fn not_minted(error: &IssueError, task: &Task, role: &str) -> OAuthError {
    match error {
        // What a kind refuses before anything exists is what the caller sent.
        IssueError::Refused { why } | IssueError::Never { why } => refuse(OAuthCode::InvalidAuthorizationDetails, why),
        IssueError::Unknown { why } => {
            tracing::error!(task = %task.id, role, why, "a credential could not be signed");
            refuse(OAuthCode::TemporarilyUnavailable, why)
        }
    }
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
        journal: None,
    })
}
