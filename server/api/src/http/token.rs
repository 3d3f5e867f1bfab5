//! `POST /oauth2/token`: RFC 8693. Reads the request and its caller; everything else is the service's.

use crate::{Api, Peer};
use axum::{
    Extension, Json, Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::post,
};
use server_core::exchange::{
    ExchangeForm, ExchangeRequest, MAX_BODY, OAuthCode, OAuthError, Surroundings, TokenResponse, idempotency_key,
    no_query,
};

pub(crate) fn router(api: Api) -> Router {
    Router::new().route("/oauth2/token", post(token)).with_state(api)
}

async fn token(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match exchange(&api, &peer, uri.query(), &headers, body).await {
        Ok(answer) => {
            api.metrics.exchanged("ok");
            if let Some(hook) = &api.before_reply {
                hook();
            }
            no_store(StatusCode::OK, Json(answer))
        }
        Err(error) => {
            api.metrics.exchanged(error.code().as_str());
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            no_store(status, Json(error))
        }
    }
}

async fn exchange(
    api: &Api,
    peer: &Peer,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<TokenResponse, OAuthError> {
    no_query(query)?;
    let body = to_bytes(body, MAX_BODY)
        .await
        .map_err(|_| OAuthError::new(OAuthCode::InvalidRequest, format!("a request has at most {MAX_BODY} bytes")))?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let form = ExchangeForm::parse(content_type, &body)?;
    let settings = api.service.settings();
    let now = api.service.now();
    let request = ExchangeRequest::read(
        &form,
        &Surroundings {
            issuer: &settings.issuer,
            authorization: headers.contains_key(header::AUTHORIZATION),
            certificate: peer.cert(now).is_some(),
            resource: &|_| None,
        },
    )
    .inspect_err(|_| {
        if peer.cert(now).is_none() {
            api.metrics.unauthenticated();
        }
    })?;
    let key = idempotency_key(headers.get_all("idempotency-key").iter().map(axum::http::HeaderValue::as_bytes))?;
    let Some(cert) = peer.cert(now) else {
        api.metrics.unauthenticated();
        let why = format!("authenticate with the task's own X509-SVID over mTLS at {}", settings.mtls_token_endpoint);
        return Err(OAuthError::new(OAuthCode::InvalidClient, why));
    };
    let caller = api.service.exchange_caller(&cert.id, &cert.serial, cert.sha256)?;
    Ok(api.service.exchange(caller, request, key).await?.0)
}

/// RFC 6749 section 5.1: an answer of the token endpoint is never cached.
fn no_store(status: StatusCode, body: impl IntoResponse) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], body).into_response()
}
