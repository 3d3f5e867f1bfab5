//! Token exchange in order: who calls, in which task, decided by policy, leased, created, handed.
//!
//! The lease row `intended` is durable before the target is touched; `handed` and its record are durable before the
//! credential leaves, in a commit that loses when the task has ended meanwhile. Then nobody has seen the secret and the
//! lease is revoked. The work goes on to its end when the caller hangs up.

use crate::{Service, ServiceError, reconcile::Busy, tasks};
use proto_jose::{Expect, KeySet, VerifiedJwt, verify_jwt};
use proto_types::{
    CredentialInfo, Grant, KeyUse, Lease, LeaseId, Record, RoleName, Secret, SpiffeId, TargetDoc, Task, TaskId,
    Timestamp,
};
use serde_json::json;
use server_core::{
    exchange::{
        ClientAuth, ExchangeRequest, Goal, Limits, OAuthCode, OAuthError, Proven, SubjectType, TokenResponse,
        TokenType, fingerprint, narrow, narrow_task_token,
    },
    issue::{TaskTokenRequest, task_token_template},
    lease::{self, NewLease},
    ports::{Action, Commit, Decision, Guard, IssueError, IssueRequest, Issued, Query, RoleLimits, Target},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The longest a target may take to create.
const ISSUE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer is kept for its `Idempotency-Key`, in memory only.
const ANSWER_TTL: Duration = Duration::from_secs(120);
const MAX_ANSWERS: usize = 4096;
/// Answers kept for one task.
const MAX_ANSWERS_OF_TASK: usize = 64;

/// A caller whose task SVID was verified at the connection and found among the serials of live tasks.
/// Made by [`Service::exchange_caller`] only.
#[derive(Clone, Debug)]
pub struct ExchangeCaller {
    id: SpiffeId,
    task: Arc<Task>,
    cert_sha256: [u8; 32],
}

/// The whole answer.
#[derive(Debug)]
pub struct Exchanged(pub TokenResponse);

/// Answers by (task, key): the fingerprint of the request, and the answer's JSON.
#[derive(Default)]
pub(crate) struct Answers(Mutex<HashMap<(TaskId, String), Kept>>);

struct Kept {
    fingerprint: [u8; 32],
    /// The first request with this key is still under way.
    pending: bool,
    lease: Option<LeaseId>,
    answer: Option<Secret<String>>,
    until: Timestamp,
}

impl Service {
    /// Who calls the token endpoint: the SVID's serial must have been issued here, for a task that lives.
    pub fn exchange_caller(
        &self,
        id: &SpiffeId,
        serial: &str,
        cert_sha256: [u8; 32],
    ) -> Result<ExchangeCaller, OAuthError> {
        let task = self.read(|s| s.tasks.get(s.serials.get(serial)?).cloned());
        let task = task.ok_or_else(|| {
            refuse(
                OAuthCode::InvalidClient,
                "this certificate is not the SVID of a live task; exchange from inside a task (errand run, errand exchange)",
            )
        })?;
        if id.to_string() != task.spiffe_id() || !task.is_live() || task.ends_at <= self.now() {
            return Err(refuse(OAuthCode::InvalidClient, "the task of this certificate is over; start a new one"));
        }
        Ok(ExchangeCaller { id: id.clone(), task, cert_sha256 })
    }

    /// Exchanges. An authenticated refusal leaves one record.
    pub async fn exchange(
        &self,
        caller: ExchangeCaller,
        request: ExchangeRequest,
        key: Option<String>,
    ) -> Result<Exchanged, OAuthError> {
        let service = self.clone();
        // On a task of its own: a caller that hangs up must not leave half a credential behind.
        let slot = key.clone().map(|key| (caller.task.clone(), key));
        let work = tokio::spawn(async move {
            let outcome = service.exchange_inner(&caller, &request, key).await;
            if let Err(error) = &outcome {
                service.record_refusal(&caller, &request, error).await;
            }
            outcome
        });
        work.await.unwrap_or_else(|_| {
            if let Some((task, key)) = slot {
                self.forget(&task, &key);
            }
            Err(refuse(OAuthCode::ServerError, "the exchange failed inside the server; it is safe to try again"))
        })
    }

    async fn record_refusal(&self, caller: &ExchangeCaller, request: &ExchangeRequest, error: &OAuthError) {
        // What the server itself could not do is no refusal; and without a store there is nowhere to write it.
        if matches!(error.code(), OAuthCode::ServerError | OAuthCode::TemporarilyUnavailable) {
            return;
        }
        // One task must not fill the journal with what it was refused: beyond the rate it is only counted.
        if self.inner.refusals.check_key(&caller.task.id).is_err() {
            tracing::debug!(task = %caller.task.id, "a refusal beyond the rate was not recorded");
            return;
        }
        let mut record = Record::new(self.now(), "exchange.refused")
            .workload(&caller.task.workload)
            .task(caller.task.id)
            .node(&caller.task.node)
            .outcome(error.code().as_str())
            .detail(json!({ "why": error.description() }));
        if let Goal::Roles(roles) = &request.goal
            && let [role] = &roles[..]
        {
            record = record.role(role);
        }
        if let Err(error) = self.commit(Commit::of(record)).await {
            tracing::warn!(%error, "a refused exchange could not be recorded");
        }
    }

    async fn exchange_inner(
        &self,
        caller: &ExchangeCaller,
        request: &ExchangeRequest,
        key: Option<String>,
    ) -> Result<Exchanged, OAuthError> {
        let now = self.now();
        if let ClientAuth::Assertion { .. } = request.client {
            let why = "a client_assertion is not accepted beside a certificate; the task's own SVID authenticates";
            return Err(refuse(OAuthCode::InvalidRequest, why));
        }
        let subject = self.verify_subject(request, now)?;
        if request.subject.kind == SubjectType::AccessToken {
            within_token(caller, request, &subject)?;
        }
        let proven = Proven {
            client: caller.id.clone(),
            client_task: Some(caller.task.id),
            subject_task: self.subject_task(request, &subject),
            subject_expires: subject.expires_at(),
        };
        let admitted = request.admit(&proven, &caller.task, now)?;
        let print = fingerprint(request, &proven);
        if let Some(key) = &key
            && let Some(answer) = self.recall(&caller.task, key, print, now).await?
        {
            return Ok(answer);
        }
        // A task token carries authority of its own: what it buys ends with it.
        let bound = (request.subject.kind == SubjectType::AccessToken).then(|| subject.expires_at());
        let made = match &admitted.grants[..] {
            [] => self.task_token(caller, &admitted.scope, admitted.narrowed, bound, now).await.map(|a| (a, None)),
            [grant] => {
                self.credential(&caller.task, grant, request, bound, now).await.map(|(a, lease)| (a, Some(lease)))
            }
            _ => {
                Err(refuse(OAuthCode::InvalidTarget, "one credential an exchange: ask for each target/role by itself"))
            }
        };
        if let Some(key) = key {
            self.keep(&caller.task, key, &made, now);
        }
        made.map(|(answer, _)| Exchanged(answer))
    }

    fn verify_subject(&self, request: &ExchangeRequest, now: Timestamp) -> Result<VerifiedJwt, OAuthError> {
        let settings = &self.inner.settings;
        let (expect, key_use) = match request.subject.kind {
            SubjectType::Jwt => {
                (Expect::jwt_svid(settings.issuer.clone(), settings.trust_domain.clone()), KeyUse::JwtSvid)
            }
            SubjectType::AccessToken => {
                (Expect::task_token(settings.issuer.clone(), settings.issuer.clone()), KeyUse::Oauth)
            }
        };
        let keys = self.own_keys(key_use)?;
        let verified = verify_jwt(request.subject.token.expose(), &expect, &keys, now);
        // RFC 8693 section 2.2.2: a token that is not acceptable is an invalid_request.
        verified.map_err(|e| refuse(OAuthCode::InvalidRequest, format!("the subject_token is refused: {e}")))
    }

    /// The server's own keys of one use, parsed once for each change of what it publishes.
    fn own_keys(&self, key_use: KeyUse) -> Result<Arc<KeySet>, OAuthError> {
        let sequence = self.inner.ports.authorities.bundle().sequence;
        let kept = self.inner.own_keys.load();
        if let Some((_, keys)) = kept.get(&key_use).filter(|(at, _)| *at == sequence) {
            return Ok(keys.clone());
        }
        let keys = self.inner.ports.authorities.public_keys(key_use);
        let keys = KeySet::from_spkis(keys.iter().map(|k| (k.kid.as_str(), k.spki_der.as_slice())))
            .map_err(|_| refuse(OAuthCode::ServerError, "the server's own keys cannot be read"))?;
        let keys = Arc::new(keys);
        let mut next = HashMap::clone(&kept);
        next.insert(key_use, (sequence, keys.clone()));
        self.inner.own_keys.store(Arc::new(next));
        Ok(keys)
    }

    /// Which live task a verified subject token belongs to.
    fn subject_task(&self, request: &ExchangeRequest, subject: &VerifiedJwt) -> Option<TaskId> {
        match request.subject.kind {
            SubjectType::Jwt => {
                let id = subject.spiffe_id()?;
                let task = id.path().rsplit('/').next()?.parse().ok()?;
                self.read(|s| s.tasks.get(&task).filter(|t| t.spiffe_id() == id.to_string()).map(|t| t.id))
            }
            SubjectType::AccessToken => subject.claims().get("task")?.get("id")?.as_str()?.parse().ok(),
        }
    }

    async fn task_token(
        &self,
        caller: &ExchangeCaller,
        scope: &[RoleName],
        narrowed: bool,
        bound: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<TokenResponse, OAuthError> {
        let task = &caller.task;
        let decision = self.ask(task, None, Duration::from_secs(300), now);
        let ends = narrow_task_token(task, &decision, bound, now)?;
        let ancestors = self.ancestors(task);
        let ancestors: Vec<&Task> = ancestors.iter().map(|t| &**t).collect();
        let scope = scope.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let jti = self.inner.ports.entropy.uuid_v7(now).to_string();
        let issuer = &self.inner.settings.issuer;
        let mut template = task_token_template(&TaskTokenRequest {
            task,
            ancestors: &ancestors,
            issuer,
            audience: issuer,
            jti: &jti,
            cert_sha256: &caller.cert_sha256,
            scope: &scope,
            authorization_details: &[],
            now,
        })
        .map_err(|e| refuse(OAuthCode::InvalidRequest, e.to_string()))?;
        template.expires_at = template.expires_at.min(ends);
        let signed = self.inner.ports.minter.jwt(&template).await.map_err(|e| unavailable(e.into()))?;
        let record = Record::new(now, "token.issued")
            .workload(&task.workload)
            .user(task.user.clone())
            .task(task.id)
            .intent(&task.intent)
            .node(&task.node)
            .decision("permit", decision.policies)
            .credential("task_token", &jti)
            .detail(json!({ "audience": issuer, "scope": scope, "not_after": signed.expires_at }));
        let mut unit = Commit::of(record);
        for guard in self.path(task).map_err(unavailable)? {
            unit = unit.when(guard);
        }
        let _released = self.commit(unit).await.map_err(unavailable)?;
        Ok(TokenResponse {
            access_token: signed.token,
            issued_token_type: TokenType::ACCESS_TOKEN.as_str().into(),
            // RFC 8705 section 3: bound to the certificate, presented as a bearer token.
            token_type: "Bearer".into(),
            expires_in: signed.expires_at.since(now).as_secs(),
            scope: narrowed.then_some(scope),
            credential: None,
        })
    }

    fn ancestors(&self, task: &Task) -> Vec<Arc<Task>> {
        self.read(|s| {
            std::iter::successors(task.parent.and_then(|p| s.tasks.get(&p)), |t| s.tasks.get(&t.parent?))
                .take(usize::from(server_core::task::MAX_DEPTH))
                .cloned()
                .collect()
        })
    }

    /// Policy again, at exchange: it may have changed since the task started.
    fn ask(&self, task: &Task, role: Option<&RoleName>, ttl: Duration, now: Timestamp) -> Decision {
        self.decide(&Query {
            action: Action::Exchange,
            workload: task.workload.clone(),
            role: role.cloned(),
            intent: task.intent.clone(),
            ttl,
            node: task.node.clone(),
            uid: task.uid,
            selectors: task.selectors.clone(),
            launcher_isolated: false,
            parent: self.ancestors(task).first().map(|t| t.workload.clone()),
            depth: task.depth,
            now,
            trust_domain: self.inner.settings.trust_domain.to_string(),
            workload_environment: None,
            target_environment: role.and_then(|r| self.environment(r)),
        })
    }

    async fn credential(
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

    /// The kept answer of the same request; a key that was used for another request, or whose first request is still
    /// under way, is refused. When the answer is gone the old lease is revoked first: never two alive.
    async fn recall(
        &self,
        task: &Task,
        key: &str,
        print: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Exchanged>, OAuthError> {
        let stale = {
            let mut kept = self.inner.exchange.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= MAX_ANSWERS {
                kept.retain(|_, k| k.pending || k.until > now);
            }
            let of_task = kept.keys().filter(|(id, _)| *id == task.id).count();
            if of_task >= MAX_ANSWERS_OF_TASK {
                // A task that takes a new key for every call gives up what it was answered longest ago, not others'.
                let oldest =
                    kept.iter().filter(|((id, _), k)| *id == task.id && !k.pending).min_by_key(|(_, k)| k.until);
                if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                    kept.remove(&oldest);
                }
            }
            if kept.len() >= MAX_ANSWERS {
                return Err(refuse(
                    OAuthCode::TemporarilyUnavailable,
                    "too many answers are kept; try again in a minute",
                ));
            }
            let fresh = Kept { fingerprint: print, pending: true, lease: None, answer: None, until: now };
            match kept.insert((task.id, key.to_string()), fresh) {
                None => None,
                Some(found) if found.fingerprint != print => {
                    kept.insert((task.id, key.to_string()), found);
                    let why = "this Idempotency-Key was used for another request; take a new one";
                    return Err(refuse(OAuthCode::InvalidRequest, why));
                }
                Some(found) if found.pending => {
                    kept.insert((task.id, key.to_string()), found);
                    let why = "the first request with this Idempotency-Key is still under way; try again in a moment";
                    return Err(refuse(OAuthCode::TemporarilyUnavailable, why));
                }
                Some(found) if found.until > now && found.answer.is_some() => {
                    let answer = found.answer.clone();
                    kept.insert((task.id, key.to_string()), found);
                    let answer = answer.and_then(|json| serde_json::from_str(json.expose()).ok());
                    return answer
                        .map(|a| Some(Exchanged(a)))
                        .ok_or_else(|| refuse(OAuthCode::ServerError, "the kept answer cannot be read"));
                }
                Some(found) => found.lease,
            }
        };
        if let Some(lease) = stale
            && let Err(error) = self.lease_revoke(lease, None).await
        {
            self.forget(task, key);
            return Err(unavailable(error));
        }
        Ok(None)
    }

    fn forget(&self, task: &Task, key: &str) {
        let mut kept = self.inner.exchange.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&(task.id, key.to_string()));
    }

    fn keep(
        &self,
        task: &Task,
        key: String,
        made: &Result<(TokenResponse, Option<LeaseId>), OAuthError>,
        now: Timestamp,
    ) {
        let mut kept = self.inner.exchange.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = kept.get_mut(&(task.id, key.clone())) else { return };
        match made {
            Ok((answer, lease)) => {
                slot.pending = false;
                slot.lease = *lease;
                slot.answer = serde_json::to_string(answer).ok().map(Secret::new);
                slot.until = now.plus(ANSWER_TTL).min(task.ends_at);
            }
            // Nothing was released: the same key may try again.
            Err(_) => drop(kept.remove(&(task.id, key))),
        }
    }
}

struct Intended {
    lease: Lease,
    durable: server_core::ports::Durable,
    busy: Busy,
}

/// What a task token may buy: it is bound to the certificate it was made for, and to its own scope (invariant 6).
fn within_token(caller: &ExchangeCaller, request: &ExchangeRequest, token: &VerifiedJwt) -> Result<(), OAuthError> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let bound = token.claims().get("cnf").and_then(|c| c.get("x5t#S256")).and_then(serde_json::Value::as_str);
    if bound != Some(URL_SAFE_NO_PAD.encode(caller.cert_sha256).as_str()) {
        let why = "the subject_token is bound to another certificate; ask for a new one over this connection";
        return Err(refuse(OAuthCode::InvalidRequest, why));
    }
    let scope: Vec<&str> = token.text("scope").unwrap_or_default().split(' ').collect();
    let wanted: Vec<String> = match (&request.goal, &request.scope) {
        (Goal::Roles(roles), _) => roles.iter().map(ToString::to_string).collect(),
        (Goal::TaskToken, Some(roles)) => roles.iter().map(ToString::to_string).collect(),
        (Goal::TaskToken, None) => caller.task.grants.iter().map(|g| g.role.to_string()).collect(),
    };
    match wanted.iter().find(|w| !scope.contains(&w.as_str())) {
        None => Ok(()),
        Some(role) => Err(refuse(
            OAuthCode::InvalidScope,
            format!("the subject_token does not cover {role}; its scope only narrows"),
        )),
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
    })
}

fn refuse(code: OAuthCode, description: impl AsRef<str>) -> OAuthError {
    OAuthError::new(code, description)
}

fn unavailable(error: ServiceError) -> OAuthError {
    match error {
        ServiceError::TaskOver => refuse(OAuthCode::InvalidRequest, "the task is over; start a new one"),
        ServiceError::Denied { why, .. } => refuse(OAuthCode::AccessDenied, why),
        other => refuse(OAuthCode::TemporarilyUnavailable, other.to_string()),
    }
}
