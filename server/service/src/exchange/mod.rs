//! Token exchange in order: who calls, in which task, decided by policy, leased, created, handed.
//!
//! The lease row `intended` is durable before the target is touched; `handed` and its record are durable before the
//! credential leaves, in a commit that loses when the task has ended meanwhile. Then nobody has seen the secret and the
//! lease is revoked. The work goes on to its end when the caller hangs up.
//!
//! Whoever calls without a certificate needs every permit that applies to waive binding, and spends its assertion.

mod again;
mod answers;
mod caller;
mod credential;
mod subject;
mod tokens;

pub(crate) use answers::Answers;
pub use caller::{ExchangeCaller, TokenCaller};

use crate::{Service, ServiceError};
use caller::Proof;
use proto_jose::VerifiedJwt;
use proto_types::{Attempt, LeaseId, Record, RoleName, Task, Timestamp, hold::Stopped};
use serde_json::json;
use server_core::{
    exchange::{
        Admitted, ClientAuth, ExchangeRequest, Goal, JournalPlace, OAuthCode, OAuthError, Proven, SubjectType,
        TokenResponse, TokenType, fingerprint, first_attempt, narrow_task_token,
    },
    issue::{TaskTokenRequest, task_token_template},
    ports::{Action, Commit, Decision, Guard, Outcome, Query},
};
use std::{sync::Arc, time::Duration};
use subject::within_token;

/// How long a task token is asked for.
const TOKEN_TTL: Duration = Duration::from_secs(300);

/// The whole answer.
#[derive(Debug)]
pub struct Exchanged(pub TokenResponse);

