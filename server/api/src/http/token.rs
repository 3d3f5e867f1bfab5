//! `POST /oauth2/token`: RFC 8693. Reads the request and its caller; everything else is the service's.

use super::oauth;
use crate::{Api, Peer};
use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Uri, header},
    response::Response,
    routing::post,
};
use server_core::exchange::{
    ClientAuth, ExchangeRequest, OAuthCode, OAuthError, Surroundings, TokenResponse, idempotency_key,
};
use server_service::ExchangeCaller;

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
    let outcome = exchange(&api, &peer, &uri, &headers, body).await;
    api.metrics.exchanged(outcome.as_ref().map_or_else(|e| e.code().as_str(), |_| "ok"));
    if let (Ok(_), Some(hook)) = (&outcome, &api.before_reply) {
        hook();
    }
    oauth::answer(&api, outcome)
}

async fn exchange(
    api: &Api,
    peer: &Peer,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<TokenResponse, OAuthError> {
    let judged = |error| oauth::judged(api, peer, error);
    let form = oauth::form(uri, headers, body).await.map_err(judged)?;
    let request = ExchangeRequest::read(
        &form,
        &Surroundings {
            issuer: &api.service.settings().issuer,
            authorization: headers.contains_key(header::AUTHORIZATION),
            certificate: peer.cert(api.service.now()).is_some(),
            resource: &|_| None,
        },
    )
    .map_err(judged)?;
    let key = idempotency_key(headers.get_all("idempotency-key").iter().map(HeaderValue::as_bytes)).map_err(judged)?;
    let caller = who(api, peer, &request).await.map_err(judged)?;
    Ok(api.service.exchange(caller, request, key).await.map_err(judged)?.0)
}

/// By the certificate of the connection; without one, by an assertion, which policy must then find enough.
async fn who(api: &Api, peer: &Peer, request: &ExchangeRequest) -> Result<ExchangeCaller, OAuthError> {
    match (peer.cert(api.service.now()), &request.client) {
        (Some(cert), _) => api.service.exchange_caller(&cert.id, &cert.serial, cert.sha256).await,
        (None, ClientAuth::Assertion { jwt, .. }) => api.service.asserted_caller(jwt).await,
        (None, ClientAuth::Certificate) => {
            let at = &api.service.settings().mtls_token_endpoint;
            let why = format!("authenticate with the task's own X509-SVID over mTLS at {at}");
            Err(OAuthError::new(OAuthCode::InvalidClient, why))
        }
    }
}
