//! The task token (RFC 9068 `at+jwt`, with `act` of RFC 8693 section 4.1 and `cnf` of RFC 8705 section 3.1): what one
//! task may do here, bound to its caller's certificate unless policy waives that.

use super::{TASK_TTL, TemplateError, end, seconds};
use crate::ports::JwtTemplate;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proto_types::{KeyUse, Task, Timestamp};
use serde_json::{Map, Value, json};

/// What a task token is made of besides its task.
#[derive(Clone, Copy, Debug)]
pub struct TaskTokenRequest<'a> {
    pub task: &'a Task,
    /// The parent, its parent, and so on; empty for a root task.
    pub ancestors: &'a [&'a Task],
    pub issuer: &'a str,
    /// Exactly one.
    pub audience: &'a str,
    pub jti: &'a str,
    /// SHA-256 of the caller's certificate, DER. `None` only where policy waives binding: then whoever has it bears it.
    pub cert_sha256: Option<&'a [u8; 32]>,
    /// Roles granted, space separated (`orders-db/readonly`); empty leaves the claim out.
    pub scope: &'a str,
    /// What was granted (RFC 9396), an array; empty leaves the claim out.
    pub authorization_details: &'a [Value],
    pub now: Timestamp,
}

/// At most five minutes, never past the task or any task above it.
pub fn task_token_template(request: &TaskTokenRequest<'_>) -> Result<JwtTemplate, TemplateError> {
    let (task, now) = (request.task, request.now);
    if !task.is_live() || request.ancestors.iter().any(|a| !a.is_live()) {
        return Err(TemplateError::NotLive);
    }
    if request.audience.is_empty() {
        return Err(TemplateError::Audience);
    }
    let mut ends = vec![now.plus(TASK_TTL), task.ends_at];
    ends.extend(request.ancestors.iter().map(|a| a.ends_at));
    Ok(JwtTemplate {
        key_use: KeyUse::Oauth,
        typ: "at+jwt",
        claims: claims(request),
        issued_at: seconds(now),
        not_before: Some(seconds(now)),
        expires_at: end(now, &ends)?,
        jti: request.jti.to_string(),
    })
}

fn claims(request: &TaskTokenRequest<'_>) -> Map<String, Value> {
    let task = request.task;
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_string(), value);
    put("iss", request.issuer.into());
    // The party acted for; the actor stands in `act`.
    put("sub", task.user.clone().unwrap_or_else(|| task.workload.to_string()).into());
    put("aud", request.audience.into());
    put("client_id", task.workload.to_string().into());
    put("act", actors(task, request.ancestors));
    put("txn", task.root.to_string().into());
    put(
        "task",
        json!({
            "id": task.id, "parent": task.parent, "root": task.root, "depth": task.depth,
            "exp": task.ends_at.as_secs(),
        }),
    );
    put("intent_hash", b64(digest(task.intent.as_bytes()).as_ref()));
    if let Some(cert) = request.cert_sha256 {
        put("cnf", json!({ "x5t#S256": b64(cert) }));
    }
    if !request.scope.is_empty() {
        put("scope", request.scope.into());
    }
    if !request.authorization_details.is_empty() {
        put("authorization_details", request.authorization_details.to_vec().into());
    }
    claims
}

/// The task itself outermost: only that one authorises; those above it are history (RFC 8693 section 4.1).
fn actors(task: &Task, ancestors: &[&Task]) -> Value {
    let innermost = ancestors.iter().rev().fold(None, |inner: Option<Value>, above| Some(actor(above, inner)));
    actor(task, innermost)
}

fn actor(task: &Task, inner: Option<Value>) -> Value {
    match inner {
        None => json!({ "sub": task.spiffe_id() }),
        Some(inner) => json!({ "sub": task.spiffe_id(), "act": inner }),
    }
}

fn digest(bytes: &[u8]) -> aws_lc_rs::digest::Digest {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)
}

fn b64(bytes: &[u8]) -> Value {
    URL_SAFE_NO_PAD.encode(bytes).into()
}
