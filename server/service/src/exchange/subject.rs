//! The subject token: verified with the server's own keys, and what it may buy. Only verified bytes are read.

use super::{ExchangeCaller, caller::Proof, refuse};
use crate::Service;
use proto_jose::{Expect, KeySet, VerifiedJwt, verify_jwt};
use proto_types::{KeyUse, TaskId, Timestamp};
use server_core::exchange::{ExchangeRequest, Goal, OAuthCode, OAuthError, SubjectType};
use std::{collections::HashMap, sync::Arc};

impl Service {
    pub(super) fn verify_subject(&self, request: &ExchangeRequest, now: Timestamp) -> Result<VerifiedJwt, OAuthError> {
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
        let verified =
            verified.map_err(|e| refuse(OAuthCode::InvalidRequest, format!("the subject_token is refused: {e}")))?;
        self.unrevoked(&verified)?;
        Ok(verified)
    }

    pub(super) fn unrevoked(&self, subject: &VerifiedJwt) -> Result<(), OAuthError> {
        if self.is_revoked(subject) {
            return Err(refuse(OAuthCode::InvalidRequest, "the subject_token was revoked; ask for a new one"));
        }
        Ok(())
    }

    /// The server's own keys of one use, parsed once for each change of what it publishes.
    pub(super) fn own_keys(&self, key_use: KeyUse) -> Result<Arc<KeySet>, OAuthError> {
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
    pub(super) fn subject_task(&self, request: &ExchangeRequest, subject: &VerifiedJwt) -> Option<TaskId> {
        match request.subject.kind {
            SubjectType::Jwt => self.live_task(subject.spiffe_id()?).map(|t| t.id),
            SubjectType::AccessToken => subject.claims().get("task")?.get("id")?.as_str()?.parse().ok(),
        }
    }
}

/// What a task token may buy: it is bound to the certificate it was made for, or to none where its caller has none
/// either, and to its own scope (invariant 6).
pub(super) fn within_token(
    caller: &ExchangeCaller,
    request: &ExchangeRequest,
    token: &VerifiedJwt,
) -> Result<(), OAuthError> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let right = match (&caller.proof, token.claims().get("cnf")) {
        (Proof::Certificate(sha256), Some(cnf)) => {
            cnf.get("x5t#S256").and_then(serde_json::Value::as_str) == Some(URL_SAFE_NO_PAD.encode(sha256).as_str())
        }
        (Proof::Assertion(_), None) => true,
        (Proof::Certificate(_), None) | (Proof::Assertion(_), Some(_)) => false,
    };
    if !right {
        let why = "the subject_token is bound to another certificate or to none; ask for a new one as you call now";
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
