//! What the endpoints below `/oauth2/` have in common: how a form is read, how an answer leaves, and what becomes of
//! somebody who does not authenticate. Decides nothing about tokens.

use crate::{Api, Peer};
use axum::{
    Json,
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use server_core::exchange::{ExchangeForm, MAX_BODY, OAuthCode, OAuthError, no_query};

/// Bounded before it is parsed; nothing of it stands in the URL, where logs would keep it.
pub(super) async fn form(uri: &Uri, headers: &HeaderMap, body: Body) -> Result<ExchangeForm, OAuthError> {
    no_query(uri.query())?;
    let body = to_bytes(body, MAX_BODY).await.map_err(|_| {
        let why = format!("a request has at most {MAX_BODY} bytes, and is there within 30 seconds");
        OAuthError::new(OAuthCode::InvalidRequest, why)
    })?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ExchangeForm::parse(content_type, &body)
}

/// Counts who could not be authenticated. Beyond the rate of an address they hear to wait.
pub(super) fn judged(api: &Api, peer: &Peer, error: OAuthError) -> OAuthError {
    if peer.cert(api.service.now()).is_none() && !matches!(peer, Peer::Local { .. }) {
        api.metrics.unauthenticated();
    }
    if error.code() == OAuthCode::InvalidClient && !api.limits.may_fail_to_authenticate(peer.ip()) {
        let why = "too many failed authentications from this address; wait as Retry-After says, then fetch a new SVID";
        return OAuthError::new(OAuthCode::TooManyAttempts, why);
    }
    error
}

/// RFC 6749 section 5.1, RFC 7662 section 2.2: an answer about tokens is never cached.
pub(super) fn answer(api: &Api, outcome: Result<impl Serialize, OAuthError>) -> Response {
    let mut response = match outcome {
        Ok(body) => (StatusCode::OK, Json(body)).into_response(),
        Err(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let mut response = (status, Json(&error)).into_response();
            if matches!(error.code(), OAuthCode::TooManyAttempts | OAuthCode::TemporarilyUnavailable) {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(pause(api)));
            }
            response
        }
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// Seconds, different for everybody: who was turned away together does not come back together.
fn pause(api: &Api) -> u16 {
    let mut byte = [0];
    api.service.ports().entropy.fill(&mut byte);
    1 + u16::from(byte[0] % 5)
}
