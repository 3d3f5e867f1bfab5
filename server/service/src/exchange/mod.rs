//! Token exchange in order: who calls, in which task, decided by policy, leased, created, handed.
//!
//! The lease row `intended` is durable before the target is touched; `handed` and its record are durable before the
//! credential leaves, in a commit that loses when the task has ended meanwhile. Then nobody has seen the secret and the
//! lease is revoked. The work goes on to its end when the caller hangs up.

mod answers;
mod credential;
mod subject;

pub(crate) use answers::Answers;

use crate::{Service, ServiceError};
use proto_types::{Record, RoleName, SpiffeId, Task, Timestamp, hold::Stopped};
use serde_json::json;
use server_core::{
    exchange::{
        ClientAuth, ExchangeRequest, Goal, OAuthCode, OAuthError, Proven, SubjectType, TokenResponse, TokenType,
        fingerprint, narrow_task_token,
    },
    issue::{TaskTokenRequest, task_token_template},
    ports::{Action, Commit, Decision, Query},
};
use std::{sync::Arc, time::Duration};
use subject::within_token;

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
}

fn refuse(code: OAuthCode, description: impl AsRef<str>) -> OAuthError {
    OAuthError::new(code, description)
}

fn unavailable(error: ServiceError) -> OAuthError {
    match error {
        ServiceError::TaskOver => refuse(OAuthCode::InvalidRequest, "the task is over; start a new one"),
        ServiceError::Denied { why, .. } => refuse(OAuthCode::AccessDenied, why),
        held @ ServiceError::Held { .. } => refuse(OAuthCode::AccessDenied, held.to_string()),
        other => refuse(OAuthCode::TemporarilyUnavailable, other.to_string()),
    }
}
