//! Templates of JWT-SVIDs (JWT-SVID section 3): `sub` and `aud`, and `iss` where an operator turned one on.

use super::{TASK_TTL, TemplateError, Ttls, end, seconds};
use crate::ports::JwtTemplate;
use proto_types::{
    KeyUse, SpiffeId, Task, Timestamp,
    id::{excerpt, is_task_path},
};
use serde_json::{Map, Value};
use std::time::Duration;

const MAX_AUDIENCES: usize = 16;
const MAX_AUDIENCE: usize = 512;

/// What a JWT-SVID is asked for.
#[derive(Clone, Copy)]
pub struct JwtSvidRequest<'a> {
    pub audiences: &'a [String],
    pub issuer: Option<&'a str>,
    pub jti: &'a str,
    /// Whether a target registered this audience: then nobody gets a JWT-SVID for it, or any workload could walk
    /// around task, policy and lease.
    pub reserved: &'a (dyn Fn(&str) -> bool + Sync),
    pub now: Timestamp,
}

/// The JWT-SVID of an identity that is not a task's. `ttl` in seconds, 0 takes the default.
pub fn jwt_svid_template(
    id: &SpiffeId,
    request: &JwtSvidRequest<'_>,
    ttl: u32,
    ttls: &Ttls,
) -> Result<JwtTemplate, TemplateError> {
    if is_task_path(id.path()) {
        return Err(TemplateError::TaskPath(excerpt(&id.to_string())));
    }
    if id.path().is_empty() {
        return Err(TemplateError::NoPath(excerpt(&id.to_string())));
    }
    let life = if ttl == 0 { ttls.jwt_svid_ttl } else { Duration::from_secs(ttl.into()) };
    template(id.to_string(), request, &[request.now.plus(life)])
}

/// The JWT-SVID of a task: at most five minutes and never past the task.
pub fn task_jwt_svid_template(task: &Task, request: &JwtSvidRequest<'_>) -> Result<JwtTemplate, TemplateError> {
    if !task.is_live() {
        return Err(TemplateError::NotLive);
    }
    template(task.spiffe_id(), request, &[request.now.plus(TASK_TTL), task.ends_at])
}

fn template(sub: String, request: &JwtSvidRequest<'_>, ends: &[Timestamp]) -> Result<JwtTemplate, TemplateError> {
    let audiences = request.audiences;
    let well_formed = (1..=MAX_AUDIENCES).contains(&audiences.len())
        && audiences.iter().all(|a| (1..=MAX_AUDIENCE).contains(&a.len()) && !a.contains(char::is_control));
    if !well_formed {
        return Err(TemplateError::Audience);
    }
    if let Some(taken) = audiences.iter().find(|a| (request.reserved)(a)) {
        return Err(TemplateError::TargetAudience(excerpt(taken)));
    }
    let mut claims = Map::new();
    claims.insert("sub".into(), sub.into());
    claims.insert("aud".into(), audiences.iter().map(|a| Value::from(a.as_str())).collect());
    if let Some(issuer) = request.issuer {
        claims.insert("iss".into(), issuer.into());
    }
    Ok(JwtTemplate {
        key_use: KeyUse::JwtSvid,
        typ: "JWT",
        claims,
        issued_at: seconds(request.now),
        not_before: None,
        expires_at: end(request.now, ends)?,
        jti: request.jti.to_string(),
    })
}
