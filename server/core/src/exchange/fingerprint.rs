//! What makes two requests the same one: for `Idempotency-Key`.

use super::{
    admit::Proven,
    error::{OAuthError, invalid_request},
    request::{ExchangeRequest, Goal},
};
use crate::ports::Claim;
use aws_lc_rs::digest;
use proto_types::{Attempt, Task};
use serde_json::json;

const DOMAIN: &[u8] = b"errand-exchange-v1\0";
const KEY_DOMAIN: &[u8] = b"errand-idempotency-key-v1\0";
const REQUEST_DOMAIN: &[u8] = b"errand-idempotent-request-v1\0";
const MAX_KEY: usize = 128;

/// Reads the `Idempotency-Key` headers of a request: none, or one of 1 to 128 visible ASCII characters.
/// The key is scoped to client and task by whoever remembers it.
pub fn idempotency_key<'a>(mut headers: impl Iterator<Item = &'a [u8]>) -> Result<Option<String>, OAuthError> {
    let Some(first) = headers.next() else { return Ok(None) };
    if headers.next().is_some() {
        return Err(bad_key());
    }
    let visible = (1..=MAX_KEY).contains(&first.len()) && first.iter().all(u8::is_ascii_graphic);
    visible.then(|| first.iter().map(|b| char::from(*b)).collect()).map(Some).ok_or_else(bad_key)
}

fn bad_key() -> OAuthError {
    invalid_request("Idempotency-Key is one header of 1 to 128 visible ASCII characters")
}

/// SHA-256 of the canonical request (RFC 8785), its tokens replaced by the identities they proved: a retry with a
/// fresh token of the same task is the same request.
pub fn fingerprint(request: &ExchangeRequest, proven: &Proven) -> [u8; 32] {
    let roles = match &request.goal {
        Goal::TaskToken => None,
        Goal::Roles(roles) => Some(roles),
    };
    let whole = json!({
        "client": proven.client.to_string(),
        "client_task": proven.client_task,
        "subject_task": proven.subject_task,
        "requested": request.requested.map(|t| t.as_str()),
        "roles": roles,
        "scope": request.scope,
        "details": request.details.objects(),
    });
    // Strict parsing let in neither numbers beyond 2^53 nor fractions that have no exact form.
    let canonical =
        serde_json_canonicalizer::to_vec(&whole).expect("strings, lists and I-JSON numbers have a canonical form");
    sha256(&[DOMAIN, &canonical])
}

/// What a lease says of the request that it answers first: [`fingerprint`] and key as digests over the one that the client
/// keeps to itself.
pub fn first_attempt(task: &Task, key: &str, fingerprint: &[u8; 32]) -> Attempt {
    let short = |parts: &[&[u8]]| hex::encode(&sha256(parts)[..16]).into();
    Attempt {
        key: short(&[KEY_DOMAIN, task.id.to_string().as_bytes(), key.as_bytes()]),
        request: short(&[REQUEST_DOMAIN, fingerprint, key.as_bytes()]),
        number: 0,
    }
}

/// What only one server can take: the right to answer so.
pub fn claim_of(attempt: &Attempt, task: &Task) -> Claim {
    let key = format!("{}/{}", attempt.key, attempt.number);
    Claim { kind: "answer", key: key.into(), expires_at: task.ends_at }
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut ctx = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| ctx.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(ctx.finish().as_ref());
    out
}
