//! Tokens after they were issued: what is said of one (RFC 7662), and ending one before its time (RFC 7009).
//!
//! Introspection reads memory, when that is current: a task that is over and a token that was revoked are dead at once, at
//! whichever server they ended. A revocation is durable before it is acknowledged.

use super::{TokenCaller, caller::is_alive, refuse, unavailable};
use crate::{Service, ServiceError};
use proto_jose::{Expect, VerifiedJwt, verify_jwt};
use proto_types::{KeyUse, Position, Record, Secret, Task, Timestamp, id::is_task_path};
use serde_json::{Value, json};
use server_core::{
    exchange::{Asker, Introspection, LiveToken, OAuthCode, OAuthError, TokenKind},
    ports::{Commit, Guard, Write},
};
use std::sync::Arc;

/// A token of this server that was verified and found alive.
struct Found {
    kind: TokenKind,
    token: VerifiedJwt,
    task: Option<Arc<Task>>,
}

impl Found {
    fn live(&self) -> LiveToken<'_> {
        LiveToken { kind: self.kind, claims: self.token.claims(), task: self.task.as_deref() }
    }
}

impl Service {
    /// What this caller hears of this token.
    pub async fn introspect(&self, caller: &TokenCaller, token: &Secret<String>) -> Result<Introspection, OAuthError> {
        self.confirm().await?;
        let found = self.find(token, self.now())?;
        Ok(found.map_or(Introspection::Inactive, |f| f.live().told_to(caller.asker())))
    }

    /// Ends this token, if it is the caller's own. What is not, or is dead already, is left as it is without a word:
    /// the answer must not tell what tokens there are.
    pub async fn revoke_token(&self, caller: &TokenCaller, token: &Secret<String>) -> Result<(), OAuthError> {
        self.confirm().await?;
        let now = self.now();
        let Some(found) = self.find(token, now)?.filter(|f| f.live().is_owned_by(caller.asker())) else {
            return Ok(());
        };
        let (TokenKind::TaskToken, Some(task)) = (found.kind, &found.task) else {
            let why = "whoever has the bundle accepts a JWT-SVID until it expires, within minutes; it cannot be called \
                       back. End its task instead (errand task revoke)";
            return Err(refuse(OAuthCode::UnsupportedTokenType, why));
        };
        let jti = found.token.text("jti").unwrap_or_default();
        let operator = match caller.asker() {
            Asker::Operator(name) => Some(name.clone()),
            Asker::Task { .. } | Asker::Workload(_) => None,
        };
        let record = Record::new(now, "token.revoked")
            .workload(&task.workload)
            .user(task.user.clone())
            .task(task.id)
            .node(&task.node)
            .credential("task_token", jti)
            .operator(operator)
            .detail(json!({ "not_after": found.token.expires_at() }));
        let unit = Commit::of(record)
            .when(Guard::TokenUnrevoked(jti.into()))
            .put(Write::RevokedToken { jti: jti.into(), expires_at: found.token.expires_at() });
        match self.commit_and_follow(unit).await {
            Ok(_) => Ok(()),
            // Somebody was quicker. It is dead once this server has followed that far.
            Err(ServiceError::Conflict(_)) => {
                let size = *self.inner.ports.feed.size().borrow();
                self.follow_to(Position(size.saturating_sub(1))).await;
                Ok(())
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    /// The token, when it was made here and lives. Each kind is verified with its own keys and by its own `typ`, so that
    /// none is taken for another.
    fn find(&self, token: &Secret<String>, now: Timestamp) -> Result<Option<Found>, OAuthError> {
        let settings = &self.inner.settings;
        let kinds = [
            (TokenKind::TaskToken, KeyUse::Oauth, Expect::task_token(settings.issuer.clone(), "")),
            (TokenKind::JwtSvid, KeyUse::JwtSvid, Expect::jwt_svid("", settings.trust_domain.clone())),
        ];
        for (kind, key_use, expect) in kinds {
            let keys = self.own_keys(key_use)?;
            if let Ok(verified) = verify_jwt(token.expose(), &expect.any_audience(), &keys, now) {
                return Ok(self.alive(kind, verified, now));
            }
        }
        Ok(None)
    }

    fn alive(&self, kind: TokenKind, token: VerifiedJwt, now: Timestamp) -> Option<Found> {
        let task = match kind {
            TokenKind::TaskToken => {
                let id = token.claims().get("task")?.get("id")?.as_str()?.parse().ok()?;
                Some(self.read(|s| s.tasks.get(&id).cloned()).filter(|t| is_alive(t, now))?)
            }
            TokenKind::JwtSvid => match token.spiffe_id()? {
                id if is_task_path(id.path()) => Some(self.live_task(id)?),
                id if self.read(|s| s.entries.is_registered(id)) => None,
                _ => return None,
            },
        };
        // A task whose parent is over is over, although its own end may still be on its way.
        if task.as_ref().is_some_and(|t| self.path(t).is_err()) || self.is_revoked(&token) {
            return None;
        }
        Some(Found { kind, token, task })
    }

    /// Whether a verified token was revoked.
    pub(super) fn is_revoked(&self, token: &VerifiedJwt) -> bool {
        let jti = token.claims().get("jti").and_then(Value::as_str);
        jti.is_some_and(|jti| self.read(|s| s.revoked_tokens.contains(jti)))
    }
}
