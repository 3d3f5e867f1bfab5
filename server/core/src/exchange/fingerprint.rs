//! What makes two requests the same one: for `Idempotency-Key`.

use super::{
    admit::Proven,
    error::{OAuthError, invalid_request},
    request::{ExchangeRequest, Goal},
};
use aws_lc_rs::digest;
use serde_json::json;

const DOMAIN: &[u8] = b"errand-exchange-v1\0";
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
    let mut ctx = digest::Context::new(&digest::SHA256);
    ctx.update(DOMAIN);
    ctx.update(&canonical);
    let mut out = [0; 32];
    out.copy_from_slice(ctx.finish().as_ref());
    out
}