impl Service {
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
        if let (ClientAuth::Assertion { .. }, Proof::Certificate(_)) = (&request.client, &caller.proof) {
            let why = "a client_assertion is not accepted beside a certificate; the task's own SVID authenticates";
            return Err(refuse(OAuthCode::InvalidRequest, why));
        }
        self.not_held(&Stopped::task(&caller.task)).map_err(unavailable)?;
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
        if let Proof::Assertion(claim) = &caller.proof {
            self.binding_is_waived(&admitted, now)?;
            self.spend(caller, claim, now).await?;
        }
        let print = fingerprint(request, &proven);
        if let Some(key) = &key
            && let Some(answer) = self.recall(&caller.task, key, print, now).await?
        {
            return Ok(answer);
        }
        let attempt = key.as_ref().map(|key| first_attempt(&caller.task, key, &print));
        let made = self.make(caller, request, &admitted, &subject, attempt, now).await;
        if let Some(key) = key {
            self.keep(&caller.task, key, &made, now);
        }
        made.map(|(answer, _)| Exchanged(answer))
    }

    /// Makes what was asked, and looks once more before it is released.
    async fn make(
        &self,
        caller: &ExchangeCaller,
        request: &ExchangeRequest,
        admitted: &Admitted<'_>,
        subject: &VerifiedJwt,
        attempt: Option<Attempt>,
        now: Timestamp,
    ) -> Result<(TokenResponse, Option<LeaseId>), OAuthError> {
        // A task token carries authority of its own: what it buys ends with it.
        let token = (request.subject.kind == SubjectType::AccessToken).then_some(subject);
        let bound = token.map(VerifiedJwt::expires_at);
        match &admitted.grants[..] {
            [] => self.task_token(caller, admitted, token, now).await.map(|a| (a, None)),
            [grant] => {
                let (answer, lease) = self.credential(&caller.task, grant, request, bound, attempt, now).await?;
                if let Err(error) = self.last_look(caller, admitted, subject) {
                    self.take_back(lease).await;
                    return Err(error);
                }
                Ok((answer, Some(lease)))
            }
            _ => {
                Err(refuse(OAuthCode::InvalidTarget, "one credential an exchange: ask for each target/role by itself"))
            }
        }
    }

    /// What the request stood on may have gone while a target was at work: a subject token that was revoked, a policy
    /// that waived binding. (That the task lives is a guard of the commits themselves.)
    fn last_look(
        &self,
        caller: &ExchangeCaller,
        admitted: &Admitted<'_>,
        subject: &VerifiedJwt,
    ) -> Result<(), OAuthError> {
        self.unrevoked(subject)?;
        match &caller.proof {
            Proof::Assertion(_) => self.binding_is_waived(admitted, self.now()),
            Proof::Certificate(_) => Ok(()),
        }
    }

    /// Nobody has seen the secret: the lease is ended.
    async fn take_back(&self, lease: LeaseId) {
        if let Err(error) = self.lease_revoke(lease, None).await {
            tracing::warn!(%lease, %error, "a credential that was not released could not be ended; it ends with its task");
        }
    }

    /// A caller that proved no key gets what every permit that applies gives to such a caller, and nothing else.
    fn binding_is_waived(&self, admitted: &Admitted<'_>, now: Timestamp) -> Result<(), OAuthError> {
        let (role, ttl) = match &admitted.grants[..] {
            [grant] => (Some(&grant.role), grant.max_ttl),
            _ => (None, TOKEN_TTL),
        };
        let decision = self.ask(admitted.task, role, ttl, now);
        if decision.outcome != Outcome::Permit {
            return Err(refuse(OAuthCode::AccessDenied, decision.why));
        }
        if decision.binding_waived {
            return Ok(());
        }
        let what = role.map_or_else(|| "a task token".into(), ToString::to_string);
        let why = format!(
            "policy gives {what} only to a caller that proves its key: call {} with the task's X.509-SVID, or have every \
             policy that permits it say @binding('none')",
            self.inner.settings.mtls_token_endpoint
        );
        Err(refuse(OAuthCode::UnauthorizedClient, why))
    }

    async fn task_token(
        &self,
        caller: &ExchangeCaller,
        admitted: &Admitted<'_>,
        subject: Option<&VerifiedJwt>,
        now: Timestamp,
    ) -> Result<TokenResponse, OAuthError> {
        let task = &caller.task;
        let decision = self.ask(task, None, TOKEN_TTL, now);
        let ends = narrow_task_token(task, &decision, subject.map(VerifiedJwt::expires_at), now)?;
        let ancestors = self.ancestors(task);
        let ancestors: Vec<&Task> = ancestors.iter().map(|t| &**t).collect();
        let scope = admitted.scope.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let jti = self.inner.ports.entropy.uuid_v7(now).to_string();
        let issuer = &self.inner.settings.issuer;
        let mut template = task_token_template(&TaskTokenRequest {
            task,
            ancestors: &ancestors,
            issuer,
            audience: issuer,
            jti: &jti,
            cert_sha256: match &caller.proof {
                Proof::Certificate(sha256) => Some(sha256),
                // Asked of this very decision: the one that waived binding before may be another's.
                Proof::Assertion(_) if decision.binding_waived => None,
                Proof::Assertion(_) => {
                    let why = "policy changed while this was being decided; ask again";
                    return self
                        .binding_is_waived(admitted, now)
                        .and(Err(refuse(OAuthCode::TemporarilyUnavailable, why)));
                }
            },
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
            .detail(json!({
                "audience": issuer, "scope": scope, "not_after": signed.expires_at,
                "bound": matches!(caller.proof, Proof::Certificate(_)),
            }));
        let mut unit = Commit::of(record);
        for guard in self.path(task).map_err(unavailable)? {
            unit = unit.when(guard);
        }
        if let Some(jti) = subject.and_then(|s| s.text("jti")) {
            unit = unit.when(Guard::TokenUnrevoked(jti.into()));
        }
        let released = self.commit(unit).await.map_err(|error| match error {
            ServiceError::Conflict(why) => refuse(OAuthCode::InvalidRequest, why),
            other => unavailable(other),
        })?;
        Ok(TokenResponse {
            access_token: signed.token,
            issued_token_type: TokenType::ACCESS_TOKEN.as_str().into(),
            // RFC 8705 section 3: bound to the certificate, presented as a bearer token.
            token_type: "Bearer".into(),
            expires_in: signed.expires_at.since(now).as_secs(),
            scope: admitted.narrowed.then_some(scope),
            credential: None,
            journal: JournalPlace::of(&released),
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
}

fn refuse(code: OAuthCode, description: impl AsRef<str>) -> OAuthError {
    OAuthError::new(code, description)
}

impl From<ServiceError> for OAuthError {
    fn from(error: ServiceError) -> Self {
        unavailable(error)
    }
}

fn unavailable(error: ServiceError) -> OAuthError {
    match error {
        ServiceError::TaskOver => refuse(OAuthCode::InvalidRequest, "the task is over; start a new one"),
        ServiceError::Denied { why, .. } => refuse(OAuthCode::AccessDenied, why),
        held @ ServiceError::Held { .. } => refuse(OAuthCode::AccessDenied, held.to_string()),
        other => refuse(OAuthCode::TemporarilyUnavailable, other.to_string()),
    }
}
