//! FetchJWTSVID: one token for each identity the caller has, or for the one it names.
//!
//! The server signs. A workload's token is kept per (identity, audiences) until its half-life; a task's never, since
//! each is recorded for its own call, and none of an entry that wants a `jti` for each.

use super::x509::TASK_HINT;
use crate::{
    identities::JwtSvid,
    local::{Peer, attest},
    shared::Shared,
    tasks::{
        LiveTask,
        credentials::{task_id_of, task_jwt},
    },
    trouble::About,
    upstream::timed,
};
use agent_core::cache::{JwtKey, Lookup};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use proto_types::{Entry, Secret, Timestamp};
use proto_wire::{
    spire::api::server::svid::v1::NewJwtsvidRequest,
    workload::{Jwtsvid, JwtsvidRequest, JwtsvidResponse},
};
use std::{collections::HashSet, sync::Arc};
use tonic::Status;

const MAX_AUDIENCES: usize = 32;
const MAX_AUDIENCE: usize = 2048;
/// Tokens asked of the server at a time, for one call.
const AT_ONCE: usize = 8;

pub async fn fetch(shared: &Shared, peer: &Peer, request: JwtsvidRequest) -> Result<JwtsvidResponse, Status> {
    check(&request)?;
    if !shared.is_synced() {
        return Err(attest::not_ready(shared));
    }
    let selectors = attest::selectors(shared, peer).await?;
    let wanted = |id: &str| request.spiffe_id.is_empty() || request.spiffe_id == id;
    let task = attest::innermost(shared, peer)?.filter(|t| task_id_of(t).is_some_and(|id| wanted(&id.to_string())));
    let in_task = task.is_some();
    let mut hints = HashSet::new();
    let mut entries = shared.identities.matching(&selectors);
    entries.retain(|e| wanted(&e.spiffe_id.to_string()));
    // Of several entries with one hint the oldest stands, as in the X.509 answer.
    entries.retain(|e| e.hint.is_empty() || hints.insert(e.hint.clone()));
    if task.is_none() && entries.is_empty() {
        return Err(attest::no_identity());
    }
    let mut svids = Vec::with_capacity(entries.len() + 1);
    if let Some(task) = &task {
        svids.push(of_task(shared, task, &request.audience).await?);
    }
    let own: Vec<_> = entries.iter().map(|e| of_entry(shared, e, &request.audience, in_task)).collect();
    let own: Vec<Jwtsvid> = stream::iter(own).buffered(AT_ONCE).try_collect().await?;
    svids.extend(own);
    attest::recheck(peer)?;
    Ok(JwtsvidResponse { svids })
}

fn check(request: &JwtsvidRequest) -> Result<(), Status> {
    let audience = &request.audience;
    if audience.is_empty() || audience.iter().any(String::is_empty) {
        return Err(Status::invalid_argument("audience must be specified"));
    }
    if audience.len() > MAX_AUDIENCES || audience.iter().any(|a| a.len() > MAX_AUDIENCE) {
        let limits = format!("at most {MAX_AUDIENCES} audiences of at most {MAX_AUDIENCE} bytes");
        return Err(Status::invalid_argument(limits));
    }
    if !request.spiffe_id.is_empty() {
        let id = proto_types::id::parse_spiffe_id(&request.spiffe_id);
        id.map_err(|e| Status::invalid_argument(e.to_string()))?;
    }
    Ok(())
}

async fn of_task(shared: &Shared, task: &LiveTask, audience: &[String]) -> Result<Jwtsvid, Status> {
    let (token, _) = task_jwt(shared, task, audience.to_vec()).await?;
    let spiffe_id = task_id_of(task).map(|id| id.to_string()).unwrap_or_default();
    Ok(Jwtsvid { spiffe_id, svid: token.expose().clone(), hint: TASK_HINT.into() })
}

async fn of_entry(shared: &Shared, entry: &Entry, audience: &[String], in_task: bool) -> Result<Jwtsvid, Status> {
    let key = JwtKey::new(entry.spiffe_id.clone(), audience.to_vec());
    let held = if entry.jwt_svid_include_jti { Lookup::Missing } else { shared.identities.jwt(&key) };
    let jwt = match held {
        Lookup::Fresh(held) => held,
        Lookup::Aging(held) => match mint(shared, entry, key).await {
            Ok(new) => new,
            // Still valid: better than none while the server is away.
            Err(_) => held,
        },
        Lookup::Missing => mint(shared, entry, key).await?,
    };
    let hint = if in_task && entry.hint == TASK_HINT { String::new() } else { entry.hint.clone() };
    Ok(Jwtsvid { spiffe_id: entry.spiffe_id.to_string(), svid: jwt.token.expose().clone(), hint })
}

async fn mint(shared: &Shared, entry: &Entry, key: JwtKey) -> Result<Arc<JwtSvid>, Status> {
    let generation = *shared.generation.borrow();
    shared.takes_new()?;
    let message = NewJwtsvidRequest { entry_id: entry.id.as_str().into(), audience: key.audiences().to_vec() };
    let answer = shared.upstream.svids().new_jwtsvid(timed(message)).await.inspect_err(|status| {
        shared.note_refusal(status, generation);
    })?;
    let svid = answer.into_inner().svid.ok_or_else(|| Status::internal("the server's answer carries no JWT-SVID"))?;
    let now = shared.ports.clock.now();
    let issued_at = if svid.issued_at > 0 { Timestamp::from_secs(svid.issued_at) } else { now };
    let kid = kid_of(&svid.token);
    let expires_at = Timestamp::from_secs(svid.expires_at);
    let jwt = Arc::new(JwtSvid { token: Secret::new(svid.token), kid, issued_at, expires_at });
    if expires_at <= now {
        let clocks = shared.troubles.get(About::Clock).unwrap_or_else(|| "compare the clocks".into());
        return Err(Status::unavailable(format!("the server's JWT-SVID has expired already: {clocks}")));
    }
    if !entry.jwt_svid_include_jti {
        shared.identities.keep_jwt(key, &jwt);
    }
    Ok(jwt)
}

/// The `kid` of a token from the server, to drop it when its key leaves the bundle.
fn kid_of(token: &str) -> Option<String> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
    header.get("kid")?.as_str().map(String::from)
}
